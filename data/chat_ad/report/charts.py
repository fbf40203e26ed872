"""The numbers behind the page's bars."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .tally import LETTERS

__all__ = ["Bar", "Lengths", "Segment", "histogram", "lengths", "stacked", "uneven"]

#: Upper ends of the bars of a histogram of lengths, in characters; the last bar has none.
BOUNDS = (4, 16, 64, 256, 1_000, 4_000)

# What four equally likely letters exceed once in a thousand times (chi square, three degrees of freedom).
_CHANCE = 16.27


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A part of a bar: its colour's name, its count, and where it lies, in hundredths of the whole."""

    kind: str
    count: int
    x: float
    width: float


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A column: what it stands for, its count, its height in hundredths of the highest."""

    label: str
    count: int
    height: float


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Numbers of characters: the shortest, the middle one, one that 95 % do not exceed, the longest."""

    shortest: int
    median: int
    most: int
    longest: int


def stacked(counts: Mapping[str, int], *, kinds: Sequence[str], whole: int | None = None) -> list[Segment]:
    """A bar of parts side by side.

    Args:
        counts: by kind.
        kinds: their order.
        whole: what the full length stands for, the sum by default.
    """
    whole = whole or sum(counts.get(kind, 0) for kind in kinds)
    segments, x = [], 0.0
    for kind in kinds:
        if count := counts.get(kind, 0):
            width = 100 * count / whole
            segments.append(Segment(kind=kind, count=count, x=round(x, 3), width=round(width, 3)))
            x += width
    return segments


def histogram(counts: Counter[int]) -> list[Bar]:
    """Columns of lengths, each up to one of `BOUNDS`."""
    columns = [0] * (len(BOUNDS) + 1)
    for length, count in counts.items():
        columns[sum(length > bound for bound in BOUNDS)] += count
    highest = max(columns) or 1
    names = [f"{bound // 1_000}k" if bound >= 1_000 else str(bound) for bound in BOUNDS]
    labels = [f"≤ {name}" for name in names] + [f"> {names[-1]}"]
    return [
        # A column that has something in it is never invisible.
        Bar(label=label, count=count, height=round(max(100 * count / highest, 2), 2) if count else 0)
        for label, count in zip(labels, columns, strict=True)
    ]


def lengths(counts: Counter[int]) -> Lengths | None:
    """What is typical of lengths, None of none."""
    if not counts:
        return None
    return Lengths(
        shortest=min(counts), median=_quantile(counts, 0.5), most=_quantile(counts, 0.95), longest=max(counts)
    )


def uneven(letters: Counter[str]) -> bool:
    """Whether the four letters differ in number by more than chance explains."""
    total = sum(letters[letter] for letter in LETTERS)
    if total < 5 * len(LETTERS):  # too few for the test to mean anything
        return False
    expected = total / len(LETTERS)
    return sum((letters[letter] - expected) ** 2 / expected for letter in LETTERS) > _CHANCE


def _quantile(counts: Counter[int], share: float) -> int:
    """The least length that at least this share of the texts does not exceed."""
    total, seen = counts.total(), 0
    for length in sorted(counts):
        seen += counts[length]
        if seen >= share * total:
            return length
    return max(counts)
