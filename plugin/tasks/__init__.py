"""Verifiable tasks, each whole in one file: question, right answer, parser, reward, score.

A new task is a file here and its line in `TASKS`: recipes name it, `adcopilot grpo` rewards it, and `adcopilot eval
records` scores it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import UserError
from .choice import CHOICE
from .count import COUNT
from .locate import LOCATE
from .task import PairTruth, Task
from .verdict import VERDICT

__all__ = ["TASKS", "PairTruth", "Task", "task_of"]

#: By name, in the order in which an answer's form is asked for where a record does not say its task.
TASKS: dict[str, Task] = {task.name: task for task in (CHOICE, LOCATE, COUNT, VERDICT)}


def task_of(record: Mapping[str, Any]) -> Task:
    """The task of a record: what it says (`task`; of `think`, `kind`), else what its right answer looks like.

    Raises:
        UserError: the answer has the form of none, or not that of the task it names.
    """
    answer, said = record.get("answer"), record.get("task")
    said = record.get("kind") if said == "think" else said
    named = TASKS.get(said) if isinstance(said, str) else None
    if isinstance(answer, str):
        for task in [named] if named else TASKS.values():
            if task.is_answer(answer):
                return task
    forms = "the letter of an option, a JSON list of boxes, a number, or Yes or No"
    raise UserError(
        f"record {record.get('key', '(without key)')}: 'answer' is {str(answer)[:60]!r}, expected {forms}; use the "
        f"{', '.join(TASKS)} or think records of `adcopilot data build`"
    )
