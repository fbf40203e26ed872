"""How good scores and verdicts are on labelled pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .ranking import auroc, average_precision
from .thresholds import share_interval

__all__ = ["LEAST_BAD", "LEAST_GAIN", "choose_source", "measures"]

#: Of defective pictures from which on a source of verdicts is chosen by numbers, and what it has to gain in AUROC.
LEAST_BAD = 8
LEAST_GAIN = 0.02
#: Of a normal distribution, for 95 %.
Z = 1.959964


def measures(
    scores: Sequence[float | None],
    bad: Sequence[bool],
    *,
    verdicts: Sequence[bool | None],
    kinds: Sequence[str | None] = (),
) -> dict[str, Any]:
    """What verdicts get right, with 95 % intervals.

    Args:
        scores: of the pictures; None where there is none.
        bad: whether each is defective.
        verdicts: whether each was found anomalous; None is undecided.
        kinds: of defect, None for good pictures.

    Returns:
        For `inspection.json` and the report; shares are None where there is nothing to have a share of.
    """
    bad = np.asarray(bad, bool)
    undecided = np.array([one is None for one in verdicts], bool)
    found = np.array([bool(one) for one in verdicts], bool)
    known = np.array([score is not None for score in scores], bool)
    values = np.array([0.0 if score is None else score for score in scores], float)[known]
    missed, alarms = int((bad & ~found & ~undecided).sum()), int((~bad & found).sum())
    hits, passed = int((bad & found).sum()), int((~bad & ~found & ~undecided).sum())
    result: dict[str, Any] = {
        "good": int((~bad).sum()),
        "defective": int(bad.sum()),
        "undecided": int(undecided.sum()),
        "missed": missed,
        "missed_share": _share(missed, hits + missed),
        "false_alarms": alarms,
        "false_alarm_share": _share(alarms, alarms + passed),
        "auroc": auroc(values, bad[known]),
        "auroc_interval": _auroc_interval(values, bad[known]),
        "average_precision": average_precision(values, bad[known]) if (~bad[known]).any() else None,
        "f1": 2 * hits / (2 * hits + missed + alarms) if hits + missed else None,
        "balanced_accuracy": (hits / (hits + missed) + passed / (passed + alarms)) / 2
        if hits + missed and passed + alarms
        else None,
    }
    of_kind = {kind: np.array([one == kind for one in kinds]) for kind in sorted({one for one in kinds if one})}
    result["kinds"] = {
        kind: {
            "pictures": int(these.sum()),
            "found": int((these & found).sum()),
            "undecided": int((these & undecided).sum()),
        }
        for kind, these in of_kind.items()
    }
    return result


def choose_source(
    by_source: Mapping[str, Sequence[float | None]], bad: Sequence[bool], *, default: str
) -> tuple[str, str]:
    """Whose score gives the verdict, and why, in words.

    Args:
        by_source: the same pictures' scores of each source; `either` is the larger of the two.
        bad: whether each picture is defective.
        default: taken unless another is clearly better.
    """
    if len(by_source) == 1:
        return default, f"{default} is all there is"
    number = int(np.sum(bad))
    if number < LEAST_BAD:
        return default, (
            f"{number} defective pictures are too few to choose by ({LEAST_BAD} are needed), so it is the {default}, "
            "the default"
        )
    ranks = {}
    for name, scores in by_source.items():
        known = [score is not None for score in scores]
        ranks[name] = auroc([s for s in scores if s is not None], [b for b, k in zip(bad, known, strict=True) if k])
    told = ", ".join(f"{name} {value:.3f}" for name, value in ranks.items() if value is not None)
    best = max((name for name in ranks if ranks[name] is not None), key=lambda name: ranks[name], default=default)
    if max((one for one in ranks.values() if one is not None), default=0) <= 0.5:
        return default, f"AUROC on the pictures held out: {told}; none tells good from defective, so it is the default"
    if ranks.get(default) is None or (best != default and ranks[best] >= ranks[default] + LEAST_GAIN):
        return best, f"AUROC on the pictures held out: {told}; {best} is better than {default} by {LEAST_GAIN} or more"
    return default, f"AUROC on the pictures held out: {told}; none is better than {default} by {LEAST_GAIN}"


def _share(count: int, total: int) -> dict[str, Any] | None:
    if not total:
        return None
    low, high = share_interval(count, total)
    return {"value": count / total, "interval": [round(low, 4), round(high, 4)]}


def _auroc_interval(scores: np.ndarray, bad: np.ndarray) -> list[float] | None:
    """Newcombe's score interval (2006, method 5): it has a width where all is right, too.

    All shares whose own standard error (Hanley and McNeil's) reaches the one that was found.
    """
    found, defective = auroc(scores, bad), int(bad.sum())
    good = len(bad) - defective
    if found is None:
        return None
    from scipy.optimize import brentq

    def apart(share: float) -> float:
        more = (good + defective) / 2 - 1
        spread = share * (1 - share) * (1 + more * ((1 - share) / (2 - share) + share / (1 + share)))
        return (found - share) ** 2 - Z**2 * spread / (good * defective)

    low = 0.0 if found == 0 else brentq(apart, 1e-12, found - 1e-12) if apart(1e-12) > 0 else 0.0
    high = 1.0 if found == 1 else brentq(apart, found + 1e-12, 1 - 1e-12) if apart(1 - 1e-12) > 0 else 1.0
    return [round(float(low), 4), round(float(high), 4)]
