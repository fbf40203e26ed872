"""Bring anomalous and normal images of each dataset into a ratio by leaving some out.

Most datasets are mainly normal images that look alike (paper, section III). How many of them stay is decided a dataset
at a time; within it they are taken evenly, so that a category or a view with more images does not crowd out another.
Which ones is decided by a hash of the seed and the image's name: it does not depend on the table's order, and adding
images changes little about the choice among the old ones.

What is left out here is still good as a template: it stays in the pool.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from ...errors import UserError
from ..draws import rank
from ..dropped import ROW, Dropped
from .measures import Coded

__all__ = ["CUTS", "REBALANCED_COLUMNS", "parse_ratio", "quotas", "rebalance"]

#: What may be left out: normal images alone, or anomalous ones too where a dataset has too few normal ones.
CUTS = ("normal", "both")

#: The columns that `rebalance` reads.
REBALANCED_COLUMNS = ["image", "category", "view", "label", "defect", "source"]


def parse_ratio(text: str, *, name: str = "ratio") -> float:
    """`2:1` → 2.0 anomalous images for each normal one; `name` is the key's, for messages.

    Raises:
        UserError: not two positive numbers.
    """
    first, mark, second = text.partition(":")
    try:
        anomalous, normal = float(first), float(second)
    except ValueError:
        anomalous = normal = 0.0
    if not mark or not 0 < anomalous < float("inf") or not 0 < normal < float("inf"):
        raise UserError(f"{name} is {text!r}, expected ANOMALOUS:NORMAL as in 1:1 or 2:1")
    return anomalous / normal


def rebalance(
    rows: pa.Table, *, ratio: float, seed: int = 0, cut: str = "normal", among: np.ndarray | None = None
) -> dict[int, dict]:
    """Which rows to leave out.

    Args:
        rows: `REBALANCED_COLUMNS` of whole datasets.
        ratio: anomalous images for each normal one, in each dataset (`source`) that has both.
        seed: of the choice.
        cut: one of `CUTS`.
        among: the rows that count, all by default.

    Returns:
        Row → its record: reason `rebalanced`, value and limit the number of its label in the dataset, before and
        after.

    Raises:
        ValueError: `ratio` or `cut` does not exist.
    """
    if not 0 < ratio < float("inf") or cut not in CUTS:
        raise ValueError(f"ratio {ratio}, cut {cut!r}: expected a positive number and one of {CUTS}")
    among = np.arange(rows.num_rows) if among is None else np.asarray(among)
    columns = {name: Coded(rows[name]) for name in REBALANCED_COLUMNS}
    sides: dict[str, dict[str, list[int]]] = {}
    for row in among.tolist():
        side = sides.setdefault(columns["source"][row], {"normal": [], "anomalous": []})
        side[columns["label"][row]].append(row)
    drops: dict[int, dict] = {}
    for side in sides.values():
        normal, anomalous = side["normal"], side["anomalous"]
        if not normal or not anomalous:
            continue
        wanted = {"normal": min(len(normal), round(len(anomalous) / ratio)), "anomalous": len(anomalous)}
        if cut == "both":
            wanted["anomalous"] = min(len(anomalous), round(len(normal) * ratio))
        for label, members in side.items():
            kept = set(_choose(members, wanted[label], columns, anomalous if label == "normal" else None, seed))
            for row in members:
                if row not in kept:
                    found = {name: columns[name][row] for name in ROW}
                    drops[row] = Dropped.row("rebalance", found, "rebalanced", len(members), wanted[label]).line()
    return drops


def quotas(total: int, weights: Sequence[float], capacities: Sequence[int]) -> list[int]:
    """Share `total` among strata by weight, none beyond its capacity; what one cannot take goes to the others.

    Args:
        total: at most the sum of the capacities.
        weights: not negative; where all that still have room weigh nothing, they count alike.
        capacities: of each stratum.

    Returns:
        Integers that add up to `total`.

    Raises:
        ValueError: `total` is negative or more than fits.
    """
    if not 0 <= total <= sum(capacities):
        raise ValueError(f"{total} do not fit into {sum(capacities)}")
    result = [0] * len(weights)
    while (left := total - sum(result)) > 0:
        free = [index for index, room in enumerate(capacities) if result[index] < room]
        weight = sum(weights[index] for index in free)
        shares = {index: left * weights[index] / weight if weight else left / len(free) for index in free}
        given = 0
        for index in free:
            take = min(int(shares[index]), capacities[index] - result[index])
            result[index] += take
            given += take
        if not given:  # less than one each: the largest shares first, the earlier of equals
            for index in sorted(free, key=lambda one: (-shares[one], one))[:left]:
                result[index] += 1
    return result


def _choose(members: list[int], wanted: int, columns: dict, like: list[int] | None, seed: int) -> list[int]:
    """`wanted` of the rows, from each category, view (and defect, of anomalous ones) its part.

    Normal images are shared out as the anomalous ones `like` are, where a category has any: so each category comes
    near the ratio by itself.
    """
    if wanted == len(members):
        return members

    def stratum(row: int, *, defect: bool) -> tuple[str, ...]:
        names = ("category", "view", "defect") if defect else ("category", "view")
        return tuple(columns[name][row] for name in names)

    strata: dict[tuple[str, ...], list[int]] = {}
    for row in members:
        strata.setdefault(stratum(row, defect=like is None), []).append(row)
    order = sorted(strata)
    weights = [float(len(strata[key])) for key in order]
    if like is not None:
        counts = dict.fromkeys(order, 0.0)
        for row in like:
            key = stratum(row, defect=False)
            if key in counts:
                counts[key] += 1
        weights = [counts[key] for key in order]
    chosen = []
    for key, quota in zip(order, quotas(wanted, weights, [len(strata[key]) for key in order]), strict=True):
        ranked = sorted(strata[key], key=lambda row: rank(seed, columns["image"][row]))
        chosen += ranked[:quota]
    return chosen
