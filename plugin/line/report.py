"""The page that a shift lead reads: how many of what, and the pictures, the ones to look at first in front.

The order: what could not be inspected, where model and map disagree, wrong verdicts where the folder says what is
right, undecided, then by how far the score lies above the threshold. A picture can be marked good or defective there;
the page writes nothing, it hands the marks over as a file (`adcopilot.line.marks`).
"""

from __future__ import annotations

import heapq
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..anomaly_map.picture import map_colours, map_top
from ..errors import UserError
from ..images import open_image
from ..jsonl import file_digest, write_text
from ..kinds import Label, labels_of
from ..pages.gallery import Box, Picture, picture_of
from ..pages.html import render
from ..pages.text import shorten
from .measures import measures

if TYPE_CHECKING:
    from ..anomaly_map.comparing import AnomalyMap
    from ..inspect.judging import Judge
    from .inspection import Inspection

__all__ = ["MOST_CARDS", "LineReport"]

_PAGE = Path(__file__).parent / "page"
#: Pictures that a page shows; the rest is counted.
MOST_CARDS = 120
#: Longer side of a map on the page in pixels.
_MAP_SIDE = 280


@dataclass(kw_only=True)
class ReportCard:
    """A query on the page."""

    name: str
    place: str
    path: str
    digest: str
    verdict: str
    score: str
    notes: list[str]
    words: str
    label: str
    wrong: bool
    disagree: bool
    pictures: list[Picture] = field(default_factory=list)


