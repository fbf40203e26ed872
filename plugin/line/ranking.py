"""How well a score ranks anomalous images above normal ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["auroc", "average_precision"]


def auroc(scores: Sequence[float], anomalous: Sequence[bool]) -> float | None:
    """Probability that an anomalous image has a higher score than a normal one, equals counted half.

    Returns:
        0 to 1; None where one of the two kinds is missing.
    """
    from scipy.stats import rankdata

    scores, anomalous = np.asarray(scores, float), np.asarray(anomalous, bool)
    positives = int(anomalous.sum())
    negatives = len(anomalous) - positives
    if not positives or not negatives:
        return None
    wins = rankdata(scores)[anomalous].sum() - positives * (positives + 1) / 2
    return float(wins / (positives * negatives))


def average_precision(scores: Sequence[float], anomalous: Sequence[bool]) -> float | None:
    """Area under the precision-recall steps: the mean precision over thresholds, weighted by the recall each adds.

    Images with equal scores pass a threshold together.

    Returns:
        0 to 1; None without an anomalous image.
    """
    scores, anomalous = np.asarray(scores, float), np.asarray(anomalous, bool)
    if not anomalous.any():
        return None
    values, place = np.unique(-scores, return_inverse=True)
    hits = np.cumsum(np.bincount(place, weights=anomalous, minlength=len(values)))
    taken = np.cumsum(np.bincount(place, minlength=len(values)))
    gained = np.diff(hits, prepend=0.0) / hits[-1]
    return float((gained * hits / taken).sum())
