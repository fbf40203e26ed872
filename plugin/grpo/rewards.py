"""The rewards of stage 3 (the paper's equation 1): is the answer in its form, and is it right?

    R(x, y) = format_weight * R_fmt(y) + (1[C_pred = C_gt] for multiple choice | IoU(B_pred, M_gt) for localisation)

Both terms are verifiable: nothing is asked of a model, and no text is evaluated. The answer is scored whether or not
the form is kept, as the equation has it; how, its task says (`adcopilot.tasks`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ..tasks import task_of

__all__ = ["format_reward", "score"]

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
