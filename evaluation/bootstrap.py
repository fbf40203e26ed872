"""How far a benchmark's number would move with other images: a bootstrap of ratios of sums.

Means, accuracies and a pooled F1 are all a sum over images divided by another sum over them, so one way of drawing
serves them all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["interval", "ratio_draws"]


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
