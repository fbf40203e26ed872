"""The chosen records as cards: pictures as data URLs, boxes in pixels of the originals, texts cut to a length."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from ..endpoint.images import data_url
from ..errors import UserError
from ..images import open_image
from ..records import IMAGE_PLACEHOLDER, record_boxes
from .text import clean, plural, shorten

__all__ = ["MAX_SIDE", "Box", "Card", "Gallery", "Picture", "Turn", "defects_of", "picture_of", "source_of"]

#: Longer side of an embedded picture in pixels; what is smaller stays as it is.
MAX_SIDE = 560

# Up to this side PNG is about as small as JPEG, and keeps what the model sees.
_LOSSLESS_SIDE = 160
_PIXELATED_SIDE = 200

MOST_PICTURES = 6
MOST_BOXES = 60
MOST_TEXT = 4_000
MOST_TURNS = 24

#: Colours of the style sheet that boxes take in turn, one a label.
COLOURS = 6


@dataclass(frozen=True, kw_only=True)
class Box:
    """A box on a picture: left, top, width and height in pixels of the original, and its colour of `COLOURS`.

    `told` boxes stand in the conversation alone, not among the record's annotated ones.
    """

    x: float
    y: float
    width: float
    height: float
    label: str
    colour: int
    told: bool

    @classmethod
    def of(cls, corners: Sequence[float], *, label: str, colour: int, told: bool) -> Box:
        """A box by x1, y1, x2, y2."""
        x1, y1, x2, y2 = map(float, corners)
        return cls(x=x1, y=y1, width=max(x2 - x1, 0), height=max(y2 - y1, 0), label=label, colour=colour, told=told)


@dataclass(kw_only=True)
class Picture:
    """An image of a record.

    Attributes:
        role: what it is called.
        path: as the record has it.
        url: a data URL, "" when `problem` says why there is none.
        width, height: of the upright original in pixels.
        boxes: on it.
    """

    role: str
    path: str
    url: str = ""
    problem: str = ""
    width: int = 0
    height: int = 0
    boxes: list[Box] = field(default_factory=list)

    @property
    def pixelated(self) -> bool:
        """Whether it is so small that it is shown with its pixels."""
        return max(self.width, self.height) <= _PIXELATED_SIDE


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


def picture_of(image: Image.Image, *, role: str, path: str = "") -> Picture:
    """An upright RGB image as a page holds it, at most `MAX_SIDE` pixels a side."""
    found = Picture(role=role, path=path, width=image.width, height=image.height)
    if max(image.size) > MAX_SIDE:
        image = image.copy()
        image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    found.url = _data_url(image)
    return found


class Gallery:
    """Makes cards, and keeps the bytes of their pictures within a budget.

    Args:
        media_dirs: where images are looked for, in order. A name that leads out of them is refused: the page would
            hold a picture that its data should know nothing of.
        budget: bytes of all data URLs together.
        option: of the command, by which further folders are named.

    Attributes:
        missing: images that could not be shown.
        left_out: images that there was no room for.
    """

    def __init__(self, *, media_dirs: Sequence[Path], budget: int, option: str = "--media-dir") -> None:
        self._dirs = [folder.resolve() for folder in media_dirs]
        self._left = budget
        self._option = option
        # Templates come again and again; what is kept is no more than what the page holds.
        self._known: dict[str, Picture] = {}
        self.missing = self.left_out = 0

    def card(self, record: dict[str, Any], *, dataset: str, task: str, label: str, line: int) -> Card:
        """A record that `records.check_record` has passed as a card.

        Args:
            record: the record.
            dataset, task, label: as they are counted.
            line: its number in the dataset's file.
        """
        names, notes = record.get("images", []), []
        pictures = [self.picture(name, _role(index, len(names))) for index, name in enumerate(names[:MOST_PICTURES])]
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

    def picture(self, name: str, role: str) -> Picture:
        """An image without boxes; one that cannot be shown says why.

        Args:
            name: its path inside a media folder.
            role: what it is called.
        """
        if name not in self._known:
            self._known[name] = self._encode(name)
        known = self._known[name]
        picture = Picture(role=role, path=shorten(name, 200), width=known.width, height=known.height)
        if known.problem:
            self.missing += 1
            picture.problem = known.problem
        elif len(known.url) > self._left:
            self.left_out += 1
            picture.problem = "no room for it: --max-mib limits the page"
        else:
            self._left -= len(known.url)
            picture.url = known.url
        return picture

    def _encode(self, name: str) -> Picture:
        found = Picture(role="", path=name)
        try:
            image = open_image(self._find(name), name=shorten(name))
        except UserError as error:
            found.problem = shorten(error, 200)
            return found
        return picture_of(image, role="", path=name)

    def _find(self, name: str) -> Path:
        path = PurePosixPath(name.replace("\\", "/"))
        if "\x00" in name or path.is_absolute() or ".." in path.parts:
            raise UserError(f"{shorten(name)}: expected a name inside the media folder")
        outside = False
        for folder in self._dirs:
            for inside in _names_inside(path, folder):
                try:
                    target = (folder / inside).resolve()
                    there = target.is_file()
                except (OSError, RuntimeError, ValueError):  # a name too long, or a circle of links
                    continue
                if there and any(target.is_relative_to(one) for one in self._dirs):
                    return target
                outside = outside or there
        if outside:
            raise UserError(f"{shorten(name)}: a link out of the media folder; name where it leads by {self._option}")
        raise UserError(f"{shorten(name)}: no such image; name the folder it is in by {self._option}")


def _names_inside(path: PurePosixPath, folder: Path) -> Iterator[PurePosixPath]:
    """A record's path, then what is left of it below the folder when media_dir was one above.

    `chat_ad/images/1.png`, written for the media_dir `data`, is `images/1.png` in `data/built`.
    """
    yield path
    for count in range(1, min(len(path.parts), len(folder.parts))):
        if path.parts[:count] == folder.parts[-count:]:
            yield PurePosixPath(*path.parts[count:])


def _data_url(image: Image.Image) -> str:
    """The picture as PNG where that is small, as drawings are, or the picture is; else as JPEG."""
    files = {"PNG": io.BytesIO(), "JPEG": io.BytesIO()}
    image.save(files["PNG"], "PNG", optimize=True)
    image.save(files["JPEG"], "JPEG", quality=85)
    sizes = {kind: len(file.getvalue()) for kind, file in files.items()}
    kind = "PNG" if max(image.size) <= _LOSSLESS_SIDE or sizes["PNG"] <= sizes["JPEG"] else "JPEG"
    return data_url(kind, files[kind].getvalue())


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
