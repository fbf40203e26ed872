"""What a verifiable task is: a question whose answer can be checked without asking a model."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

__all__ = ["PairTruth", "Task"]


class PairTruth(Protocol):
    """What a question is made from; Chat-AD's `PairView` is one.

    Attributes:
        anomalous: whether the query has a defect.
        boxes: (x1, y1, x2, y2) of each region of it, in pixels of the query.
        size: (width, height) of the query.
    """

    anomalous: bool
    boxes: Sequence[tuple[int, int, int, int]]
    size: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task, whole: Chat-AD writes its records, GRPO rewards answers, evaluation scores them.

    Attributes:
        name: in records (`task`) and recipes.
        title: in words, and what TRL logs its reward as.
        is_answer: whether a text has the form of this task's right answers.
        states: whether a completion states any answer, right or wrong: (completion, record).
        reward: 0 to 1 for a completion, its boxes in pixels of the original query: (completion, record, media_dir).
        write: (question, right answer) for a pair; None where Chat-AD's own writers ask.
        obstacle: why a pair with this label (`normal`, `anomalous`) and so many boxes cannot have it, "" if it can;
            None where Chat-AD's own rules say.
    """

    name: str
    title: str
    is_answer: Callable[[str], bool]
    states: Callable[[str, Mapping[str, Any]], bool]
    reward: Callable[[str, Mapping[str, Any], str | Path], float]
    write: Callable[[PairTruth, random.Random], tuple[str, str]] | None = None
    obstacle: Callable[[str, int], str] | None = None
