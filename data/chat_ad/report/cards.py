"""The chosen records as cards: their pictures with boxes, texts cut to a length."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from ...pages.gallery import COLOURS, Box, Gallery, Picture
from ...pages.text import clean, plural, shorten
from ...records import IMAGE_PLACEHOLDER, record_boxes

__all__ = ["Card", "Turn", "defects_of", "make_card", "source_of"]

MOST_PICTURES = 6
MOST_BOXES = 60
MOST_TEXT = 4_000
MOST_TURNS = 24


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A message: who says it (`system`, `user`, `assistant`), and its parts, `(is a picture's name, text)`."""

    role: str
    parts: list[tuple[bool, str]]

    @property
    def long(self) -> bool:
        """Whether it is shown in a window of its own, to be scrolled."""
        return sum(len(text) + 40 * text.count("\n") for _, text in self.parts) > 1_000


@dataclass(kw_only=True)
class Card:
    """A record as the gallery shows it; `faulty` of its boxes are none, or not in the image."""

    dataset: str
    task: str
    label: str
    category: str
    source: str
    defects: list[str]
    line: int
    pictures: list[Picture]
    turns: list[Turn]
    facts: list[tuple[str, str]]
    notes: list[str]
    faulty: int

    @property
    def legend(self) -> list[tuple[int, bool, str, int]]:
        """(colour, told, label, boxes) of its boxes."""
        found: dict[tuple[int, bool, str], int] = {}
        for box in (box for picture in self.pictures for box in picture.boxes):
            key = (box.colour, box.told, box.label)
            found[key] = found.get(key, 0) + 1
        return [(*key, count) for key, count in found.items()]


def make_card(record: dict[str, Any], gallery: Gallery, *, dataset: str, task: str, label: str, line: int) -> Card:
    """A record that `records.check_record` has passed as a card.

    Args:
        record: the record.
        gallery: makes its pictures.
        dataset, task, label: as they are counted.
        line: its number in the dataset's file.
    """
    names, notes = record.get("images", []), []
    pictures = [gallery.picture(name, _role(index, len(names))) for index, name in enumerate(names[:MOST_PICTURES])]
    if len(names) > MOST_PICTURES:
        notes.append(f"{len(names) - MOST_PICTURES} more images are not shown")
    faulty = _place_boxes(record, pictures, len(names), notes)
    category = record.get("category")
    return Card(
        dataset=dataset,
        task=task,
        label=label,
        category=shorten(category) if isinstance(category, str) else "",
        source=source_of(record),
        defects=defects_of(record)[:10],
        line=line,
        pictures=pictures,
        turns=_turns(record["messages"], len(names), notes),
        facts=_facts(record),
        notes=notes,
        faulty=faulty,
    )


def _role(index: int, count: int) -> str:
    if count == 2:
        return ("template", "query")[index]
    return "image" if count == 1 else f"image {index + 1}"


def _place_boxes(record: dict[str, Any], pictures: list[Picture], count: int, notes: list[str]) -> int:
    """Put the record's boxes on its last image, and those that only its text has on the images they speak of.

    Returns:
        How many of them are no boxes, or not in their image.
    """
    boxes, labels = record.get("boxes"), record.get("labels")
    boxes = boxes if isinstance(boxes, list) else []
    labels = labels if isinstance(labels, list) and len(labels) == len(boxes) else None
    default = record.get("defect") if isinstance(record.get("defect"), str) else ""
    found: list[tuple[int, Any, str, bool]] = []
    for index, box in enumerate(boxes):
        label = labels[index] if labels and isinstance(labels[index], str) else default
        found.append((count - 1, box, shorten(label, 60), False))
    known = [(image, list(box)) for image, box, _, _ in found if isinstance(box, list)]
    for image, box in record_boxes(record, name="record"):
        if (image, box) not in known:
            known.append((image, box))
            found.append((image, box, "only in the text", True))
    colours: dict[str, int] = {}
    drawn = faulty = 0
    for image, box, label, told in found:
        if not 0 <= image < len(pictures) or not pictures[image].url:
            continue
        picture = pictures[image]
        corners = _corners(box)
        if corners is None:
            faulty += 1
            notes.append(f"a box that is none: {shorten(box, 60)}")
            continue
        x1, y1, x2, y2 = corners
        if not (0 <= x1 < x2 <= picture.width and 0 <= y1 < y2 <= picture.height):
            faulty += 1
            notes.append(f"a box that is not in the image: {shorten(box, 60)}")
        if drawn == MOST_BOXES:
            notes.append(f"only {plural(MOST_BOXES, 'box', 'boxes')} of {len(found)} are drawn")
            break
        drawn += 1
        colour = colours.setdefault(label, len(colours) % COLOURS)
        picture.boxes.append(
            Box(x=x1, y=y1, width=max(x2 - x1, 0), height=max(y2 - y1, 0), label=label, colour=colour, told=told)
        )
    del notes[12:]
    return faulty


