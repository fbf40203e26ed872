"""How far a benchmark's number would move with other images: a bootstrap of ratios of sums.

Means, accuracies and a pooled F1 are all a sum over images divided by another sum over them, so one way of drawing
serves them all: of one run for its intervals, of two runs over the same images for the interval of their difference.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Difference", "Unit", "interval", "ratio_differences", "ratio_draws", "strata_of"]

#: (dataset, what is drawn, column → (numerator, denominator)) of a question.
Unit = tuple[str, str, Mapping[str, tuple[float, float]]]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One column: both runs' percent on the common questions, `second` − `first`, and its 95 % interval."""

    column: str
    first: float
    second: float
    low: float
    high: float

    @property
    def value(self) -> float:
        """Points by which the second run is better."""
        return self.second - self.first

    @property
    def clear(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


def strata_of(units: Iterable[Unit], columns: Sequence[Hashable]) -> list[np.ndarray]:
    """What is drawn, for `ratio_draws`: each dataset a stratum, what its questions add summed over what is drawn
    together (an image: the questions about it stand or fall together).

    Args:
        units: of the questions.
        columns: which; of the others nothing is added.
    """
    places = {column: place for place, column in enumerate(columns)}
    tables: dict[Any, dict[Any, np.ndarray]] = {}
    for dataset, drawn, cells in units:
        table = tables.setdefault(dataset, {}).setdefault(drawn, np.zeros((len(columns), 2)))
        for column, parts in cells.items():
            if column in places:
                table[places[column]] += parts
    # By name: the draw does not depend on the order of the answers.
    return [np.array([images[name] for name in sorted(images)]) for _, images in sorted(tables.items())]


def ratio_draws(strata: Sequence[np.ndarray], *, samples: int = 1000, seed: int = 0) -> np.ndarray:
    """Ratios for `samples` draws of the images, with replacement, each stratum for itself.

    The same seed draws the same images whatever their values, so that two runs over the same images can be compared.

    Args:
        strata: one array for each kind of image, (images, columns, 2): what an image adds to a column's numerator and
            to its denominator.

    Returns:
        (samples, columns); NaN where a draw's denominator is 0.
    """
    dice = np.random.default_rng(seed)
    total = 0.0
    for table in strata:
        count = len(table)
        if count:
            drawn = dice.multinomial(count, np.full(count, 1 / count), samples)
            total = total + np.einsum("si,icp->scp", drawn, table, optimize=True)
    top, bottom = total[..., 0], total[..., 1]
    return np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom > 0)


def interval(draws: np.ndarray) -> list[float] | None:
    """[2.5th, 97.5th percentile] of draws, (samples,).

    Draws without a value (of few images, none had such a question) are left out; None if they are the most.
    """
    known = draws[~np.isnan(draws)]
    if 2 * len(known) <= len(draws):
        return None
    return [float(value) for value in np.percentile(known, (2.5, 97.5))]


def ratio_differences(
    runs: Sequence[Sequence[Unit]],
    *,
    columns: Sequence[str],
    samples: int,
    seed: int,
    means: Mapping[str, Sequence[str]] | None = None,
) -> list[Difference]:
    """Differences of columns that are sums of numerators over sums of denominators, in percent.

    Args:
        runs: two lists of units, the same questions in the same order.
        columns: which; those that either run lacks are left out.
        samples, seed: of the draws.
        means: further columns that are the mean of some of these, such as a balanced accuracy.
    """
    both = []
    for (dataset, drawn, one), (_, _, other) in zip(*runs, strict=True):
        common = one.keys() & other.keys()
        cells = {(run, column): found[column] for run, found in enumerate((one, other)) for column in common}
        both.append((dataset, drawn, cells))
    strata = strata_of(both, [(run, column) for run in (0, 1) for column in columns])
    draws = 100 * ratio_draws(strata, samples=samples, seed=seed).reshape(samples, 2, len(columns))
    sums = sum(table.sum(axis=0) for table in strata).reshape(2, len(columns), 2)
    found = {}
    for place, column in enumerate(columns):
        if (sums[:, place, 1] > 0).all():
            found[column] = (100 * sums[:, place, 0] / sums[:, place, 1], draws[:, :, place])
    for column, parts in (means or {}).items():
        if all(part in found for part in parts):
            found[column] = tuple(np.mean([found[part][kind] for part in parts], axis=0) for kind in (0, 1))
    return [_difference(column, *values) for column, values in found.items()]


def _difference(column: str, plain: np.ndarray, draws: np.ndarray) -> Difference:
    """From both runs' values (2,) and their draws (samples, 2)."""
    # A draw that has no question of this column says nothing about it.
    known = draws[~np.isnan(draws).any(axis=1)]
    low, high = np.percentile(known[:, 1] - known[:, 0], (2.5, 97.5))
    return Difference(column=column, first=float(plain[0]), second=float(plain[1]), low=float(low), high=float(high))
