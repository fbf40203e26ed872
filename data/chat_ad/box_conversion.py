"""Boxes of training text in other notations, made `"bbox_2d": [x1, y1, x2, y2]` in pixels of the original image; what
these are called stands in `adcopilot.boxes.named`."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..boxes import SHARE_LIMIT, Size, scale_box
from ..boxes.named import NOTATIONS, Notation
from ..boxes.notations import Expression, scan_boxes
from ..errors import UserError, did_you_mean, shortened

__all__ = ["Evenness", "convert_record", "notations_of"]


def notations_of(names: str) -> tuple[Notation, ...]:
    """The notations that `--boxes` names, with commas between them.

    Raises:
        UserError: there is no such notation, or two say different things about the same boxes.
    """
    found: dict[str, Notation] = {}
    for name in filter(None, (part.strip().lower() for part in names.split(","))):
        if name not in NOTATIONS:
            hint = did_you_mean(name, NOTATIONS)
            raise UserError(f"--boxes {name}: expected one of {', '.join(NOTATIONS)}{hint}")
        for other, notation in found.items():
            if other != name and set(notation.syntaxes) & set(NOTATIONS[name].syntaxes):
                raise UserError(f"--boxes {names}: {other} and {name} are about the same boxes; name one")
        found[name] = NOTATIONS[name]
    if not found:
        raise UserError(f"--boxes {names!r}: expected one of {', '.join(NOTATIONS)}")
    return tuple(found.values())


def convert_record(
    record: dict[str, Any], sizes: Sequence[Size], notations: Iterable[Notation], *, name: str
) -> tuple[dict[str, Any], int]:
    """A Chat-AD record with its boxes converted: in its messages, and in what GRPO reads, `answer` and `boxes`.

    Args:
        record: of the form that `records.check_form` passes.
        sizes: (width, height) of its images in pixels, upright; a box belongs to the last `<image>` before it, and
            what GRPO reads to the last image.
        notations: what its boxes are; those of other syntaxes stay as they are.
        name: of the record, for messages.

    Returns:
        The record, all else in it kept, and the number of boxes of its messages that were rewritten.

    Raises:
        UserError: a box does not fit its notation, or stands before any image.
    """
    chosen = {syntax: notation for notation in notations for syntax in notation.syntaxes}
    texts, count = _converted([message["content"] for message in record["messages"]], sizes, chosen, name, -1)
    messages = [{**message, "content": text} for message, text in zip(record["messages"], texts, strict=True)]
    new = {**record, "messages": messages}
    if sizes and isinstance(record.get("answer"), str):
        [new["answer"]], _ = _converted([record["answer"]], sizes, chosen, name, len(sizes) - 1)
    plain = chosen.get("bbox_2d")
    if sizes and plain is not None and plain.unit and isinstance(record.get("boxes"), list) and record["boxes"]:
        [text], _ = _converted([json.dumps({"bbox_2d": record["boxes"]})], sizes, chosen, name, len(sizes) - 1)
        new["boxes"] = json.loads(text)["bbox_2d"]
    return new, count


def _converted(
    texts: Sequence[str], sizes: Sequence[Size], chosen: Mapping[str, Notation], name: str, image: int
) -> tuple[list[str], int]:
    """The texts, of which `image` is the last one before, and how many of their boxes were rewritten."""
    converted, total = [], 0
    for text in texts:
        pieces, at = [], 0
        marks = [match.start() for match in re.finditer("<image>", text)]
        seen = 0
        for found in scan_boxes(text):
            while seen < len(marks) and marks[seen] < found.start:
                seen += 1
            notation = chosen.get(found.syntax)
            if notation is None or not found.items:
                continue
            where = f"{name}: {shortened(text[found.start : found.stop], 80)}"
            if not 0 <= image + seen < len(sizes):
                raise UserError(f"{where} stands before any <image>; move it behind its image")
            new, count = _rewritten(text, found, notation, sizes[image + seen], where)
            total += count
            pieces += [text[at : found.start], new]
            at = found.stop
        image += len(marks)
        new = "".join([*pieces, text[at:]])
        if new != text and _is_json(text) and not _is_json(new):
            raise UserError(f"{name}: boxes within a text of JSON, which they would break; write them as JSON")
        converted.append(new)
    return converted, total


def _rewritten(text: str, found: Expression, notation: Notation, size: Size, where: str) -> tuple[str, int]:
    """(the expression with its boxes in pixels, how many of them changed)."""
    written = text[found.start : found.stop]
    if not found.closed:
        raise UserError(f"{where} is not closed, expected its end; repair the record")
    odd = next((item for item in found.items if len(item) != 4), None)
    if odd is not None:
        raise UserError(f"{where} holds {len(odd)} numbers, expected four for a box")
    boxes = [[number.value for number in item] for item in found.items]
    if notation.unit == 1 and found.syntax == "bbox_2d" and all(max(map(abs, box)) > SHARE_LIMIT for box in boxes):
        return written, 0  # pixels already: no share is that large
    if notation is NOTATIONS["pixels"] and found.plain:
        return written, 0
    new = [_pixels(box, notation, size, where) for box in boxes]
    if found.key is None:
        label = {"label": found.label} if found.label else {}
        objects = [json.dumps({"bbox_2d": box, **label}, ensure_ascii=False) for box in new]
        return objects[0] if len(objects) == 1 else f"[{', '.join(objects)}]", len(new)
    lists = ", ".join(map(str, new))
    value = lists if len(new) == 1 else f"[{lists}]"
    if found.plain:  # the numbers alone, so that spaces stay as they are
        value, at = "", found.value[0]
        for item, box in zip(found.items, new, strict=True):
            for number, pixel in zip(item, box, strict=True):
                value += text[at : number.start] + str(pixel)
                at = number.stop
        value += text[at : found.value[1]]
    start, stop = found.key
    return f"{text[found.start : start]}bbox_2d{text[stop : found.value[0]]}{value}", len(new)


def _pixels(numbers: Sequence[float], notation: Notation, size: Size, where: str) -> list[int]:
    a, b, c, d = numbers
    box = {"xyxy": (a, b, c, d), "yxyx": (b, a, d, c), "xywh": (a, b, a + c, b + d)}[notation.order]
    whole = (notation.unit, notation.unit) if notation.unit else size
    # Rounding leaves a hair beyond the border; more is another notation.
    slack = max(notation.unit * 0.005, 0 if notation.unit else 1)
    if min(box) < -slack or max(box[0::2]) > whole[0] + slack or max(box[1::2]) > whole[1] + slack:
        raise UserError(f"{where}: outside 0 to {whole[0]}×{whole[1]}, which is not {notation.about}")
    if box[0] >= box[2] or box[1] >= box[3]:
        hint = "; relative-xywh is for x, y, width, height" if notation is NOTATIONS["relative"] else ""
        raise UserError(f"{where}: empty or inverted, which is not {notation.about}{hint}")
    if notation.unit > 1 and max(box) <= SHARE_LIMIT:
        raise UserError(f"{where}: no number above 1, which is not {notation.about}; relative is for shares")
    return scale_box(box, whole, size)


class Evenness:
    """Whether the boxes of a file, said to be pixels, are more likely thousandths.

    Boxes of large images that never go beyond 1000 give themselves away by their number: were they spread over their
    images, some would. The chance that all keep below by accident is what is computed, different boxes taken once.
    """

    #: Below this chance they are thousandths.
    LEAST_CHANCE = 1e-3

    def __init__(self) -> None:
        self._boxes: set[tuple[Any, ...]] = set()
        self._log_chance, self._beyond = 0.0, False

    def add(self, box: Sequence[float], size: Size) -> None:
        """A box in an image of this (width, height)."""
        self._beyond = self._beyond or max(box) > 1000
        known = (*box, *size)
        if not self._beyond and max(size) > 1000 and known not in self._boxes:
            self._boxes.add(known)
            self._log_chance += sum(math.log(min(1.0, 1000 / side)) for side in size)

    @property
    def is_thousandths(self) -> bool:
        """Whether they are, as far as that can be told."""
        return not self._beyond and self._log_chance < math.log(self.LEAST_CHANCE)

    def __len__(self) -> int:
        return len(self._boxes)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