class LineReport:
    """Collects lines and writes the page.

    Args:
        path: of the page; must end in `.html`.
        title: what is inspected with.
        judge: whose verdicts they are.
        inspection: of the line, if there is one.
        metrics: how right the verdicts are, where that is known better than from these verdicts.

    Raises:
        UserError: another suffix.
    """

    def __init__(
        self,
        path: Path,
        *,
        title: str,
        judge: Judge,
        inspection: Inspection | None = None,
        bits: int | None = None,
        metrics: Mapping[str, Any] | None = None,
    ) -> None:
        if path.suffix.lower() not in (".html", ".htm"):
            raise UserError(f"--report {path}: is written as a page; give a name that ends in .html")
        self.path, self.title, self.judge, self.inspection, self.bits = path, title, judge, inspection, bits
        self.counts: Counter[str] = Counter()
        self.lines: dict[str, dict[str, Any]] = {}
        self._labels: dict[str, Label] = {}
        self._metrics = metrics
        # The maps of those that would be shown if only names were missing: by how far they are above the threshold.
        self._maps: list[tuple[float, str, np.ndarray, float]] = []

    def add(
        self, name: str, line: Mapping[str, Any], anomaly_map: AnomalyMap | None, *, label: Label | None = None
    ) -> None:
        """A line of `adcopilot inspect`; what its folder says, unless a label is given."""
        if label is not None:
            self._labels[name] = label
        kept = {key: line.get(key) for key in _KEPT if key in line}
        self.lines[name] = kept
        self.counts["error" if "error" in line else line["verdict"]] += 1
        self.counts["disagree"] += bool(line.get("disagree"))
        if anomaly_map is not None:
            values = Image.fromarray(anomaly_map.values)
            values.thumbnail((_MAP_SIDE, _MAP_SIDE))
            entry = (self._height(kept), name, np.asarray(values), anomaly_map.pred_score)
            if len(self._maps) < 2 * MOST_CARDS:
                heapq.heappush(self._maps, entry)
            else:
                heapq.heappushpop(self._maps, entry)

    @property
    def _threshold(self) -> float | None:
        """Of the score that gives the verdict."""
        return self.judge.model_threshold if self.judge.source == "model" else self.judge.map_threshold

    def _height(self, line: Mapping[str, Any]) -> float:
        """How far a line's score is above its threshold, 1 being on it; what asks to be looked at comes before all."""
        if "error" in line:
            return 1e9
        height = (self._score(line) or 0.0) / (self._threshold or 1.0)
        return height + (1e6 if line.get("disagree") else 0) + (1e5 if line["verdict"] == "undecided" else 0)

    def write(self) -> Path:
        """Write the page; its path.

        Raises:
            UserError: it cannot be written.
        """
        labels = labels_of(self.lines) | self._labels
        wrong = {
            name
            for name, (bad, _) in labels.items()
            if self.lines[name].get("anomalous") is not None and self.lines[name]["anomalous"] != bad
        }
        order = sorted(self.lines, key=lambda name: (-self._height(self.lines[name]) - 1e7 * (name in wrong), name))
        maps = {name: (values, score) for _, name, values, score in self._maps}
        cards = [self._card(name, labels.get(name), name in wrong, maps.get(name)) for name in order[:MOST_CARDS]]
        found = self._metrics
        if found is None and labels and any(bad for bad, _ in labels.values()):
            known = list(labels)
            found = measures(
                [self._score(self.lines[name]) for name in known],
                [labels[name][0] for name in known],
                kinds=[labels[name][1] or ("without a name" if labels[name][0] else None) for name in known],
                verdicts=[self.lines[name].get("anomalous") for name in known],
            )
        text = render(
            _PAGE,
            "inspection.html.jinja",
            style=(_PAGE / "inspection.css").read_text("utf-8"),
            script=(_PAGE / "marks.js").read_text("utf-8"),
            title=shorten(self.title, 120),
            total=len(self.lines),
            counts=self.counts,
            cards=cards,
            measures=found,
            judge=self.judge,
            inspection=self.inspection,
        )
        write_text(self.path, text, errors="replace")
        return self.path

    def _score(self, line: Mapping[str, Any]) -> float | None:
        if self.judge.source == "model":
            return line.get("score")
        return line.get("map_score", line.get("score"))

    def _card(self, name: str, label, wrong: bool, found: tuple[np.ndarray, float] | None) -> ReportCard:
        line = self.lines[name]
        notes = [text for text in (line.get("error"), line.get("reason")) if text]
        if line.get("disagree"):
            notes.append("model and map disagree")
        scores = (
            [f"{'score' if 'map_score' not in line else 'model'} {line['score']:.3f}"]
            if line.get("score") is not None
            else []
        )
        scores += [f"map {line['map_score']:.3f}"] if line.get("map_score") is not None else []
        card = ReportCard(
            name=shorten(PurePosixPath(name).name, 80),
            place=name,
            path=line["query"],
            digest=_digest(line["query"]),
            verdict="error" if "error" in line else line["verdict"],
            score=", ".join(scores),
            notes=[shorten(note, 300) for note in dict.fromkeys(notes)],
            words=shorten(line.get("text") or "", 300),
            label="" if label is None else (label[1] or "defective") if label[0] else "good",
            wrong=wrong,
            disagree=bool(line.get("disagree")),
        )
        for role in ("template", "query"):
            if line.get(role):
                card.pictures.append(self._picture(Path(line[role]), role))
        if card.pictures and card.pictures[-1].url and "error" not in line:
            query = card.pictures[-1]
            query.boxes += [
                Box.of(one["bbox_2d"], label=shorten(one["label"], 60), colour=0, told=False)
                for one in line.get("boxes") or []
            ]
            query.boxes += [
                Box.of(one["bbox_2d"], label="map", colour=1, told=True) for one in line.get("map_boxes") or []
            ]
        if found is not None and card.pictures:
            heat = picture_of(self._heat(*found), role="anomaly map")
            heat.width, heat.height = card.pictures[-1].width, card.pictures[-1].height
            card.pictures.append(heat)
        return card

    def _picture(self, path: Path, role: str) -> Picture:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # said when it was inspected
                return picture_of(open_image(path, bits=self.bits), role=role)
        except UserError as error:
            return Picture(role=role, path=path.name, problem=shorten(str(error), 200))

    def _heat(self, values: np.ndarray, score: float) -> Image.Image:
        """The map as a picture, on one scale for the page where a threshold is known."""
        return map_colours(values, map_top(score, self.judge.map_threshold))


_KEPT = ("query", "template", "verdict", "anomalous", "score", "boxes", "map_score", "map_boxes", "text", "reason",
         "error", "disagree")  # fmt: skip


def _digest(path: str) -> str:
    try:
        return file_digest(path)
    except UserError:
        return ""
