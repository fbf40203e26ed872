"""Which images of a table are fit for training, and why the others are not.

    unreadable     cannot be opened, or is truncated
    dark, bright   nothing in it is lighter than `dark_below`, or darker than `bright_above`
    blurred        too little fine contrast at all, or edges far less steep than usual in its category and view
    conflicting    the same picture again with another label or category; all of them are dropped
    duplicate      the same bytes or the same pixels again
    near_duplicate the same photograph again: re-encoded, resized (`duplicates`); only where it is asked for

Each image has at most one reason, the first in this order. Near duplicates are sought among images of one category,
view, label and defect, and two anomalous ones must be marked at the same place: a good part and the same part with a
scratch are what this package is about, not duplicates. Of duplicates the one with the most pixels stays.

Near duplicates stay unless they are asked for: photographs of a line's fixed camera differ by noise and by what is
wrong with a part, and at 32×32 pixels neither shows. In collections from many sources the search finds copies.

A limit that suits one product is wrong for another, so each is an option, and the summary names the categories that
lose most.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import numpy as np
import pyarrow as pa
from pydantic import Field

from ..dropped import ROW, Dropped
from ..recipe.model import Share, choices
from .duplicates import SameSpec, agreement, equal_groups, near_candidates, same_shape
from .fingerprints import Fingerprints

__all__ = ["JUDGED_COLUMNS", "REASONS", "Coded", "QualityOptions", "judge"]

REASONS = ("unreadable", "dark", "bright", "blurred", "conflicting", "duplicate", "near_duplicate")

#: The columns that `judge` reads.
JUDGED_COLUMNS = ["image", "category", "view", "label", "defect", "boxes", "width", "height", "source"]

# Grid on which the boxes of two pictures of different size are compared, and how much of them must agree.
_GRID = 64
_BOXES_AGREE = 0.5

# Fewer images than this say nothing about what is usual in their category.
_ENOUGH = 8


#: An image that cannot be opened cannot be allowed.
Reasons = choices(*(reason for reason in REASONS if reason != "unreadable"))


class QualityOptions(SameSpec):
    """The limits: a recipe's `filter`.

    Attributes:
        dark_below, bright_above: grey levels, 0 to 255; see above.
        min_laplacian: least variance of the Laplacian, in squared grey levels, of the picture at 512 pixels.
        min_sharpness: least `sharpness` (`fingerprints`): 0.5 is about a blur of one pixel at 512 pixels.
        relative_sharpness: least sharpness as a share of the median of the image's category and view.
        near_duplicates: whether to drop the same photograph in another file.
        allow: reasons for which nothing is dropped.
    """

    dark_below: Annotated[float, Field(ge=0, le=256)] = 40
    bright_above: Annotated[float, Field(ge=-1, le=255)] = 215
    min_laplacian: Annotated[float, Field(ge=0)] = 2.0
    min_sharpness: Annotated[float, Field(ge=0)] = 0.5
    relative_sharpness: Share = 0.4
    near_duplicates: bool = False
    allow: Reasons = ()


def judge(rows: pa.Table, prints: Fingerprints, *, options: QualityOptions | None = None) -> dict[int, dict]:
    """Which rows to drop.

    Args:
        rows: `JUDGED_COLUMNS` of all of them.
        prints: their measures, in the same order.
        options: the limits.

    Returns:
        Row → its line (`Dropped`).
    """
    options = options or QualityOptions()
    judgement = _Judgement(rows, prints, options)
    judgement.each_alone()
    judgement.exact()
    judgement.near()
    return judgement.drops


class _Judgement:
    def __init__(self, rows: pa.Table, prints: Fingerprints, options: QualityOptions) -> None:
        self.rows, self.prints, self.options = rows.combine_chunks(), prints, options
        self.drops: dict[int, dict] = {}
        names = ("source", "category", "view", "label", "defect")
        self.codes = {name: Coded(rows[name]).codes for name in names}

    def drop(self, row: int, reason: str, value, limit, of: int | None = None) -> None:
        """Note a row, unless it is noted already or its reason is allowed."""
        if row not in self.drops and reason not in self.options.allow:
            self._note(int(row), reason, value, limit, "" if of is None else self.rows["image"][int(of)].as_py())

    def _note(self, row: int, reason: str, value, limit=None, of: str = "") -> None:
        found = {name: self.rows[name][row].as_py() for name in ROW}
        self.drops[row] = Dropped.row("filter", found, reason, value, limit, of=of).line()

    def left(self) -> np.ndarray:
        """The readable rows that nothing has been noted about."""
        gone = self.drops.keys() | self.prints.problems.keys()
        return np.array([row for row in range(len(self.prints)) if row not in gone], np.int64)

    def each_alone(self) -> None:
        """Reasons that an image has by itself, or beside the median of its kind."""
        prints, options = self.prints, self.options
        # Not an opinion that options could change: it cannot be trained on.
        for row, problem in prints.problems.items():
            self._note(row, "unreadable", problem)
        for row in np.flatnonzero(prints.high < options.dark_below):
            self.drop(row, "dark", int(prints.high[row]), options.dark_below)
        for row in np.flatnonzero(prints.low > options.bright_above):
            self.drop(row, "bright", int(prints.low[row]), options.bright_above)
        for row in np.flatnonzero(prints.laplacian < options.min_laplacian):
            self.drop(row, "blurred", round(float(prints.laplacian[row]), 3), options.min_laplacian)
        for row in np.flatnonzero(prints.sharpness < options.min_sharpness):
            self.drop(row, "blurred", round(float(prints.sharpness[row]), 3), options.min_sharpness)
        for group in self.groups(self.left(), "source", "category", "view"):
            if len(group) >= _ENOUGH:
                limit = round(options.relative_sharpness * float(np.median(prints.sharpness[group])), 3)
                for row in group[prints.sharpness[group] < limit]:
                    self.drop(row, "blurred", round(float(prints.sharpness[row]), 3), limit)

    def exact(self) -> None:
        """The same file, or the same pixels in another file."""
        for digests, same in ((self.prints.sha256, "same bytes"), (self.prints.pixels, "same pixels")):
            for group in equal_groups(digests, self.left()):
                group = self.best_first(group)
                annotations = {tuple(int(self.codes[name][row]) for name in ("category", "label")) for row in group}
                if len(annotations) > 1:
                    for row in group:
                        other = group[1] if row == group[0] else group[0]
                        self.drop(row, "conflicting", same, "one category and label", of=other)
                for row in group[1:]:  # as well, where conflicts are allowed
                    self.drop(row, "duplicate", same, "each picture once", of=group[0])

    def near(self) -> None:
        """The same photograph in another file."""
        if not self.options.near_duplicates or "near_duplicate" in self.options.allow:
            return
        limits, prints = self.options.same, self.prints
        for group in self.groups(self.left(), "source", "category", "view", "label", "defect"):
            group = self.best_first(group)
            coarse = prints.coarse[group]
            for query, others in near_candidates(coarse, coarse, limits=limits):
                row = group[query]
                before = np.array([group[one] for one in others if one < query and group[one] not in self.drops], int)
                before = before[same_shape(prints, row, prints, before)]
                largest, mean = agreement(prints.thumbs[row], prints.thumbs[before])
                for place in np.flatnonzero((largest <= limits.largest) & (mean <= limits.mean)):
                    if self.boxes_agree(row, before[place]):
                        self.drop(row, "near_duplicate", int(largest[place]), limits.largest, of=before[place])
                        break

    def groups(self, rows: np.ndarray, *names: str) -> Iterator[np.ndarray]:
        """`rows` by their values in some columns."""
        if not len(rows):
            return
        keys = np.stack([self.codes[name][rows] for name in names], axis=1)
        _, inverse = np.unique(keys, axis=0, return_inverse=True)
        order = np.argsort(inverse.ravel(), kind="stable")
        yield from np.split(rows[order], np.flatnonzero(np.diff(inverse.ravel()[order])) + 1)

    def best_first(self, rows: np.ndarray) -> np.ndarray:
        """The one to keep first: the most pixels, then by name, so that the table's order decides nothing."""
        sizes = self.prints.width[rows].astype(np.int64) * self.prints.height[rows]
        names = self.rows["image"].take(pa.array(rows)).to_pylist()
        return rows[sorted(range(len(rows)), key=lambda place: (-sizes[place], names[place]))]

    def boxes_agree(self, row: int, other: int) -> bool:
        """Whether two pictures are marked at the same places; those of normal pictures always are."""
        if self.rows["label"][int(row)].as_py() == "normal":
            return True
        grids = [self._grid(int(row)), self._grid(int(other))]
        union = (grids[0] | grids[1]).sum()
        return bool(union) and (grids[0] & grids[1]).sum() >= _BOXES_AGREE * union

    def _grid(self, row: int) -> np.ndarray:
        width, height = self.rows["width"][row].as_py(), self.rows["height"][row].as_py()
        grid = np.zeros((_GRID, _GRID), bool)
        for x1, y1, x2, y2 in self.rows["boxes"][row].as_py():
            left, top = x1 * _GRID // width, y1 * _GRID // height
            grid[top : max(top + 1, -(-y2 * _GRID // height)), left : max(left + 1, -(-x2 * _GRID // width))] = True
        return grid


class Coded:
    """A column of strings, each distinct one held once: `column[row]` is its value.

    Attributes:
        codes: (n,) numbers, equal where the values are.
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        encoded = pa.chunked_array([column.combine_chunks()]).dictionary_encode().combine_chunks()
        encoded = encoded.chunk(0) if isinstance(encoded, pa.ChunkedArray) else encoded
        self.codes = encoded.indices.to_numpy(zero_copy_only=False)
        self._values = encoded.dictionary

    def __getitem__(self, row: int) -> str:
        return self._values[int(self.codes[row])].as_py()
