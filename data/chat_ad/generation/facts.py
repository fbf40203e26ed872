"""What the annotations of a pair say, as phrases: which defects, where, how large, how many."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from .pair_view import Box, PairView
from .prompt_files import several
from .words import Words, number

__all__ = ["CELLS", "Facts", "cell", "cells_touched", "union_share"]

#: Nine parts of an image, in reading order.
CELLS = (
    ("top left", "top", "top right"),
    ("left", "centre", "right"),
    ("bottom left", "bottom", "bottom right"),
)

# Above so many boxes a list of places is no longer read.
_LISTED = 4

_SIZES = ((0.001, "tiny"), (0.01, "small"), (0.05, "medium-sized"), (0.2, "large"), (1.01, "very large"))


def cell(box: Box, size: tuple[int, int]) -> str:
    """The part of an image of (width, height) that holds a box's centre, one of `CELLS`."""
    column, row = (
        min(2, 3 * (low + high) // (2 * length)) for low, high, length in zip(box[:2], box[2:], size, strict=True)
    )
    return CELLS[row][column]


def cells_touched(box: Box, size: tuple[int, int]) -> set[str]:
    """All parts of the image that a box reaches into."""
    width, height = size
    columns = range(3 * box[0] // width, min(2, (3 * box[2] - 1) // width) + 1)
    rows = range(3 * box[1] // height, min(2, (3 * box[3] - 1) // height) + 1)
    return {CELLS[row][column] for row in rows for column in columns}


def at(part: str) -> str:
    """`at the top left`, `on the right`, `in the centre`."""
    return {"centre": "in the centre", "left": "on the left", "right": "on the right"}.get(part, f"at the {part}")


def union_share(boxes: Sequence[Box], size: tuple[int, int]) -> float:
    """Share of an image's area that boxes cover together, by coordinate compression."""
    xs = sorted({x for box in boxes for x in (box[0], box[2])})
    area = 0
    for left, right in itertools.pairwise(xs):
        covered, end = 0, 0
        for low, high in sorted((box[1], box[3]) for box in boxes if box[0] <= left and box[2] >= right):
            covered += max(0, high - max(low, end))
            end = max(end, high)
        area += covered * (right - left)
    return area / (size[0] * size[1])


@dataclass(frozen=True)
class Facts:
    """Phrases about a pair. Those about places are for pairs with boxes."""

    pair: PairView
    words: Words

    @cached_property
    def subject(self) -> str:
        """`metal nut`."""
        return self.words.category(self.pair.category)

    @cached_property
    def a_subject(self) -> str:
        """`a metal nut`."""
        return self.words.a_category(self.pair.category)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The label of each box in words; of an image without boxes its types."""
        return tuple(map(self.words.label, self.pair.labels if self.pair.boxes else self.pair.types))

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """The different types among `labels` that say something."""
        return tuple(dict.fromkeys(label for label in self.labels if not self.words.vague(label)))

    @cached_property
    def count(self) -> int:
        """Number of boxes, or of types where there is no box."""
        return len(self.labels)

    @cached_property
    def defects(self) -> str:
        """`two scratches and contamination`."""
        return several([self.words.many(label, count) for label, count in Counter(self.labels).items()])

    @cached_property
    def there_all(self) -> str:
        """`there is` or `there are`, as `defects` begins."""
        return self._verb(self.labels.count(self.labels[0]))

    @cached_property
    def there(self) -> str:
        """`there is` or `there are`, as `placed` begins."""
        if self.pair.boxes and 1 < self.count <= _LISTED and len(set(self.labels)) > 1:
            return self._verb(list(zip(self.labels, self.places, strict=True)).count((self.labels[0], self.places[0])))
        return self.there_all

    def _verb(self, count: int) -> str:
        return "there are" if count > 1 or self.words.is_plural(self.labels[0]) else "there is"

    @cached_property
    def placed(self) -> str:
        """`a scratch at the top left and two dents in the centre`; without places for an image without boxes."""
        if not self.pair.boxes:
            return self.defects
        parts = list(dict.fromkeys(self.places))
        if self.count > _LISTED or len(parts) == 1:
            return f"{self.defects} {self.region}"
        if len(set(self.labels)) == 1:
            return f"{self.defects}, {several(parts)}"
        counts = Counter(zip(self.labels, self.places, strict=True))
        return several([f"{self.words.many(label, count)} {part}" for (label, part), count in counts.items()])

    @cached_property
    def region(self) -> str:
        """`at the top left and in the centre`, `in several places`."""
        parts = list(dict.fromkeys(self.places))
        if not parts:
            return "somewhere"
        return several(parts) if len(parts) <= 3 else "in several places"

    @cached_property
    def share(self) -> str:
        """How much of the image the mask marks, or without one the boxes cover: `less than 1 %`, `about 12 %`."""
        areas, (width, height) = self.pair.areas, self.pair.size
        percent = 100 * (
            union_share(self.pair.boxes, self.pair.size) if areas is None else sum(areas) / width / height
        )
        if percent < 1:
            return "less than 1 %"
        return "nearly all" if percent > 95 else f"about {round(percent)} %"

    @cached_property
    def size(self) -> str:
        """Of the largest region, or without a mask of the largest box: `tiny` to `very large`."""
        areas, (width, height) = self.pair.areas, self.pair.size
        if areas is None:
            areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in self.pair.boxes]
        share = max(areas) / width / height
        return next(word for limit, word in _SIZES if share < limit)

    @cached_property
    def shape(self) -> str:
        """`; it is much wider than high` of a single long box, else nothing."""
        x1, y1, x2, y2 = self.pair.boxes[0]
        for long, short, words in ((x2 - x1, y2 - y1, "wider than high"), (y2 - y1, x2 - x1, "higher than wide")):
            if long > 2.5 * short:
                return f"; it is much {words}"
        return ""

    @cached_property
    def areas(self) -> str:
        """`one area`, `three separate areas`."""
        return "one area" if self.count == 1 else f"{number(self.count)} separate areas"

    @cached_property
    def family(self) -> str:
        """The family that all types belong to, the first of several; "" for none, or when nothing is known."""
        found = [self.words.families_of(kind) for kind in self.kinds]
        common = frozenset.intersection(*found) if found else frozenset()
        return next((name for name in self.words.families if name in common), "")

    @cached_property
    def places(self) -> list[str]:
        """Of each box, where it is, in words that are true of it."""
        width, height = self.pair.size
        parts = []
        for index, box in enumerate(self.pair.boxes):
            wide, high = box[2] - box[0] > 0.67 * width, box[3] - box[1] > 0.67 * height
            part = cell(box, self.pair.size)
            if wide and high:
                # A long scratch lies in a large box and covers little of it.
                thin = self.pair.areas is not None and self.pair.areas[index] < width * height / 3
                parts.append("across the image" if thin else "over most of the image")
            elif wide:
                row = part.split()[0]
                outer = row in ("top", "bottom")
                parts.append(f"across the image, at its {row}" if outer else "across the middle of the image")
            elif high:
                column = part.split()[-1]
                outer = column in ("left", "right")
                parts.append(f"from top to bottom on the {column}" if outer else "from top to bottom in the middle")
            else:
                parts.append(at(part))
        return parts