def _corners(box: Any) -> tuple[float, float, float, float] | None:
    """Four finite numbers, or None."""
    if not isinstance(box, (list, tuple)) or len(box) != 4:
        return None
    if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in box):
        return None
    try:
        fine = all(math.isfinite(value) and abs(value) < 1e7 for value in box)
    except OverflowError:  # an integer that no float holds
        fine = False
    return tuple(box) if fine else None


def _turns(messages: list[dict[str, str]], images: int, notes: list[str]) -> list[Turn]:
    turns, image = [], 0
    for message in messages[:MOST_TURNS]:
        text = message["content"]
        # Chips instead of the marks; LlamaFactory counts the marks of all messages together.
        parts: list[tuple[bool, str]] = []
        shown = text[:MOST_TEXT]
        for piece in re.split(f"({re.escape(IMAGE_PLACEHOLDER)})", shown):
            if piece == IMAGE_PLACEHOLDER:
                parts.append((True, _role(image, images)))
                image += 1
            elif piece:
                parts.append((False, clean(piece)))
        if len(text) > MOST_TEXT:
            image += text[MOST_TEXT:].count(IMAGE_PLACEHOLDER)
            parts.append((False, f" … ({len(text):,} characters)"))
        turns.append(Turn(role=message["role"], parts=parts))
    if len(messages) > MOST_TURNS:
        notes.append(f"{len(messages) - MOST_TURNS} more messages are not shown")
    return turns


def _facts(record: dict[str, Any]) -> list[tuple[str, str]]:
    """The other fields of a record, in its order."""
    shown = {"messages", "images", "task", "category", "anomalous"}
    facts = []
    for name, value in list(record.items())[:40]:
        if name not in shown and value not in (None, "", [], {}):
            facts.append((shorten(name, 60), shorten(value if isinstance(value, str) else _plain(value), 400)))
    return facts


def _plain(value: Any, depth: int = 0) -> str:
    if depth > 4 and isinstance(value, (dict, list)):
        return "…"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_plain(inner, depth + 1)}" for key, inner in list(value.items())[:20])
    if isinstance(value, list):
        shown = [_plain(inner, depth + 1) for inner in value[:MOST_BOXES]]
        return f"[{', '.join(shown)}{', …' if len(value) > len(shown) else ''}]"
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)


def source_of(record: dict[str, Any]) -> str:
    """The dataset that a record was made from, "" when it does not say."""
    source = record.get("source")
    if isinstance(source, dict):
        source = source.get("dataset")
    return shorten(source) if isinstance(source, str) else ""


def defects_of(record: dict[str, Any]) -> list[str]:
    """The kinds of defects that a record names, each once."""
    labels = record.get("labels")
    if not isinstance(labels, list) or not labels:
        labels = [record.get("defect")]
    return list(dict.fromkeys(shorten(label, 80) for label in labels if isinstance(label, str) and label.strip()))
