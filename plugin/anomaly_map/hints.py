"""Hints: places that an anomaly map marks, put into the question that a model is asked.

One sentence, the same in data, in `adcopilot inspect` and in evaluation. Its boxes stand in the notation of answers,
so that whatever maps boxes between the picture's pixels and a model's maps these too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..boxes import map_text_boxes
from ..errors import UserError
from ..jsonl import content_key
from ..records import IMAGE_PLACEHOLDER

if TYPE_CHECKING:  # it needs torch
    from .comparing import AnomalyMap

__all__ = ["HINT", "MOST_BOXES", "NO_HINT", "hint", "hint_of", "hinted_record", "with_hint"]

HINT = "A comparison of the images marks these places in the last image, which may or may not be defects: {boxes}"
#: Where the map finds nothing.
NO_HINT = "A comparison of the images marks no place in the last image."
#: The largest boxes, so many: more are noise, and long.
MOST_BOXES = 8


def hint(boxes: Sequence[Mapping[str, Any]], *, size: tuple[int, int], space: tuple[int, int]) -> str:
    """The sentence.

    Args:
        boxes: of a map, `bbox_2d` in pixels of the query.
        size: (width, height) of the query in pixels.
        space: the same as the model counts them: what it sees, or (1000, 1000); `size` in data, mapped later.
    """
    places = [box["bbox_2d"] for box in boxes]
    # within the first pixel they would be read as shares of the sides
    places = [place for place in places if max(place) > 1]
    largest = sorted(places, key=lambda place: (place[0] - place[2]) * (place[3] - place[1]))[:MOST_BOXES]
    if not largest:
        return NO_HINT
    kept = [{"bbox_2d": place} for place in places if place in largest]
    return map_text_boxes(HINT.format(boxes=json.dumps(kept)), size, space)


def hint_of(found: AnomalyMap, *, threshold: float | None, space: tuple[int, int]) -> str:
    """The sentence of a map: no place where its score is below the threshold; without one, what differs most."""
    boxes = [{"bbox_2d": box} for box in found.places(threshold)]
    return hint(boxes, size=found.size, space=space)


def with_hint(question: str, sentence: str) -> str:
    """The question, the hint before it: what is asked, and how to answer, stays last."""
    return f"{sentence}\n{question}"


def hinted_record(record: Mapping[str, Any], sentence: str) -> dict[str, Any]:
    """A record of training data (`adcopilot.records`) with a hint before its first question, behind its images.

    Args:
        record: all of its images stand at the beginning of its first turn, the query last.
        sentence: of `hint_of`, in pixels of the query: training maps the boxes of a question as those of an answer.

    Raises:
        UserError: its images stand elsewhere.

    Returns:
        A new record, whose `key`, where there is one, is another: it is another question.
    """
    first, *others = record["messages"]
    before, mark, question = first["content"].rpartition(IMAGE_PLACEHOLDER)
    if not mark or any(IMAGE_PLACEHOLDER in message["content"] for message in others):
        raise UserError(f"record {record.get('key', '(without key)')}: has images after its first turn, where no hint "
                        "belongs; leave it as it is")  # fmt: skip
    messages = [{**first, "content": before + mark + with_hint(question, sentence)}, *others]
    key = {"key": content_key(record["key"], sentence)} if "key" in record else {}
    return {**record, **key, "messages": messages}
