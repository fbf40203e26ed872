"""Which evidence gives the verdict about a pair, and from where on it is anomalous."""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Real
from typing import Literal, get_args

from ..answering.families import split_thinking
from ..errors import UserError
from ..verdict import Verdict, decide, decide_by_map, either
from .result import Result

__all__ = ["MOST_MAP", "SOURCES", "Judge", "Source"]

#: The model's first word, the anomaly map, or whichever of the two finds something.
Source = Literal["model", "map", "either"]
SOURCES = get_args(Source)
#: Of a map: no map has a higher score, so a higher threshold is a mistake.
MOST_MAP = 10.0


def _is_within(value: object, most: float) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and 0 <= value <= most


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Gives verdicts. It works on what a result holds, so another threshold costs no inference.

    Attributes:
        source: whose the verdict is.
        model_threshold: of the probability of "Yes", 0 to 1.
        map_threshold: of the map's score; None where none is known, and then a map gives no verdict.

    Raises:
        UserError: a threshold is out of its range.
    """

    source: Source = "model"
    model_threshold: float = 0.5
    map_threshold: float | None = None

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise UserError(f"the verdict is from {self.source!r}, expected {', '.join(SOURCES)}")
        if not _is_within(self.model_threshold, 1):
            raise UserError(f"--threshold is {self.model_threshold!r}, expected 0 to 1")
        if self.map_threshold is not None and not _is_within(self.map_threshold, MOST_MAP):
            raise UserError(f"--threshold is {self.map_threshold!r}, expected 0 to 10 for a map's score")

    def judged(self, result: Result) -> Result:
        """The result with its verdict."""
        if result.error is not None:
            return result
        verdicts = {"model": self._by_model, "map": self._by_map}
        if self.source == "either":
            verdict = either(self._by_model(result), self._by_map(result))
        else:
            verdict = verdicts[self.source](result)
        return replace(
            result,
            anomalous=verdict.anomalous,
            reason=verdict.reason or result.note,
            verdict_from=self.source,
            disagree=self.disagree(result),
        )

    def disagree(self, result: Result) -> bool:
        """Whether model and map find the opposite of each other; False where one of them finds nothing."""
        if result.error is not None or result.map_score is None or self.map_threshold is None:
            return False
        found = {self._by_model(result).anomalous, self._by_map(result).anomalous}
        return found == {True, False}

    def _by_model(self, result: Result) -> Verdict:
        return decide(
            score=result.score,
            yes_no_mass=result.yes_no_mass,
            threshold=self.model_threshold,
            answer=split_thinking(result.text)[1],
            doubts=[result.doubt] if result.doubt else [],
        )

    def _by_map(self, result: Result) -> Verdict:
        doubts = [one for one in (result.doubt, result.map_doubt) if one]
        # of a model's result whose templates made no map, the score is the model's, and nothing that a map says
        alone = result.yes_no_mass is None and not result.text
        score = result.score if result.map_score is None and alone else result.map_score
        found = decide_by_map(score, self.map_threshold, doubts=doubts)
        if doubts and result.doubt is None and score is not None and self.map_threshold is not None:
            # what was found is found, however little of the view was compared
            return Verdict(anomalous=True) if score >= self.map_threshold else found
        return found
