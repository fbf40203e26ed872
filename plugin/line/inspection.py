"""`inspection.json`: what a line needs to inspect its parts, beside the model or without one.

{"verdict_from": "map",                       the model, the map, or either (anomalous where one of them is)
 "threshold": 0.41,                           of the score that gives the verdict
 "threshold_from": "twice the median …",      how it was found
 "thresholds": {"model": 0.5, "map": 0.41},   of each score there is
 "why": "…",                                  why the verdict is from there
 "warnings": ["…"],                           what the numbers do not support
 "templates": ["templates/000.png", …],       pictures of good parts, below this folder
 "templates_each": 4,                         how many a query's map is made with
 "map": {"kind": "pixels", …} or null,
 "bits": 12 or null,                          that pictures of 16 bits a channel use
 "asked": {…},                                what the model was asked and shown, where that was said
 "metrics": {…},                              on the pictures that were held out
 "made": {…}}                                 versions, seed, digests
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..files import path_inside
from ..inspect.loading import INSPECTION
from ..jsonl import content_key, file_digest, write_json

if TYPE_CHECKING:  # they need torch
    from ..anomaly_map.comparing import MapSettings
    from ..inspect.judging import Judge

__all__ = ["CALIBRATION", "FILE", "TEMPLATES", "Inspection", "read_inspection", "templates_digest"]

FILE = INSPECTION
#: Results of the pictures that a line is calibrated with.
CALIBRATION = "calibration.jsonl"
#: Where a line has its templates.
TEMPLATES = "templates"


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What this module says."""

    verdict_from: str
    thresholds: Mapping[str, float]
    threshold_from: str
    why: str = ""
    warnings: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    templates_each: int = 1
    map: Mapping[str, Any] | None = None
    bits: int | None = None
    asked: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    made: Mapping[str, Any] = field(default_factory=dict)

    @property
    def threshold(self) -> float:
        """Of the score that gives the verdict: the map's, where either may."""
        return self.thresholds["model" if self.verdict_from == "model" else "map"]

    @property
    def has_model(self) -> bool:
        """Whether a model is part of the line; one whose files an earlier calibration left beside it is not."""
        return "model" in self.thresholds

    def judge(self) -> Judge:
        """The verdicts of these thresholds."""
        from ..inspect.judging import Judge

        return Judge(
            source=self.verdict_from,
            model_threshold=self.thresholds.get("model", 0.5),
            map_threshold=self.thresholds.get("map"),
        )

    def map_settings(self) -> MapSettings | None:
        """How the map is made; None for none."""
        from ..anomaly_map.comparing import MapSettings

        return MapSettings(**self.map) if self.map else None

    def holds_for(self, settings: MapSettings | None, templates_each: int | None) -> bool:
        """Whether the map's threshold is of maps that are made so; by how much boxes grow does not count."""
        if settings is None or self.map is None or "map" not in self.thresholds:
            return True
        own = replace(self.map_settings(), growth=settings.growth)
        return own == settings and templates_each in (None, self.templates_each)

    def without_map_threshold(self) -> Inspection:
        """The same, as if no threshold of the map were known."""
        return replace(self, thresholds={name: one for name, one in self.thresholds.items() if name != "map"})

    def write(self, folder: Path) -> Path:
        """Write the file into a folder."""
        names = ("why", "warnings", "templates", "templates_each", "map", "bits", "asked", "metrics", "made")
        content = {
            "verdict_from": self.verdict_from,
            "threshold": self.threshold,
            "threshold_from": self.threshold_from,
            "thresholds": dict(self.thresholds),
        } | {name: getattr(self, name) for name in names}
        path = folder / FILE
        write_json(path, content)
        return path


def templates_digest(folder: Path) -> str:
    """Of all that lies among a line's templates, by names and contents."""
    files = [file for file in sorted((folder / TEMPLATES).iterdir()) if not file.name.startswith(".")]
    return content_key([[file.name, file_digest(file)] for file in files])


def read_inspection(folder: Path) -> Inspection | None:
    """The file of a folder; None where it has none.

    Raises:
        UserError: it is not what `adcopilot calibrate` or `adcopilot adapt` writes, or a template is not there.
    """
    path = folder / FILE
    if not os.path.lexists(path):
        return None
    place = shlex.quote(str(folder))
    again = f"{place} --good DIR" if (folder / "config.json").is_file() else f"none --good DIR --output {place}"
    again = f"make it again: adcopilot calibrate {again}"
    try:
        content = json.loads(path.read_text("utf-8"))
        known = {name: content[name] for name in Inspection.__dataclass_fields__ if name in content}
        thresholds = {name: _number(value) for name, value in content["thresholds"].items()}
        known |= {name: tuple(map(str, known.get(name, ()))) for name in ("warnings", "templates")}
        known |= {name: dict(known.get(name) or {}) for name in ("asked", "metrics", "made")}
        found = Inspection(**known | {"thresholds": thresholds})
        found.judge()
        found.map_settings()
        if content["threshold"] != found.threshold:
            name = "model" if found.verdict_from == "model" else "map"
            raise UserError(
                f"threshold is {content['threshold']!r} and thresholds.{name} is {found.threshold!r}; they are one, "
                "change both"
            )
        each, bits = found.templates_each, found.bits
        if type(each) is not int or not 1 <= each <= 64:
            raise UserError(f"templates_each is {each!r}, expected 1 to 64")
        if bits is not None and (type(bits) is not int or not 8 <= bits <= 16):
            raise UserError(f"bits is {bits!r}, expected 8 to 16, or null")
        for name, value in found.asked.items():
            if type(value) is not (str if name == "question" else int):
                raise UserError(f"asked.{name} is {value!r}, which no option takes")
        made = found.made.get("templates")
    except UserError as error:
        raise UserError(f"{path}: {error}; {again}") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: is no inspection's file ({type(error).__name__}: {error}); {again}") from None
    for name in found.templates:
        if not path_inside(folder, name).is_file():
            raise UserError(f"{folder / name}: not found, but {FILE} names it as a template; copy it, or {again}")
    if made is not None and made != templates_digest(folder):
        raise UserError(
            f"{folder / TEMPLATES}: other templates than those that the threshold was found with; put them back, or "
            f"{again}"
        )
    return found


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise TypeError(f"{value!r} is no number")
    return float(value)
