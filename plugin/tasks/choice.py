"""Multiple choice: a letter of an option."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..answering.choices import strict_answer
from .task import Task

__all__ = ["CHOICE", "options_of"]

_OPTION = re.compile(r"^\s*([A-Z])[.):]\s+(\S.*?)\s*$", re.MULTILINE)


def options_of(question: str) -> dict[str, str]:
    """Letter → text of the options that a question lists, each on a line of its own."""
    return dict(_OPTION.findall(question))


def stated(completion: str, record: Mapping[str, Any]) -> str | None:
    """The letter that a completion states and nothing else (`answering.choices.strict_answer`)."""
    questions = [message["content"] for message in record["messages"] if message["role"] == "user"]
    return strict_answer(completion, options_of(questions[-1])).letter


def reward(completion: str, record: Mapping[str, Any], media_dir: str | Path = ".") -> float:
    """1 where the answer states the right option."""
    return float(stated(completion, record) == record["answer"].strip())


CHOICE = Task(
    name="mc",
    title="choice",
    is_answer=lambda text: re.fullmatch(r"[A-Z]", text.strip()) is not None,
    states=lambda completion, record: stated(completion, record) is not None,
    reward=reward,
)
