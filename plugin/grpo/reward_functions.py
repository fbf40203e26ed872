"""Equation 1 as the reward functions that TRL adds up, one for each of its terms.

A function that does not apply to a record answers None: TRL leaves it out of the sum and of the logged mean, so
`rewards/choice/mean` is the accuracy over multiple-choice prompts and `rewards/boxes/mean` the mean BBox-Mask IoU over
localisation prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..boxes import map_text_boxes
from .rewards import choice_reward, format_reward, localisation_reward, question_kind

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
    *, format_weight: float, media_dir: str | Path, choice: bool, boxes: bool
) -> tuple[list[RewardFunction], list[float]]:
    """Functions for TRL's `reward_funcs`, and their `reward_weights`.

    Args:
        format_weight: equation 1's lambda.
        media_dir: the folder that the records' paths start from.
        choice, boxes: False leaves that function out (Table VI).
    """

    def format(completions, **_: Any) -> list[float]:
        return [format_reward(completion[-1]["content"]) for completion in completions]

    def choices(completions, record, **_: Any) -> list[float | None]:
        return [
            choice_reward(completion[-1]["content"], one) if question_kind(one) == "mc" else None
            for completion, one in zip(completions, record, strict=True)
        ]

    def places(completions, record, model_size, query_size, **_: Any) -> list[float | None]:
        return [
            localisation_reward(answer_text(completion, seen, size), one, media_dir=media_dir)
            if question_kind(one) == "loc"
            else None
            for completion, one, seen, size in zip(completions, record, model_size, query_size, strict=True)
        ]

    choices.__name__, places.__name__ = "choice", "boxes"  # TRL logs them by their names
    functions = [format, *([choices] if choice else []), *([places] if boxes else [])]
    return functions, [format_weight] + [1.0] * (len(functions) - 1)
