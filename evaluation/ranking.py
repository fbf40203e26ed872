"""How well a model's first word ranks anomalous images above normal ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from adcopilot.line.ranking import auroc, average_precision

__all__ = ["anomaly_score", "by_dataset"]


def anomaly_score(logprobs: Mapping[str, float] | None, options: Mapping[str, str], yes: str) -> float | None:
    """Probability of the option that says "defective" among all options, 0 to 1.

    Args:
        logprobs: letter → natural logarithm of its probability; letters that an endpoint left out count as 0.
        options: letter → text.
        yes: the letter that says that there is a defect.

    Returns:
        None where no option's probability is known.
    """
    known = {letter: logprobs[letter] for letter in options if letter in (logprobs or {})}
    if not known:
        return None
    highest = max(known.values())
    shares = {letter: math.exp(value - highest) for letter, value in known.items()}
    return shares.get(yes, 0.0) / sum(shares.values())


def by_dataset(scores: Iterable[tuple[float, str, bool]]) -> dict[str, dict[str, float | None]]:
    """Dataset → `auroc` and `average_precision`, percent; `average` is the mean over datasets that have them.

    Args:
        scores: of each image, (score, dataset, whether it is anomalous).

    Returns:
        Nothing of no scores.
    """
    groups: dict[str, list[tuple[float, bool]]] = {}
    for value, dataset, anomalous in scores:
        groups.setdefault(dataset, []).append((value, anomalous))
    table: dict[str, dict[str, float | None]] = {}
    for dataset, members in groups.items():
        values, labels = zip(*members, strict=True)
        row = {"auroc": auroc(values, labels), "average_precision": average_precision(values, labels)}
        table[dataset] = {column: None if value is None else 100 * value for column, value in row.items()}
    if table:
        known = {column: [row[column] for row in table.values() if row[column] is not None] for column in row}
        table["average"] = {column: sum(some) / len(some) if some else None for column, some in known.items()}
    return table
