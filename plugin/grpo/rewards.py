"""The rewards of stage 3 (the paper's equation 1): is the answer in its form, and is it right?

    R(x, y) = format_weight * R_fmt(y) + (1[C_pred = C_gt] for multiple choice | IoU(B_pred, M_gt) for localisation)

Both terms are verifiable: nothing is asked of a model, and no text is evaluated. The answer is scored whether or not
the form is kept, as the equation has it; how, its task says (`adcopilot.tasks`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..boxes import map_text_boxes
from ..tasks import TASKS, Task, task_of

__all__ = ["answer_text", "format_reward", "reward_functions", "score"]

RewardFunction = Callable[..., list[float | None]]

_TAGS = ("<think>", "</think>", "<answer>", "</answer>")


def format_reward(completion: str) -> float:
    """1 for `<think>…</think><answer>…</answer>` and nothing else but white space, 0 otherwise.

    Each tag stands there once, in this order and in lower case, and neither part is empty: a text that mentions the
    tags, repeats them or goes on after the answer has not kept the form.
    """
    if any(completion.count(tag) != 1 for tag in _TAGS):
        return 0.0
    starts = [completion.index(tag) for tag in _TAGS]
    if starts != sorted(starts):
        return 0.0
    ends = [start + len(tag) for start, tag in zip(starts, _TAGS, strict=True)]
    outside = completion[: starts[0]] + completion[ends[1] : starts[2]] + completion[ends[3] :]
    reasoning, answer = completion[ends[0] : starts[1]], completion[ends[2] : starts[3]]
    return float(not outside.strip() and bool(reasoning.strip()) and bool(answer.strip()))


def score(
    completion: str,
    record: Mapping[str, Any],
    *,
    format_weight: float,
    media_dir: str | Path = ".",
    without: Collection[str] = (),
) -> dict[str, float]:
    """The reward of one completion.

    Args:
        completion: what the model wrote after the prompt; boxes in pixels of the original query.
        record: a Chat-AD record of a verifiable task, or `think` about one.
        format_weight: the equation's lambda.
        media_dir: the folder that the record's paths start from.
        without: names of tasks whose answers have no reward (Table VI's ablations).

    Returns:
        `format` 0 or 1, `answer` 0 to 1, and `total` = `format_weight` * `format` + `answer`.

    Raises:
        UserError: the record has no verifiable answer, or its mask or query cannot be read.
    """
    task = task_of(record)
    answer = 0.0 if task.name in without else task.reward(completion, record, media_dir)
    kept = format_reward(completion)
    return {"format": kept, "answer": answer, "total": format_weight * kept + answer}


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
    """Functions for TRL's `reward_funcs`, one for each of the equation's terms, and their `reward_weights`.

    A function that does not apply to a record answers None: TRL leaves it out of the sum and of the logged mean, so
    `rewards/choice/mean` is the accuracy over multiple-choice prompts and `rewards/boxes/mean` the mean BBox-Mask IoU
    over localisation prompts.

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
