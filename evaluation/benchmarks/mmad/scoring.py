"""MMAD's scores, by the benchmark's own rule.

Accuracy is taken per dataset (the first folder of an image's path) and sub-task. Anomaly discrimination is the mean of
the accuracy on normal and on anomalous images. A dataset's average is the mean over the sub-tasks, and the last row
the mean over the datasets, precision, recall and F1 included. Whatever is not a letter from A to E is left out of the
count, as MMAD does (its script, removing entries from the list that it walks through, also passes over the entry after
each; this is not repeated here). A sub-task that other datasets have counts as 0 in a dataset without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from adcopilot.errors import UserError
from adcopilot.kinds import is_good

from .choices import LETTERS

__all__ = ["DATASETS", "DISCRIMINATION", "SUB_TASKS", "TYPES", "average_rows", "complete_row", "is_letter",
           "is_normal", "plain_type", "score", "sub_task", "task_title"]  # fmt: skip

DISCRIMINATION = "Anomaly Detection"
SUB_TASKS = (
    DISCRIMINATION,
    "Defect Classification",
    "Defect Localization",
    "Defect Description",
    "Defect Analysis",
    "Object Classification",
    "Object Analysis",
)
DATASETS = ("DS-MVTec", "MVTec-LOCO", "VisA", "GoodsAD")
_MERGED = {"Object Structure": "Object Analysis", "Object Details": "Object Analysis"}
#: What MMAD's files call its questions, and what tables do.
TYPES = (*SUB_TASKS, *_MERGED)


def plain_type(text: str) -> str:
    """A question's type without what does not matter in it: case, spaces, underscores."""
    return " ".join(text.replace("_", " ").casefold().split())


def sub_task(question_type: str) -> str:
    """The column of a question: questions about an object's structure and details are one sub-task."""
    return _MERGED.get(question_type, question_type)


def task_title(task: str) -> str:
    """A sub-task as tables call it: detection is discrimination in the paper."""
    return task.replace("Detection", "Discrimination")


def is_normal(image: str) -> bool:
    """Whether an image is a normal one by its path: it lies in a folder `good` of its dataset, as in MMAD, or its own
    folder has another name that says so (`kinds.is_good`), as in one's own sets.

    MMAD's own script takes "good" anywhere in a path, which is the same for its images, and not for `goodyear`.
    """
    folders = image.casefold().split("/")[1:-1]
    return "good" in folders or any(map(is_good, folders[-1:]))


def score(
    answers: Iterable[Mapping[str, Any]], *, invalid: str = "left out", depth: int = 1, empty: float | None = 0.0
) -> dict[str, Any]:
    """Score answers of MMAD's answer-file form.

    Args:
        answers: with `image` (path from MMAD's root), `question_type`, `correct_answer` and `gpt_answer` (letters).
        invalid: what happens to answers that are no letter: `left out` of the count as in MMAD, or `wrong`.
        depth: how many folders of the path make a row: 1 is the dataset, 2 dataset and category.
        empty: accuracy of a sub-task that a row has no questions of: 0 is MMAD's rule; None leaves it out of the
            row's average.

    Returns:
        `datasets`: row → sub-task → percent, with `average`, `precision`, `recall` and `f1` (None where no question is
        about discrimination); `average`: the same, over the rows; `questions` and `invalid`, how many; `counts`: row →
        sub-task → [right, counted].

    Raises:
        UserError: there are no answers.
    """
    right: dict[tuple[str, str, bool], int] = {}
    total: dict[tuple[str, str, bool], int] = {}
    rows: dict[str, None] = {}
    tasks: dict[str, None] = {}
    questions = unreadable = 0
    for answer in answers:
        row = "/".join(answer["image"].split("/")[:depth])
        task = sub_task(answer["question_type"])
        rows[row] = tasks[task] = None
        questions += 1
        given, correct = answer["gpt_answer"], answer["correct_answer"]
        readable = is_letter(given) and is_letter(correct)
        unreadable += not readable
        if not readable and invalid == "left out":
            continue
        cell = (row, task, is_normal(answer["image"]))
        total[cell] = total.get(cell, 0) + 1
        right[cell] = right.get(cell, 0) + (readable and given == correct)
    if not questions:
        raise UserError("no answers to score; expected at least one")

    def share(row: str, task: str, *kinds: bool) -> float | None:
        count = sum(total.get((row, task, kind), 0) for kind in kinds)
        return sum(right.get((row, task, kind), 0) for kind in kinds) / count if count else None

    columns = _in_order(tasks, SUB_TASKS)
    table = {}
    for row in _in_order(rows, DATASETS):
        accuracies: dict[str, float | None] = {}
        precision = recall = None
        for task in columns:
            value = share(row, task, True, False)
            if task == DISCRIMINATION:
                normal, anomalous = share(row, task, True), share(row, task, False)
                if empty is None:
                    known = [part for part in (normal, anomalous) if part is not None]
                    value = sum(known) / len(known) if known else None
                else:
                    value = ((normal or 0.0) + (anomalous or 0.0)) / 2
                hits = right.get((row, task, False), 0)
                alarms = total.get((row, task, True), 0) - right.get((row, task, True), 0)
                precision = 100 * hits / (hits + alarms) if hits + alarms else 0.0
                recall = 100 * (anomalous or 0.0)
            accuracies[task] = empty if value is None else 100 * value
        table[row] = complete_row(accuracies, precision=precision, recall=recall)
    counts = {
        row: {
            task: [sum(cells.get((row, task, kind), 0) for kind in (True, False)) for cells in (right, total)]
            for task in columns
        }
        for row in table
    }
    return {
        "datasets": table,
        "average": average_rows(list(table.values())),
        "questions": questions,
        "invalid": unreadable,
        "counts": counts,
    }


def complete_row(
    accuracies: Mapping[str, float | None], *, precision: float | None, recall: float | None
) -> dict[str, float | None]:
    """A row of the table: the sub-tasks, their mean as `average`, `precision`, `recall` and `f1`; all in percent."""
    known = [value for value in accuracies.values() if value is not None]
    f1 = None
    if precision is not None and recall is not None:
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return {
        **accuracies,
        "average": sum(known) / len(known) if known else None,
        "precision": precision,
        "recall": recall,
        "f1": f1,
    }


def average_rows(rows: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """The mean of each column over the rows that have it: the last row of MMAD's table."""
    mean: dict[str, float | None] = {}
    for column in rows[0]:
        known = [row[column] for row in rows if row[column] is not None]
        mean[column] = sum(known) / len(known) if known else None
    return mean


def is_letter(value: Any) -> bool:
    """Whether an answer is one of the letters that MMAD's scoring knows."""
    return isinstance(value, str) and len(value) == 1 and value in LETTERS


def _in_order(found: Iterable[str], order: Sequence[str]) -> list[str]:
    found = list(found)
    return [name for name in order if name in found] + [name for name in found if name not in order]
