"""The sizes of images that a model was trained on, and whether another one is far outside.

Training writes them into the folder's processor (`trained_sizes` in processor_config.json), each stage adding its own
to those of the folder that it began from. All sizes are those that the model sees, after both resizes: the number of
pixels decides, and the sides, which an elongated picture can have far longer with no more pixels.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .errors import UserError

__all__ = ["FAR", "FAR_OUTSIDE", "far_outside", "merge_sizes", "read_sizes", "sizes_of"]

#: Far outside is more than so many times the most pixels, or the longest side, of training, or less than such a share
#: of the fewest, or the shortest.
FAR = 4

#: In every reason that `far_outside` gives.
FAR_OUTSIDE = "far outside the sizes of its training"

#: {"pixels": [fewest, most], "sides": [shortest, longest]}
Sizes = dict[str, list[int]]
_KEYS = ("pixels", "sides")


def sizes_of(sizes: Iterable[tuple[int, int]]) -> Sizes | None:
    """The range of some (width, height) as the model sees them; None without any."""
    sizes = list(sizes)
    if not sizes:
        return None
    pixels = [width * height for width, height in sizes]
    return {
        "pixels": [min(pixels), max(pixels)],
        "sides": [min(map(min, sizes)), max(map(max, sizes))],
    }


def merge_sizes(*ranges: Sizes | None) -> Sizes | None:
    """The range that holds all of some; None if there is none."""
    known = [one for one in ranges if one]
    if not known:
        return None
    return {key: [min(one[key][0] for one in known), max(one[key][1] for one in known)] for key in _KEYS}


def read_sizes(value: Any, *, folder: Any) -> Sizes | None:
    """The field of a folder's processor; None where it has none.

    Raises:
        UserError: it is not of the form that training writes.
    """
    if value is None or value == {}:
        return None

    def is_range(pair: Any) -> bool:
        whole = isinstance(pair, (list, tuple)) and len(pair) == 2 and all(type(one) is int for one in pair)
        return whole and 0 < pair[0] <= pair[1]

    if not isinstance(value, dict) or not all(is_range(value.get(key)) for key in _KEYS):
        raise UserError(
            f"{folder}: trained_sizes in processor_config.json is {str(value)[:80]!r}, expected "
            '{"pixels": [fewest, most], "sides": [shortest, longest]}; export the model again, or remove the field'
        )
    return {key: list(value[key]) for key in _KEYS}


def far_outside(size: tuple[int, int], seen: Sizes | None) -> str | None:
    """Why a picture is far outside the sizes of training; None if it is not, or they are not known.

    Args:
        size: (width, height) as the model sees it.
        seen: the folder's.
    """
    if seen is None:
        return None
    (fewest, most), (shortest, longest) = (seen[key] for key in _KEYS)
    pixels = size[0] * size[1]
    if most * FAR < pixels or pixels * FAR < fewest or longest * FAR < max(size) or min(size) * FAR < shortest:
        return (
            f"the model sees {size[0]}×{size[1]} pixels, {FAR_OUTSIDE} ({_range(fewest, most)} pixels, sides of "
            f"{_range(shortest, longest)})"
        )
    return None


def _range(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
