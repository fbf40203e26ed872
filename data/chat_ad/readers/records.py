"""Pairs that are there already as records (the sample set, another build) as a dataset.

The first of a record's two images becomes a normal image, the second is what the record says: `anomalous`, `category`,
`defect`, `boxes` with `labels`, `mask`. An image that several records show becomes one row; where they contradict each
other it is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from adcopilot.kinds import defect_name, is_good

from ...errors import UserError
from ...records import check_box
from ..general.json_stream import json_items
from ..sources.references import format_reference
from .base import ListedImage, Option, Source, inside

__all__ = ["OPTIONS", "looks_like", "scan"]

OPTIONS: Mapping[str, Option] = {
    "files": Option(default=None, help="the files of records below the root, with commas between them"),
}


def looks_like(source: Source) -> bool:
    """Never guessed: any folder may hold records."""
    return False


def scan(source: Source) -> Iterator[ListedImage]:
    """The images of all records, in order.

    Args:
        source: `root` is what the records' names are relative to.

    Raises:
        UserError: a file cannot be read.
    """
    seen: dict[str, ListedImage] = {}
    for file in source.options["files"].split(","):
        relative = inside(file.strip())
        if relative is None:
            raise UserError(f"{source.root}: file {file!r} leads out of it, expected a name within the root")
        for number, record in json_items(Path(source.path(relative))):
            where = f"{relative}:{number}"
            try:
                items = list(_items(record))
            except (KeyError, TypeError, ValueError) as error:
                reason = f"{error}; expected a record with two images, category and anomalous, as the sample set has"
                source.problem("record", where, reason)
                continue
            for item in items:
                first = seen.setdefault(item.image, item)
                if item != first:
                    source.disputed.add(item.image)
                    source.problem("conflict", where, f"says something else of {item.image} than an earlier record")
                elif item is first and item.image not in source.disputed and source.wants(item.category):
                    yield item


def _items(record: dict[str, Any]) -> Iterator[ListedImage]:
    names = [_name(one) for one in record["images"]]
    if len(names) != 2:
        raise ValueError(f"{len(names)} images")
    category, anomalous = record["category"], record["anomalous"]
    if not isinstance(category, str) or not isinstance(anomalous, bool):
        raise ValueError(f"category {category!r:.40} and anomalous {anomalous!r:.40}")
    yield ListedImage(image=format_reference(names[0]), category=category, anomalous=False)
    defect, mask = record.get("defect") or "", record.get("mask") or ""
    if not isinstance(defect, str) or (anomalous and is_good(defect)):
        raise ValueError(f"defect {defect!r:.40} and anomalous {anomalous}")
    if not anomalous:
        if record.get("boxes") or mask or (defect_name(defect) and not is_good(defect)):
            raise ValueError("anomalous is false, but there is a defect, boxes or a mask")
        yield ListedImage(image=format_reference(names[1]), category=category, anomalous=False)
        return
    defect = defect_name(defect)
    boxes = [_box(box, names[1]) for box in record.get("boxes") or []]
    labels = record.get("labels") or [defect] * len(boxes)
    if not isinstance(labels, list) or len(labels) != len(boxes) or not all(isinstance(one, str) for one in labels):
        raise ValueError(f"{len(boxes)} boxes and labels {labels!r:.60}")
    yield ListedImage(
        image=format_reference(names[1]),
        category=category,
        anomalous=True,
        defect=defect,
        mask=format_reference(_name(mask)) if mask else "",
        boxes=None if mask or not boxes else tuple(zip(boxes, map(defect_name, labels), strict=True)),
        notes="" if mask else "no mask",
    )


def _box(box: Any, image: str) -> tuple[int, ...]:
    check_box(box, name=image)
    return *map(math.floor, box[:2]), *map(math.ceil, box[2:])


def _name(name: Any) -> str:
    found = inside(name) if isinstance(name, str) else None
    if found is None:
        raise ValueError(f"name {name!r:.60}, expected one relative to the root")
    return found
