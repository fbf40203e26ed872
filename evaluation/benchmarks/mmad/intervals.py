"""How far MMAD's numbers would move with other images: a bootstrap."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from .scoring import DISCRIMINATION, average_rows, is_letter, is_normal, sub_task

__all__ = ["intervals", "resampled"]


def resampled(
    answers: Iterable[Mapping[str, Any]], *, samples: int = 1000, seed: int = 0, invalid: str = "left out"
) -> dict[str, np.ndarray]:
    """MMAD's last row for `samples` draws of the images, with replacement.

    Images are drawn, not questions: the questions about one image stand or fall together. They are drawn within each
    dataset, and its normal and anomalous images each for themselves, so every draw is made up like the benchmark. The
    same seed draws the same images whatever the answers, which is what comparing two runs needs.

    Args:
        answers, invalid: as `scoring.score`.

    Returns:
        Column (sub-tasks, `average`, `precision`, `recall`, `f1`) → percent for each draw, (samples,). Columns
        without questions are left out.
    """
    answers = list(answers)
    tasks = list(dict.fromkeys(sub_task(answer["question_type"]) for answer in answers))
    strata: dict[str, dict[bool, dict[str, np.ndarray]]] = {}
    for answer in answers:
        image, given, correct = answer["image"], answer["gpt_answer"], answer["correct_answer"]
        normal = is_normal(image)
        images = strata.setdefault(image.split("/")[0], {True: {}, False: {}})[normal]
        cells = images.setdefault(image, np.zeros((2, len(tasks))))  # right, counted
        readable = is_letter(given) and is_letter(correct)
        if readable or invalid != "left out":
            cells[:, tasks.index(sub_task(answer["question_type"]))] += (readable and given == correct, 1)

    dice = np.random.default_rng(seed)
    rows = []
    for dataset in sorted(strata):
        sums = {}
        for normal in (True, False):
            images = strata[dataset][normal]
            # By name: the draw does not depend on the order in which answers came.
            table = np.array([images[name] for name in sorted(images)]).reshape(len(images), 2 * len(tasks))
            drawn = dice.multinomial(len(images), np.full(len(images), 1 / len(images)), samples) if images else None
            total = drawn @ table if images else np.zeros((samples, 2 * len(tasks)))
            sums[normal] = total.reshape(samples, 2, len(tasks))
        rows.append(_row(sums, tasks))
    return {name: values for name, values in average_rows(rows).items() if values is not None}


def _row(sums: Mapping[bool, np.ndarray], tasks: list[str]) -> dict[str, Any]:
    both = sums[True] + sums[False]
    row: dict[str, Any] = dict(zip(tasks, 100 * _ratio(both[:, 0], both[:, 1]).T, strict=True))
    precision = recall = f1 = None
    if DISCRIMINATION in tasks:
        place = tasks.index(DISCRIMINATION)
        shares = {normal: _ratio(part[:, 0, place], part[:, 1, place]) for normal, part in sums.items()}
        row[DISCRIMINATION] = 100 * (shares[True] + shares[False]) / 2
        hits = sums[False][:, 0, place]
        alarms = sums[True][:, 1, place] - sums[True][:, 0, place]
        precision, recall = 100 * _ratio(hits, hits + alarms), 100 * shares[False]
        f1 = _ratio(2 * precision * recall, precision + recall)
    average = np.mean([row[task] for task in tasks], axis=0)
    return {**row, "average": average, "precision": precision, "recall": recall, "f1": f1}


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.zeros_like(a, dtype=float), where=b > 0)


def intervals(answers: Iterable[Mapping[str, Any]], **options: Any) -> dict[str, list[float]]:
    """Column → [2.5th, 97.5th percentile] of `resampled`."""
    drawn = resampled(answers, **options)
    return {name: [float(value) for value in np.percentile(values, (2.5, 97.5))] for name, values in drawn.items()}
