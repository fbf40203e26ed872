"""The page's bars and histograms, and the numbers behind them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ...pages.charts import Point, Series, column_plot
from .tally import LETTERS

__all__ = ["Lengths", "Segment", "columns", "histogram", "lengths", "stacked", "uneven"]

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


def columns(counts: Counter[int]) -> list[int]:
    """How many lengths are up to each of `BOUNDS`, and how many are longer."""
    found = [0] * (len(BOUNDS) + 1)
    for length, count in counts.items():
        found[sum(length > bound for bound in BOUNDS)] += count
    return found


def histogram(title: str, counts: Counter[int]) -> Markup:
    """Columns of lengths as SVG."""
    names = [f"{bound // 1_000}k" if bound >= 1_000 else str(bound) for bound in BOUNDS]
    labels = [f"≤ {name}" for name in names] + [f"> {names[-1]}"]
    points = [Point(x=place, y=count) for place, count in enumerate(columns(counts))]
    return Markup(column_plot(title, labels, [Series(name="", points=points)], ground=False))


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
