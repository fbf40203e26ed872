"""One answer of the page: what the model said, and what an inspector is to take from it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...answering.families import split_thinking
from ...drawing import draw_result
from ...inspect.judging import Judge
from ...inspect.result import Result
from ...line.thresholds import Threshold
from ...verdict import NO_THRESHOLD, Verdict, first_word_says

__all__ = ["Answer"]

#: A JSON list of boxes within an answer, complete or cut off at its end.
_BOX_LIST = re.compile(r"""\[\s*+\{(?=[^{}]*["']bbox_2d["']).*?(?:\}\s*+\]|\Z)""", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer.

    Attributes:
        question: as it was asked.
        result: as `adcopilot inspect` gives it; `result.error` is always None.
        templates: names of the pictures of good parts, in the order in which the model saw them.
        yes_or_no: whether it is the question that is answered by yes (defective) or no, so that there is a verdict.
        heat: (rows, columns) shares of the comparison tokens' attention over the query (`heat_map`); None where the
            model has no comparison tokens, or is elsewhere.
        judge: whose verdict it is, and from where on a part is defective.
        by_map: whether there is no model, so that score and boxes are the anomaly map's.
        threshold: of the map, where it was found from the good parts that were brought.
    """

    question: str
    result: Result
    yes_or_no: bool
    templates: tuple[str, ...] = ()
    heat: np.ndarray | None = None
    judge: Judge = field(default_factory=Judge)
    by_map: bool = False
    threshold: Threshold | None = None

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
        if self.own_words is not None:
            return self.own_words.format(number=len(self.result.boxes))
        return _BOX_LIST.sub("", self.said).strip()

    @property
    def own_words(self) -> str | None:
        """What the page says where a model has no words; `{number}` is that of the boxes. Else None."""
        number = min(len(self.result.boxes), 2)
        if self.by_map:
            return ("No place differs.", "One place differs.", "{number} places differ.")[number]
        if not self.said:
            return "(The model said nothing.)"
        if _BOX_LIST.sub("", self.said).strip() in ("", "[]"):
            return ("No marked places.", "One marked place.", "{number} marked places.")[number]
        return None

    @property
    def verdict(self) -> Verdict | None:
        """The verdict; None where the question asks for none."""
        if not self.yes_or_no:
            return None
        anomalous = self.result.anomalous
        return Verdict(anomalous=anomalous, reason=self.result.reason if anomalous is None else None)

    @property
    def lacks_threshold(self) -> bool:
        """Whether nothing but a threshold is missing for a verdict."""
        return self.by_map and self.result.reason == NO_THRESHOLD

    @property
    def says_otherwise(self) -> bool:
        """Whether the answer's first word is the opposite of the verdict, which a score or the map gave."""
        found = self.verdict and self.verdict.anomalous
        said = None if self.by_map else first_word_says(self.said)
        return None not in (found, said) and found != said

    @property
    def marks_otherwise(self) -> bool:
        """Whether the model marks places of a part on which no defect was found."""
        found = self.verdict and self.verdict.anomalous
        return found is False and not self.by_map and bool(self.result.boxes)

    @property
    def score(self) -> float | None:
        """0 (like the good part) to 1, or the map's where the verdict is its; None where no verdict rests on it: it
        would be taken for one."""
        if not self.yes_or_no or self.result.anomalous is None:
            return None
        of_map = self.judge.source == "map" and self.result.map_score is not None
        return self.result.map_score if of_map else self.result.score

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

    def drawn(
        self, template: Image.Image, query: Image.Image, *, name: str, map_threshold: float | None
    ) -> Image.Image:
        """The picture that `adcopilot inspect --draw` makes of a verdict.

        Args:
            template, query: upright RGB.
            name: what the query is called.
            map_threshold: that the map's colours are tied to.
        """
        return draw_result(
            template=template,
            query=query,
            boxes=self.result.boxes,
            anomalous=self.verdict.anomalous,
            reason=self.verdict.reason,
            score=self.score,
            template_name=Path(self.result.template).name,
            query_name=name,
            anomaly_map=self.result.map,
            map_threshold=map_threshold,
        )

    def without_pictures(self) -> Answer:
        """What a conversation needs to go on."""
        return replace(self, heat=None, result=replace(self.result, map=None))

    def to_dict(self) -> dict[str, Any]:
        """`adcopilot inspect --json`'s line, with the question, and the reasoning apart."""
        result = self.result
        if not self.yes_or_no:
            reason = "the question does not ask for a verdict"
            result = replace(result, anomalous=None, score=None, reason=reason, verdict_from="model", disagree=False)
        line = {"question": self.question, **result.to_dict()}
        return {**line, "reasoning": self.reasoning, "answer": self.said} if self.reasoning else line
