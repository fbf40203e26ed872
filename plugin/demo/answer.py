"""One answer of the page: what the model said, and what an inspector is to take from it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..evaluation.families import split_thinking
from ..inspect.result import Result
from ..prompts import ANSWER_WORDS
from ..verdict import LEAST_MASS

__all__ = ["LEAST_MASS", "Answer"]

#: A JSON list of boxes within an answer, complete or cut off at its end.
_BOX_LIST = re.compile(r"""\[\s*+\{(?=[^{}]*["']bbox_2d["']).*?(?:\}\s*+\]|\Z)""", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer.

    Attributes:
        question: as it was asked.
        result: as `adcopilot inspect` gives it; `result.error` is always None.
        yes_or_no: whether the question asks for yes (defective) or no, so that an answer is a verdict.
        heat: (rows, columns) shares of the comparison tokens' attention over the query (`heat_map`); None where the
            model has no comparison tokens, or is elsewhere.
    """

    question: str
    result: Result
    yes_or_no: bool
    heat: np.ndarray | None = None

    @property
    def reasoning(self) -> str:
        """What a thinking model wrote before its answer."""
        return split_thinking(self.result.text)[0]

    @property
    def said(self) -> str:
        """The answer without the reasoning."""
        return split_thinking(self.result.text)[1]

    @property
    def words(self) -> str:
        """The answer for people: without the lists of boxes, which are drawn."""
        if not self.said:
            return "(The model said nothing.)"
        without = _BOX_LIST.sub("", self.said).strip()
        if without in ("", "[]"):
            number = len(self.result.boxes)
            return f"{number} marked place{'s' * (number != 1)}." if number else "No marked places."
        return without

    @property
    def score(self) -> float | None:
        """0 (like the good part) to 1; None where the first word was no yes or no to a question about a defect."""
        mass = self.result.yes_no_mass
        return self.result.score if self.yes_or_no and not self.reasoning and mass is not None else None

    @property
    def is_sure_of_form(self) -> bool:
        """Whether the model was about to say yes or no at all, without which a score means little."""
        return (self.result.yes_no_mass or 0.0) >= LEAST_MASS

    @property
    def anomalous(self) -> bool | None:
        """The verdict: by the score, else by the answer's first word; None where neither says."""
        if not self.yes_or_no:
            return None
        if self.score is not None:
            return self.result.anomalous
        word = re.match(r"\W*(\w+)", self.said)
        found = word[1].capitalize() if word else ""
        return {ANSWER_WORDS[0]: True, ANSWER_WORDS[1]: False}.get(found)

    @property
    def report(self) -> dict[str, str]:
        """The texts of a JSON report (Figure 1's caption) by their names; empty if the answer is none."""
        try:
            value = json.loads(self.said)
        except (ValueError, RecursionError):
            return {}
        if not isinstance(value, dict):
            return {}
        return {str(name): text for name, text in value.items() if isinstance(text, str) and text.strip()}

    def as_dict(self) -> dict[str, Any]:
        """`adcopilot inspect --json`'s line, with the question, and the reasoning apart."""
        line = {"question": self.question, **self.result.as_dict()}
        return {**line, "reasoning": self.reasoning, "answer": self.said} if self.reasoning else line
