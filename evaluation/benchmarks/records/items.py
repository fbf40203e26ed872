"""What a record asks: its own conversation, word for word, up to the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adcopilot.answering.base import Backend
from adcopilot.answering.families import Family
from adcopilot.answering.items import Item
from adcopilot.boxes import text_boxes
from adcopilot.errors import UserError
from adcopilot.files import path_inside
from adcopilot.images import image_size
from adcopilot.jsonl import content_key
from adcopilot.prompts import THINK_INSTRUCTION
from adcopilot.records import IMAGE_PLACEHOLDER
from adcopilot.tasks import task_of
from adcopilot.tasks.choice import CHOICE, options_of
from adcopilot.tasks.locate import LOCATE
from adcopilot.tasks.verdict import OPTIONS, VERDICT

from ...image_digests import image_digests

__all__ = ["items", "truth_fields"]


def items(
    records: Sequence[Mapping[str, Any]], *, root: Path, family: Family, thinking: bool, folder: Path | None
) -> list[Item]:
    """One question a record, with the conversation before it.

    Raises:
        UserError: a record has a system prompt, images after its first turn, or boxes before its answer.
    """
    paths = {name: path_inside(root, name) for record in records for name in record["images"]}
    digests = image_digests(list(paths.values()), folder=folder)
    found = []
    for record in records:
        task = task_of(record)
        if any(message["role"] == "system" for message in record["messages"]):
            raise UserError(f"record {record['key']}: has a system prompt, which is not asked here; leave it out")
        turns = [message["content"] for message in record["messages"][:-1]]
        if any(IMAGE_PLACEHOLDER in text for text in turns[1:]):
            raise UserError(f"record {record['key']}: has images after its first turn, expected all in the first")
        if any(text_boxes(text) for text in turns):
            raise UserError(
                f"record {record['key']}: has boxes before its answer, which are pixels of the file and not of what "
                "the model sees; leave such records out"
            )
        *before, first = turns[0].split(IMAGE_PLACEHOLDER)
        prefix: list[str | int] = []
        for place, text in enumerate(before):
            prefix += [text, place] if text else [place]
        turns[0] = first
        question = turns[-1]
        if thinking and THINK_INSTRUCTION not in question:
            question = family.question(question, thinking=True)
        history = tuple(zip(turns[:-1:2], turns[1:-1:2], strict=True))
        images = tuple(paths[name] for name in record["images"])
        # behind reasoning, the first word's probabilities say nothing
        reasons = thinking or THINK_INSTRUCTION in question
        options = None
        if not reasons and task is CHOICE:
            options = options_of(turns[-1])
        elif not reasons and task is VERDICT:
            options = dict(OPTIONS)
        group = content_key("records", list(record["images"]), [digests[path] for path in images], prefix)
        found.append(
            Item(
                key=content_key(group, record["key"], question, list(map(list, history))),
                group=group,
                images=images,
                prefix=tuple(prefix),
                question=question,
                options=options,
                history=history,
                reference=record["answer"],
                meta={
                    "record": record["key"],
                    "task": task.name,
                    "asked": turns[-1],
                    "category": str(record.get("category") or ""),
                    "images": list(record["images"]),
                    "boxes": record.get("boxes") or [],
                    "mask": record.get("mask") or "",
                },
            )
        )
    return found


def truth_fields(item: Item, backend: Backend) -> dict[str, Any]:
    """Sizes of the query in the file and as the model sees it, which boxes are mapped by."""
    if item.meta["task"] != LOCATE.name:
        return {}
    size = image_size(item.images[-1])
    return {"size": list(size), "model_size": list(backend.model_size(size))}
