"""Counting (the paper's product counting): how many defects there are."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..answering.families import split_thinking
from .task import PairTruth, Task

__all__ = ["COUNT", "number_in"]

#: More than this nobody counts at a glance, and masks of many regions are texture or noise.
MOST = 20
QUESTIONS = (
    "How many separate defects does the second image have? Answer with a number.",
    "Count the defects in the second image. Give the number only.",
    "In how many places does the second part differ from the good one? Answer with a number.",
)
_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
_NUMBER = re.compile(rf"(?<![\w.,-])(?:\d{{1,6}}|{'|'.join(_WORDS)})(?![\w-]|[.,]\d)", re.IGNORECASE)


def number_in(text: str) -> int | None:
    """The one whole number that a text states, in digits or in words up to twenty, reasoning left out; None where it
    states none or several different ones."""
    words = (found.lower() for found in _NUMBER.findall(split_thinking(text)[1]))
    numbers = {int(word) if word.isdigit() else _WORDS.index(word) for word in words}
    return numbers.pop() if len(numbers) == 1 else None


def write(pair: PairTruth, rng: random.Random) -> tuple[str, str]:
    """(question, answer): the number of the defect's connected regions, 0 of a normal part."""
    return rng.choice(QUESTIONS), str(len(pair.boxes))


def obstacle(label: str, boxes: int) -> str:
    """As `Task.obstacle`."""
    if label == "anomalous" and not boxes:
        return "have no masks"
    return f"have more than {MOST} regions" if boxes > MOST else ""


def reward(completion: str, record: Mapping[str, Any], media_dir: str | Path = ".") -> float:
    """1 for the right number, 0 otherwise."""
    return float(number_in(completion) == int(record["answer"]))


COUNT = Task(
    name="count",
    title="count",
    is_answer=lambda text: re.fullmatch(r"\d{1,6}", text.strip()) is not None,
    states=lambda completion, record: number_in(completion) is not None,
    reward=reward,
    write=write,
    obstacle=obstacle,
)
