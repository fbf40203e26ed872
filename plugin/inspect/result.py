"""What `adcopilot inspect` says about a query."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..verdict import VerdictWord

__all__ = ["Result", "source_name"]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What was found in one query.

    Attributes:
        query, template: names of the images; no template if none could be chosen.
        anomalous: True, False, or None where the verdict is undecided (`adcopilot.verdict`) or after an error.
        reason: one line that says why the verdict is undecided, or what speaks against one that was asked for all the
            same; None otherwise.
        score: 0 to 1, the probability that the answer begins with "Yes" rather than "No"; None after an error, and
            where reasoning came first. Without a model, the anomaly map's score.
        boxes: `{"bbox_2d": [x1, y1, x2, y2], "label": "…"}`, in pixels of the upright query image, inside it: the
            model's, or without a model the anomaly map's.
        map_score, map_boxes: the same of an anomaly map beside the model (`adcopilot.anomaly_map`); None without one.
        text: the model's answer, with its boxes mapped to original pixels.
        answer: the same as the model wrote it; what a further turn of the conversation needs. Not in a JSON line.
        yes_no_mass: probability of "Yes" and "No" together among all first words; None as `score`. Where it is low
            the model was about to say something else, and the verdict is undecided.
        size: width and height of the upright query in pixels.
        error: one line that says why this pair could not be inspected; None otherwise.
        doubt: why there is no verdict wherever the threshold lies; None otherwise.
        map_doubt: the same of the anomaly map alone.
        note: what speaks against a verdict that was asked for all the same, or that only a part of the query was seen.
        map: the anomaly map itself (`adcopilot.anomaly_map.comparing.AnomalyMap`). Not in a JSON line.
    """

    query: str
    template: str | None
    anomalous: bool | None = None
    reason: str | None = None
    score: float | None = None
    boxes: list[dict[str, Any]] = field(default_factory=list)
    text: str = ""
    answer: str = ""
    yes_no_mass: float | None = None
    size: tuple[int, int] | None = None
    error: str | None = None
    map_score: float | None = None
    map_boxes: list[dict[str, Any]] | None = None
    doubt: str | None = None
    map_doubt: str | None = None
    note: str | None = None
    map: Any = None

    @property
    def verdict(self) -> VerdictWord:
        """`anomalous`, `normal`, or `undecided`, after an error too."""
        return "undecided" if self.anomalous is None else "anomalous" if self.anomalous else "normal"

    def as_dict(self) -> dict[str, Any]:
        """The fields of a JSON line; `error` is there only if there was one, as are `reason` and what the map says."""
        line = {
            "query": self.query,
            "template": self.template,
            "verdict": self.verdict,
            "anomalous": self.anomalous,
            "score": self.score,
            "boxes": self.boxes,
            "text": self.text,
            "yes_no_mass": self.yes_no_mass,
            "size": None if self.size is None else list(self.size),
        }
        if self.map_score is not None:
            line |= {"map_score": self.map_score, "map_boxes": self.map_boxes}
        reason = self.reason if self.error is None else self.error
        line |= {"reason": reason} if reason else {}
        return line if self.error is None else {**line, "error": self.error}

    def kept(self) -> dict[str, Any]:
        """What a stored line needs besides `as_dict`, so that another threshold can be tried on it."""
        found = {"doubt": self.doubt, "map_doubt": self.map_doubt, "note": self.note}
        return {name: value for name, value in found.items() if value is not None}

    @classmethod
    def from_dict(cls, line: Mapping[str, Any]) -> Result:
        """The result that `as_dict` made a line of; further fields of the line are passed over."""
        names = {field.name for field in fields(cls)} & line.keys()
        values = {name: line[name] for name in names}
        size = values.get("size")
        return cls(**{**values, "size": None if size is None else tuple(size)})


def source_name(source: Any, role: str) -> str:
    """What a picture is called in results: its path, or what it is where it has none."""
    if isinstance(source, (str, Path)):
        return str(source)
    return str(getattr(source, "filename", "") or getattr(source, "name", "") or role)
