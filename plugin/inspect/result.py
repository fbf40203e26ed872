"""What `adcopilot inspect` says about a query."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..verdict import VerdictWord, word_of

if TYPE_CHECKING:  # numpy and Pillow are loaded when a map or a picture is asked for
    import numpy as np
    from PIL import Image

    from ..anomaly_map.comparing import AnomalyMap
    from ..images import ImageSource

__all__ = ["Result", "printable", "source_name"]


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
        verdict_from: whose score gave the verdict: `model`, `map` or `either`.
        disagree: whether model and map find the opposite of each other.
        map: the anomaly map itself (`adcopilot.anomaly_map.comparing.AnomalyMap`). Not in a JSON line.
        map_threshold: of the map's score, which the colours of `draw` are tied to; None where none is known. Not in a
            JSON line.
        pictures: the template and the query as they were given, for `draw`; None for the files that `template` and
            `query` name. Not in a JSON line.
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
    verdict_from: str = "model"
    disagree: bool = False
    map: AnomalyMap | None = field(default=None, repr=False, compare=False)
    map_threshold: float | None = field(default=None, repr=False, compare=False)
    pictures: tuple[ImageSource, ImageSource] | None = field(default=None, repr=False, compare=False)

    @property
    def verdict(self) -> VerdictWord:
        """`anomalous`, `normal`, or `undecided`, after an error too."""
        return word_of(self.anomalous)

    @property
    def anomaly_map(self) -> np.ndarray | None:
        """(height, width) of the upright query, float32, 0 for no difference; None where no map was made."""
        return None if self.map is None else self.map.anomaly_map

    def draw(self, *, bits: int | None = None, query_name: str | None = None) -> Image.Image:
        """The picture that `adcopilot inspect --draw` writes: template, query with its boxes, anomaly map, verdict.

        Args:
            bits: that the pictures of the set use (`images.used_bits`); None for those of the two.
            query_name: what the query is called; None for its file's name.

        Raises:
            UserError: there was no template, or one of the two pictures cannot be opened (any more).
        """
        from ..drawing import draw_result
        from ..images import open_image, used_bits

        if self.template is None:
            raise UserError(f"{self.query}: was compared with no template, so there is nothing to draw")
        roles, names = ("template", "query"), (self.template, self.query)
        sources = self.pictures or names
        bits = bits or used_bits(sources)
        template, query = (open_image(one, name=name, bits=bits) for one, name in zip(sources, names, strict=True))
        # what came without a name is called by its role, which the caption says anyway
        shown = ["" if name == role else Path(name).name for name, role in zip(names, roles, strict=True)]
        return draw_result(
            template=template,
            query=query,
            boxes=self.boxes,
            anomalous=self.anomalous,
            score=self.score,
            reason=self.reason,
            template_name=printable(shown[0]),
            query_name=printable(shown[1] if query_name is None else query_name),
            anomaly_map=self.map,
            map_threshold=self.map_threshold,
        )

    def _repr_png_(self) -> bytes | None:
        """What a notebook shows: `draw()` as a PNG; None, and so its text, where there is nothing to draw."""
        if self.error is not None:
            return None
        try:
            picture = self.draw()
        except UserError:  # the files have gone since
            return None
        file = io.BytesIO()
        picture.save(file, format="PNG")
        return file.getvalue()

    def to_dict(self, **extra: Any) -> dict[str, Any]:
        """A line of `adcopilot inspect --json`. `error`, `reason`, `verdict_from`, `disagree` and what the map says
        are there only where there is something to say.

        Args:
            extra: further fields, such as the category of a tree.
        """
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
        line |= {} if self.error is None else {"error": self.error}
        line |= extra
        line |= {"verdict_from": self.verdict_from} if self.verdict_from != "model" and self.error is None else {}
        return {**line, "disagree": True} if self.disagree else line

    def kept(self) -> dict[str, Any]:
        """What a stored line needs besides `to_dict`, so that another threshold can be tried on it."""
        found = {"doubt": self.doubt, "map_doubt": self.map_doubt, "note": self.note}
        return {name: value for name, value in found.items() if value is not None}

    @classmethod
    def from_dict(cls, line: Mapping[str, Any]) -> Result:
        """The result that `to_dict` made a line of; further fields of the line are passed over."""
        names = {one.name for one in fields(cls)} & line.keys()
        values = {name: line[name] for name in names}
        size = values.get("size")
        return cls(**{**values, "size": None if size is None else tuple(size)})


def printable(text: str) -> str:
    """A text on one line that a terminal shows as it is: control characters and broken UTF-8 are escaped."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def source_name(source: Any, role: str) -> str:
    """What a picture is called in results: its path, or what it is where it has none."""
    if isinstance(source, (str, Path)):
        return str(source)
    if isinstance(source, dict):
        return str(source.get("path") or role)
    return str(getattr(source, "filename", "") or getattr(source, "name", "") or role)
