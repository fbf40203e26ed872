"""A threshold for scores, and what the numbers say of it.

From good pictures alone it is twice the median of their scores, which held from 5 to 40 pictures on circuit boards and
on the sample set (docs/line.md); from labelled ones it is the best F1, or what keeps misses or false alarms below a
share. All of it is about the pictures at hand: the intervals (Clopper and Pearson's, 95 %) say how far others may
differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UserError

__all__ = ["Threshold", "from_good", "from_labels", "share_interval", "with_most_false_alarms", "with_most_missed"]

#: Of a map: twice the median of good scores. Two pictures that are all but equal still differ by noise.
TIMES_MEDIAN = 2.0
LEAST = 0.02


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """A threshold, how it was chosen, and what has to be said with it.

    Attributes:
        value: a score from here on is anomalous.
        chosen: how, in words.
        warnings: sentences about what the numbers do not support.
    """

    value: float
    chosen: str
    warnings: tuple[str, ...] = ()


def from_good(scores: Sequence[float], *, of_map: bool) -> Threshold:
    """A threshold from good pictures alone.

    Args:
        scores: of good pictures, each compared with another good one; at least one.
        of_map: whether they are a map's, whose size depends on the part; a model's lie between 0 and 1 and its own
            threshold is 0.5.
    """
    scores = np.asarray(scores, float)
    if of_map:
        value, chosen = (
            max(TIMES_MEDIAN * float(np.median(scores)), LEAST),
            f"twice the median score of {len(scores)} good pictures",
        )
    else:
        value, chosen = 0.5, "the model's own, as there are no defective pictures"
    above = int((scores >= value).sum())
    warnings = []
    if above:
        low, high = share_interval(above, len(scores))
        warnings.append(
            f"{above} of the {len(scores)} good pictures are above it: false alarms of {low:.0%} to {high:.0%} are to "
            "be expected"
        )
    if len(scores) < 5:
        warnings.append(f"{len(scores)} good pictures are few for a threshold; from 5 on it was steady")
    return Threshold(value=value, chosen=chosen, warnings=tuple(warnings))


def from_labels(good: Sequence[float], bad: Sequence[float]) -> Threshold:
    """The threshold with the best F1, in the middle between the two scores that it parts."""
    good, bad = np.asarray(good, float), np.asarray(bad, float)
    best = (-1.0, 0.0)
    for value in _between(np.concatenate([good, bad])):
        hits = int((bad >= value).sum())
        f1 = 2 * hits / (hits + int((good >= value).sum()) + len(bad))
        best = max(best, (f1, value))
    warnings = []
    if len(bad) < 8:
        warnings.append(f"{len(bad)} defective pictures are few: the best threshold for others may be another")
    chosen = f"the best F1 ({best[0]:.3f}) on {len(good)} good and {len(bad)} defective pictures"
    return Threshold(value=best[1], chosen=chosen, warnings=tuple(warnings))


def with_most_missed(good: Sequence[float], bad: Sequence[float], share: float) -> Threshold:
    """The highest threshold that misses at most `share` of the defective pictures.

    Raises:
        UserError: there are none.
    """
    if not len(bad):
        raise UserError("--max-missed needs pictures of defective parts; give --bad DIR, or --max-false-alarms")
    bad = np.sort(np.asarray(bad, float))
    may_miss = int(share * len(bad) + 1e-9)
    value = float(bad[may_miss])  # so many are below it
    others = np.asarray(good, float)
    below = others[others < value]
    if len(below):  # in the middle of the gap, on the safe side of no picture at hand
        value = float(_middle(below.max(), value))
    missed = int((bad < value).sum())
    return _promised("missed", missed, len(bad), share, value, what="defective")


def with_most_false_alarms(good: Sequence[float], share: float, *, most: float) -> Threshold:
    """The lowest threshold at which at most `share` of the good pictures are above it; none is higher than `most`."""
    good = np.sort(np.asarray(good, float))[::-1]
    may_alarm = int(share * len(good) + 1e-9)
    value = min(float(np.nextafter(good[may_alarm], np.inf)), most)  # so many are above it
    alarms = int((good >= value).sum())
    return _promised("false alarms", alarms, len(good), share, value, what="good")


def _promised(name: str, count: int, total: int, share: float, value: float, *, what: str) -> Threshold:
    low, high = share_interval(count, total)
    warnings = []
    if high > share:
        need = int(np.ceil(np.log(0.05) / np.log1p(-share))) if share > 1e-6 else 0
        more = f"; about {need} would be needed, none of them {'missed' if name == 'missed' else 'above it'}"
        warnings.append(
            f"{total} {what} pictures cannot show that at most {share:.2%} are {name}: {count} of {total} still "
            f"allows up to {high:.1%}{more if need else ''}"
        )
    chosen = f"at most {share:.2%} {name}: {count} of {total} {what} pictures ({low:.1%} to {high:.1%})"
    return Threshold(value=value, chosen=chosen, warnings=tuple(warnings))


def share_interval(count: int, total: int) -> tuple[float, float]:
    """Clopper and Pearson's 95 % interval of a share; (0, 1) of nothing."""
    from scipy.stats import binomtest

    if not total:
        return 0.0, 1.0
    found = binomtest(count, total).proportion_ci(method="exact")
    return float(found.low), float(found.high)


def _between(scores: np.ndarray) -> list[float]:
    """Values that part the scores in every way, from the lowest on."""
    values = np.unique(scores)
    return [float(values[0]), *_middle(values[:-1], values[1:]).tolist()]


def _middle(low: Any, high: Any) -> Any:
    """Half-way from `low` to `high`, above `low` where no number lies between the two."""
    middle = (low + high) / 2
    return np.where(middle > low, middle, high)
