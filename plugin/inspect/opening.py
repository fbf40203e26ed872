"""What inspects: a model's folder, a line's with its threshold, templates and map, or the anomaly map alone.

`set_up` decides it before anything is loaded, for the command and for `adcopilot.Inspector` alike; `open_engine`
loads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from .hub import model_folder
from .judging import Judge
from .lines import results_of
from .loading import model_digest
from .pairs import TemplatePool, find_pairs

if TYPE_CHECKING:  # they need torch, which takes seconds
    from ..anomaly_map.comparing import MapSettings
    from ..line.inspection import Inspection
    from ..line.thresholds import Threshold
    from .map_inspector import MapInspector
    from .model_inspector import ModelInspector

__all__ = [
    "LEAST_TEMPLATES",
    "MOST_TEMPLATES",
    "NO_MODEL",
    "Setup",
    "choose_judge",
    "choose_map",
    "folder_of_templates",
    "open_engine",
    "set_up",
    "threshold_among",
]

#: In the place of a model's folder: the anomaly map alone.
NO_MODEL = "none"
#: Templates from which on a map finds its threshold among them, and how many are compared for it at most.
LEAST_TEMPLATES = 5
MOST_TEMPLATES = 40


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What is to inspect.

    Attributes:
        folder: of the model or the line; `none` without one.
        inspection: the line's `inspection.json`; None for a model's folder, and for `none`.
        no_model: whether the map is all there is.
        map: how the map is made; None for none.
        judge: what gives the verdict.
        templates_each: templates that a query's map is made with.
        note: why the line's threshold does not hold for this map; None where it does.
    """

    folder: Path
    inspection: Inspection | None
    no_model: bool
    map: MapSettings | None
    judge: Judge
    templates_each: int
    note: str | None = None

    @property
    def bits(self) -> int | None:
        """That the line's pictures of 16 bits a channel use; None where that is not known."""
        return self.inspection.bits if self.inspection is not None else None

    def asked(self, given: Mapping[str, Any], *, threshold: float | None) -> dict[str, Any]:
        """What the model is asked and shown: as given, else as the line was calibrated with.

        Args:
            given: `question`, `image_max_pixels`, `image_min_pixels`, None for those that are not.
            threshold: that is given, which makes up for the line's.

        Raises:
            UserError: another than the threshold was found with.
        """
        kept = self.inspection.asked if self.inspection is not None else {}
        if self.inspection is not None and self.judge.source != "map" and threshold is None:
            other = next((name for name, value in given.items() if value not in (None, kept.get(name))), None)
            if other is not None:
                raise UserError(
                    f"--{other.replace('_', '-')} {given[other]}: the threshold of {self.folder} was found with "
                    "another; leave it out, or give --threshold"
                )
        return {name: kept.get(name) if value is None else value for name, value in given.items()}

    def check_left(self) -> None:
        """Whether what is to give the verdict is there.

        Raises:
            UserError: neither a model nor a map, or no map for verdicts of one.
        """
        if not self.no_model and self.map is None and self.judge.source != "model":
            raise UserError(f"--map off: verdicts are from {self.judge.source}, which needs a map; leave --map out")
        if self.no_model and self.map is None:
            raise UserError(f"--model {self.folder} without a map: nothing is left to inspect with; give --map pixels")


def set_up(
    model: str | Path,
    *,
    map: str | None = None,
    threshold: float | None = None,
    map_threshold: float | None = None,
    verdict_from: str | None = None,
    templates_each: int | None = None,
    **map_options: Any,
) -> Setup:
    """Decide what inspects, from what is asked for and from what a line's folder says.

    Args:
        model: a model's folder or hub id, a line's folder, or `none`.
        map: `pixels`, `features`, `texture` or `off`; None for the line's, else pixels.
        threshold: of the score that gives the verdict; None for the line's, or the default.
        map_threshold: of the map's score beside a model's verdict; None for the line's.
        verdict_from: `model`, `map` or `either`; None for the line's, else the model, or the map without one.
        templates_each: templates that a query's map is made with, 1 to 64; None for the line's, else the map's own.
        map_options: fields of `MapSettings` that are given, None for those that are not.

    Raises:
        UserError: a value is out of its range, or `inspection.json` is damaged.
    """
    from ..line.inspection import CALIBRATION, read_inspection

    folder = model_folder(model)
    inspection = read_inspection(folder)
    if inspection is None and (folder / CALIBRATION).is_file():
        raise UserError(f"{folder}: its calibration was stopped before it had a threshold; start that command again")
    no_model = str(folder) == NO_MODEL or (inspection is not None and not inspection.has_model)
    settings = choose_map(inspection, kind=map, **map_options)
    note = None
    source = verdict_from or ("map" if no_model else inspection.verdict_from if inspection else "model")
    given = map_threshold is not None or (threshold is not None and source != "model")
    if inspection is not None and not no_model and threshold is None:
        made = inspection.made.get("model")
        if made is not None and made != model_digest(folder):
            raise UserError(
                f"{folder}: its model is another than the one that its thresholds were found with; make it "
                f"again: adcopilot calibrate {folder} --good DIR"
            )
    if inspection is not None and not given and not inspection.holds_for(settings, templates_each):
        note = (
            f"{folder}: its threshold was found with other map settings and does not hold for these; calibrate "
            "with them, or give --threshold"
        )
        inspection = inspection.without_map_threshold()
    each = templates_each
    if each is None:
        each = inspection.templates_each if inspection else settings.templates if settings else 1
    if type(each) is not int or not 1 <= each <= 64:
        raise UserError(f"--map-templates is {each}, expected 1 to 64")
    return Setup(
        folder=folder,
        inspection=inspection,
        no_model=no_model,
        map=settings,
        judge=choose_judge(
            inspection, threshold=threshold, map_threshold=map_threshold, source=verdict_from, no_model=no_model
        ),
        templates_each=each,
        note=note,
    )


