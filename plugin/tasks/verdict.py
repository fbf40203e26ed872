"""The question of `adcopilot inspect`: whether there is a defect at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..answering.families import split_thinking
from ..prompts import ANSWER_WORDS
from ..verdict import first_word_says
from .task import Task

__all__ = ["OPTIONS", "VERDICT", "stated"]

#: The words that an answer begins with, as options whose probabilities rank images; the first means a defect.
OPTIONS = {ANSWER_WORDS[0]: "defective", ANSWER_WORDS[1]: "normal"}


def stated(text: str) -> bool | None:
    """Whether a text begins with Yes (True) or No (False), reasoning left out; None if with neither."""
    return first_word_says(split_thinking(text)[1])


def reward(completion: str, record: Mapping[str, Any], media_dir: str | Path = ".") -> float:
    """1 where the answer begins with the right word."""
    return float(stated(completion) == stated(record["answer"]))


VERDICT = Task(
    name="verdict",
    title="verdict",
    is_answer=lambda text: stated(text) is not None,
    states=lambda completion, record: stated(completion) is not None,
    reward=reward,
)
