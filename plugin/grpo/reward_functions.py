"""Equation 1 as the reward functions that TRL adds up, one for each of its terms.

A function that does not apply to a record answers None: TRL leaves it out of the sum and of the logged mean, so
`rewards/choice/mean` is the accuracy over multiple-choice prompts and `rewards/boxes/mean` the mean BBox-Mask IoU over
localisation prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..boxes import map_text_boxes
from ..tasks import TASKS, Task, task_of
from .rewards import format_reward

__all__ = ["answer_text", "reward_functions"]

RewardFunction = Callable[..., list[float | None]]


def answer_text(
    completion: Sequence[Mapping[str, Any]], model_size: tuple[int, int], query_size: tuple[int, int]
) -> str:
    """A completion's text with its boxes in pixels of the original query.

    Args:
        completion: messages of which the last is the answer.
        model_size, query_size: (width, height) of the query as the model saw it, and of the file.
    """
    return map_text_boxes(completion[-1]["content"], model_size, query_size)


def reward_functions(
    *, format_weight: float, media_dir: str | Path, tasks: Collection[str], without: Collection[str] = ()
) -> tuple[list[RewardFunction], list[float]]:
    """Functions for TRL's `reward_funcs`, and their `reward_weights`.

    Args:
        format_weight: equation 1's lambda.
        media_dir: the folder that the records' paths start from.
        tasks: names of those that the records have; each has a function.
        without: names of tasks that have none (Table VI).
    """

    def format(completions, **_: Any) -> list[float]:
        return [format_reward(completion[-1]["content"]) for completion in completions]

    def of(task: Task) -> RewardFunction:
        def right(completions, record, model_size, query_size, **_: Any) -> list[float | None]:
            return [
                task.reward(answer_text(completion, seen, size), one, media_dir) if task_of(one) is task else None
                for completion, one, seen, size in zip(completions, record, model_size, query_size, strict=True)
            ]

        right.__name__ = task.title  # TRL logs it by this
        return right

    functions = [format, *(of(task) for task in TASKS.values() if task.name in tasks and task.name not in without)]
    return functions, [format_weight] + [1.0] * (len(functions) - 1)