def choose_map(inspection: Inspection | None, *, kind: str | None, **given: Any) -> MapSettings | None:
    """The map that is asked for, or else the line's; None for none.

    Args:
        kind: `pixels`, `features`, `texture` or `off`; None for the line's, else pixels.
        given: fields of `MapSettings`, None for those that are not given.

    Raises:
        UserError: a value is out of its range, or options of a map that is off.
    """
    from ..anomaly_map.comparing import MapSettings

    if kind == "off":
        return None
    kept = inspection.map if inspection is not None and inspection.map and kind is None else {}
    if inspection is not None and not inspection.map and kind is None:
        return None
    given = {name: value for name, value in given.items() if value is not None}
    return MapSettings(**{**kept, **given, "kind": kind or kept.get("kind", "pixels")})


def choose_judge(
    inspection: Inspection | None,
    *,
    threshold: float | None,
    source: str | None,
    no_model: bool,
    map_threshold: float | None = None,
) -> Judge:
    """What gives the verdict: what is asked for, else the line's, else the model from 0.5 on, or the map.

    Raises:
        UserError: there is no model to give it, a threshold is out of its range, or `map_threshold` stands beside no
            model's verdict.
    """
    kept = inspection.judge() if inspection else Judge(source="map" if no_model else "model")
    if no_model and source not in (None, "map"):
        raise UserError(f"--verdict-from {source}: there is no model here; leave it out, or give --model DIR")
    source = source or ("map" if no_model else kept.source)
    if map_threshold is not None:
        if source != "model":
            raise UserError(
                f"--map-threshold {map_threshold:g}: goes with a model's verdict, and here it is from the {source}; "
                "give --threshold"
            )
        kept = replace(kept, map_threshold=map_threshold)
    if threshold is None:
        return replace(kept, source=source)
    return replace(kept, source=source, **{f"{'model' if source == 'model' else 'map'}_threshold": threshold})


def folder_of_templates(folder: Path, inspection: Inspection) -> Path:
    """Where the templates of a line lie.

    Raises:
        UserError: it has none.
    """
    if not inspection.templates:
        raise UserError(
            f"{folder}: keeps no templates (each of its queries had its own); give --template, or --template-dir"
        )
    return (folder / inspection.templates[0]).parent


def open_engine(
    folder: Path, *, no_model: bool, map: MapSettings | None, judge: Judge, device: str, **options: Any
) -> ModelInspector | MapInspector:
    """Load the model with its map, or the map alone.

    Args:
        folder: of the model.
        options: further arguments of `ModelInspector`, which a map alone has no use for.

    Raises:
        UserError: as these two.
    """
    if no_model:
        from .map_inspector import MapInspector

        return MapInspector(map=map, judge=judge, device=device)
    from .model_inspector import ModelInspector

    return ModelInspector(model=folder, judge=judge, map=map, device=device, **options)


def threshold_among(engine: MapInspector, pools: list[TemplatePool], *, each: int) -> Threshold | None:
    """A threshold of the map's score from templates, compared with each other; None where they are too few for one.

    Args:
        each: templates that a map is made with.
    """
    from ..line.thresholds import from_good

    scores = []
    for pool in pools:
        files = pool.files[: MOST_TEMPLATES // len(pools)]
        if pool.pattern is None and len(files) >= LEAST_TEMPLATES:
            pairs = find_pairs([(file, file.name) for file in files], pool, templates=each)
            scores += [result.score for _, result in results_of(engine, pairs) if result.score is not None]
        pool.chosen.clear()  # these were no queries
    return from_good(scores, of_map=True) if len(scores) >= LEAST_TEMPLATES else None
