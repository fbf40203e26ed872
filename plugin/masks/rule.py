"""The rule itself (see the package): from an array of numbers to what it marks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..errors import UserError

__all__ = ["Marked", "marked"]

# Numbers beside 0, and the largest number, of what can only be classes.
_CLASSES = 32

# Below this share of the scale nothing is drawn in a JPEG or in floats.
_NOISE = 1 / 8


@dataclass(frozen=True, kw_only=True)
class Marked:
    """What a mask marks.

    Attributes:
        values: (height, width), unsigned: 0 outside, elsewhere the class (whatever number the file has, 1 of
            many-valued masks).
        kind: "two-level", "classes", "many-valued", "many-valued with faint regions", "one-level"; "inverted " before
            it where it was.
    """

    values: np.ndarray
    kind: str


def marked(
    values: np.ndarray,
    *,
    name: str = "mask",
    full: float | None = None,
    lossy: bool = False,
    threshold: float | None = None,
    inverted: bool = False,
) -> Marked:
    """What an array of numbers marks.

    Args:
        values: (height, width), boolean, integers or floats.
        name: for messages.
        full: the number that stands for white; by default that of the type, of floats 1, or 255 where one is above 1.
        lossy: the background is never quite 0.
        threshold, inverted: as `read_mask`.

    Raises:
        UserError: it has not two dimensions, or holds what is no finite number.
    """
    values = np.asarray(values)
    if values.ndim != 2 or values.dtype.kind not in "buif":
        raise UserError(f"{name}: a mask of shape {values.shape} and {values.dtype}, expected numbers (height, width)")
    if not values.size:
        return Marked(values=np.zeros(values.shape, np.uint8), kind="one-level")
    if values.dtype == bool:
        values = values.astype(np.uint8)
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            wrong = int(values.size - np.count_nonzero(np.isfinite(values)))
            raise UserError(
                f"{name}: {wrong} of {values.size} pixels of the mask are no finite numbers (NaN or infinite); "
                "write it again, with 0 where there is no defect"
            )
        full = (1.0 if values.max() <= 1 else 255.0) if full is None else full
    levels = _levels(values)
    least, most = levels[0], levels[-1]
    full = (np.iinfo(values.dtype).max if values.dtype.kind in "ui" else 1.0) if full is None else full
    prefix = "inverted " if inverted else ""
    wide = float(most) - float(least)  # of unsigned numbers, differences would wrap
    noise = _NOISE * full
    if len(levels) == 1 or (lossy and wide < noise):
        everything = most > (noise if lossy else 0) or least < 0
        return Marked(values=np.full(values.shape, everything != inverted, np.uint8), kind=f"{prefix}one-level")
    if len(levels) == 2 and not lossy:
        back = 0 if 0 in levels else least
        if inverted:
            return Marked(values=(values == back).astype(np.uint8), kind=f"{prefix}two-level")
        return Marked(values=_classes(values, back), kind="two-level")
    if threshold is None and not lossy and _has_outline(values, levels):
        values, levels = np.where(values == 255, 0, values), levels[:-1]
    if threshold is None and not lossy and _are_classes(values, levels):
        if inverted:
            return Marked(values=(values == 0).astype(np.uint8), kind=f"{prefix}classes")
        return Marked(values=_classes(values, 0), kind="classes")
    if values.dtype.kind == "f" and wide < noise:
        return Marked(values=np.full(values.shape, inverted, np.uint8), kind=f"{prefix}one-level")
    share = 0.5 if threshold is None else threshold
    high, faint = _cut(values, float(least), wide, share, inverted)
    return Marked(values=high.astype(np.uint8), kind=f"{prefix}many-valued{' with faint regions' if faint else ''}")


def _cut(values: np.ndarray, least: float, wide: float, share: float, inverted: bool) -> tuple[np.ndarray, bool]:
    """(pixels above the share of the range, with what ties them together; whether faint regions were left out)"""
    from scipy import ndimage

    whole_numbers = values.dtype.kind != "f"

    def above(part: float) -> np.ndarray:
        # Integers are compared with integers, so that a large mask is not copied into floats.
        if inverted:
            limit = least + (1 - part) * wide
            return values < (math.ceil(limit) if whole_numbers else limit)
        limit = least + part * wide
        return values > (math.floor(limit) if whole_numbers else limit)

    high, low = above(share), above(share / 2)
    if not share:
        return high, False
    eight = np.ones((3, 3), bool)
    rows, columns = np.flatnonzero(low.any(axis=1)), np.flatnonzero(low.any(axis=0))
    if not rows.size:
        return high, False
    inner = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    regions, count = ndimage.label(low[inner], eight)
    pieces, found = ndimage.label(high[inner], eight)
    # Of each piece the region that it lies in: a region of several pieces is taken as a whole.
    first = np.full(found + 1, 0)
    first[pieces.ravel()] = regions.ravel()
    held = np.bincount(first[1:], minlength=count + 1)
    whole = held > 1
    whole[0] = False
    high[inner] |= whole[regions]
    return high, bool((held[1:] == 0).any())


def _levels(values: np.ndarray) -> list[int | float]:
    """The different numbers, in order; of integers quickly."""
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        found = np.zeros(65536, bool)
        for row in range(0, len(values), 256):
            found[values[row : row + 256].ravel()] = True
        return np.flatnonzero(found).tolist()
    return np.unique(values).tolist()


def _are_classes(values: np.ndarray, levels: list[int | float]) -> bool:
    if levels[0] != 0 or len(levels) > _CLASSES + 1 or any(level != int(level) for level in levels):
        return False
    if levels[-1] <= _CLASSES:
        return True
    return all(_fills_a_square(values == level) for level in levels[1:])


def _has_outline(values: np.ndarray, levels: list[int | float]) -> bool:
    classes = levels[1:-1]
    if not classes or levels[0] != 0 or levels[-1] != 255 or classes[-1] > _CLASSES:
        return False
    return all(_fills_a_square(values == one) for one in classes) and not _fills_a_square(values == 255)


def _fills_a_square(where: np.ndarray) -> bool:
    rows = where[:-2] & where[1:-1] & where[2:]
    return bool((rows[:, :-2] & rows[:, 1:-1] & rows[:, 2:]).any())


def _classes(values: np.ndarray, back: int | float) -> np.ndarray:
    """The numbers themselves where an unsigned type of 16 bits holds them, else 1; 0 for the background."""
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535:
        return (values != back).astype(np.uint8)
    kind = np.uint8 if values.max() < 256 else np.uint16
    return np.where(values == back, 0, values).astype(kind)
