"""The question of `adcopilot inspect`: whether there is a defect at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..answering.families import split_thinking
from ..prompts import ANSWER_WORDS
from .task import Task

__all__ = ["VERDICT", "stated"]


def stated(text: str) -> str | None:
    """The word of `ANSWER_WORDS` that a text begins with, reasoning left out; None if it begins with neither."""
    first = split_thinking(text)[1].strip().lstrip("*_\"'").lower()
    for word in ANSWER_WORDS:
        if first.startswith(word.lower()) and not first[len(word) :][:1].isalnum():
            return word
    return None


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
