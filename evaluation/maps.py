"""The anomaly map in evaluation: in place of a model, beside its boxes, and as hints in its questions.

A pair is compared once: what was found is kept in the run's folder (`maps*.jsonl`), so that another threshold, or
`--score RUN --boxes both`, costs no second answer of the model, and the same threshold no second comparison.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from adcopilot.errors import UserError
from adcopilot.images import image_size, is_like_shape
from adcopilot.inspect.command import LEAST_TEMPLATES, MOST_TEMPLATES, add_map_arguments, map_settings, threshold_among
from adcopilot.inspect.pairs import TemplatePool
from adcopilot.jsonl import JsonlLog, content_key, read_jsonl

from .image_digests import image_digests
from .options import asks_map
from .running import Shard

if TYPE_CHECKING:  # it needs torch, which takes seconds
    from adcopilot.anomaly_map.comparing import MapSettings
    from adcopilot.answering.base import Backend
    from adcopilot.answering.items import Item

__all__ = [
    "BOXES",
    "Chosen",
    "Found",
    "Maps",
    "Shown",
    "add_arguments",
    "check_options",
    "choose_boxes",
    "open_maps",
    "ready",
    "shown_in",
]

#: Whose boxes are scored: the model's, the map's, or those of the two together.
BOXES = ("model", "map", "both")
#: Options that only a map has.
_OF_A_MAP = ("map", "map_backbone", "map_search", "box_growth", "threshold", "line")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the map, and what it is made for."""
    group = add_map_arguments(parser, templates=False)
    group.add_argument(
        "--threshold",
        type=float,
        metavar="X",
        help="a map's score from here on is anomalous (the --line's; else for each category twice the median score of "
        f"its templates among each other, where there are {LEAST_TEMPLATES} or more)",
    )
    group.add_argument("--line", type=Path, metavar="DIR", help="threshold and map of `adcopilot calibrate`")
    group.add_argument(
        "--boxes", choices=BOXES, default="model", help="whose boxes are scored (model); both: together"
    )


def check_options(args: argparse.Namespace) -> None:
    """Refuse options that contradict each other, before anything is read; names the map where it answers alone.

    Raises:
        UserError: it names them.
    """
    alone = asks_map(args) and args.score is None
    if alone and args.model not in (None, "none"):
        raise UserError(f"--backend map has no model, but --model is {args.model}; leave it out, or give --model none")
    if alone and args.boxes != "model":
        raise UserError(f"--boxes {args.boxes} is for the answers of a model; leave it out with the map alone")
    if alone and args.thinking:
        raise UserError("--thinking is for a model: a map does not reason; leave it out")
    if not (alone or args.boxes != "model"):
        given = next((name for name in _OF_A_MAP if getattr(args, name) is not None), None)
        if given is not None:
            option = f"--{given.replace('_', '-')}"
            raise UserError(f"{option} is of an anomaly map, and none is made; add --backend map or --boxes both")
    if alone:
        args.model = "none"


def open_maps(args: argparse.Namespace, *, folder: Path | None) -> Maps:
    """The maps that the options ask for.

    Args:
        folder: of the run, where what was found is kept; None to keep nothing.

    Raises:
        UserError: a value is out of its range, `--line` is none, or a backbone cannot be loaded.
    """
    from adcopilot.line.inspection import FILE, read_inspection

    inspection = None
    if args.line is not None:
        place = args.line.parent if args.line.name == FILE else args.line
        inspection = read_inspection(place)
        again = f"adcopilot calibrate none --good DIR --output {place}"
        if inspection is None:
            raise UserError(f"--line {args.line}: has no {FILE}, expected a line's folder; {again} makes one")
        if not inspection.map or "map" not in inspection.thresholds:
            raise UserError(f"{place / FILE}: has no map with a threshold; {again} finds one, or give --threshold")
    settings = map_settings(args, inspection)
    if settings is None:
        raise UserError("--map off: nothing is left to compare with; give --map pixels")
    kept = inspection.thresholds["map"] if inspection else None
    shard = Shard.parse(args.shard)
    return Maps(
        settings,
        threshold=kept if args.threshold is None else args.threshold,
        device=args.device,
        file=None if folder is None else folder / shard.file_name("maps"),
    )


class Shown(NamedTuple):
    """What a question shows: its templates, its query, and the category whose threshold counts."""

    templates: tuple[Path, ...]
    query: Path
    category: str


def shown_in(images: Iterable[str | Path], meta: Mapping[str, Any]) -> Shown:
    """Of an item, or of a line of a run."""
    *templates, query = map(Path, images)
    names = (meta.get("dataset"), meta.get("category"))
    return Shown(tuple(templates), query, "/".join(str(name) for name in names if name))


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a map says of a pair.

    Attributes:
        score: of the map; None where there is none.
        boxes: `{"bbox_2d": …, "label": …}` in pixels of the query; none where it is normal.
        anomalous: None where no threshold is known; the boxes are then around what differs most.
        refused: why there can be no verdict about these pictures, "" if there can.
    """

    score: float | None = None
    boxes: list[dict[str, Any]] = field(default_factory=list)
    anomalous: bool | None = None
    refused: str = ""


class Maps:
    """Compares the pictures of questions.

    Args:
        settings: how.
        threshold: of all scores; None for one of each category, from its templates (`learn`).
        device: of a backbone.
        file: where what was found is kept; others of its kind beside it are read too.

    Raises:
        UserError: as `MapInspector`.
    """

    def __init__(
        self, settings: MapSettings, *, threshold: float | None, device: str = "auto", file: Path | None = None
    ) -> None:
        from adcopilot.inspect.judging import Judge
        from adcopilot.inspect.map_inspector import MapInspector

        self.settings, self.threshold, self.file = settings, threshold, file
        self.inspector = MapInspector(map=settings, judge=Judge(source="map", map_threshold=threshold), device=device)
        self.thresholds: dict[str, float | None] = {}

    @property
    def title(self) -> str:
        """In the place of a model's name."""
        backbone = f" of {Path(self.settings.backbone).name}" if self.settings.backbone else ""
        return f"anomaly map ({self.settings.kind}{backbone})"

    def describe(self) -> dict[str, Any]:
        """All that what is found depends on besides the pictures."""
        packages = ("torch", "numpy", "pillow", *(["transformers"] if self.settings.backbone else []))
        return {
            "map": self.settings.as_dict(),
            **({"thresholds": self.thresholds} if self.threshold is None else {"threshold": self.threshold}),
            "versions": {name: metadata.version(name) for name in packages},
        }

    def learn(self, shown: Sequence[Shown]) -> None:
        """Find the threshold of each category among all of its templates, where none is given."""
        if self.threshold is not None:
            return
        templates: dict[str, dict[Path, None]] = {}
        for one in shown:
            templates.setdefault(one.category, {}).update(dict.fromkeys(one.templates))
        few = []
        for category, files in sorted(templates.items()):
            some = sorted(files)[:: -(-len(files) // MOST_TEMPLATES)]
            found = None
            if len(some) >= LEAST_TEMPLATES:
                pool = TemplatePool(folder=Path(category), by_name=False, files=some)
                found = threshold_among(self.inspector, [pool])
            self.thresholds[category] = None if found is None else found.value
            few += [] if found else [category or "(no category)"]
        if few:
            told = f"{', '.join(few[:3])}{' …' if len(few) > 3 else ''}"
            print(
                f"no threshold for {len(few)} of {len(templates)} categories ({told}), which have fewer than "
                f"{LEAST_TEMPLATES} templates: boxes are around what differs most there, and no verdict is given; "
                "give --threshold, or --line DIR of `adcopilot calibrate`",
                file=sys.stderr,
            )

    def find(self, shown: Sequence[Shown]) -> Iterator[tuple[Shown, Found]]:
        """What is found in each of these, in any order.

        Raises:
            UserError: a picture cannot be read, or the file not written to.
        """
        for one, found, error in self.compare(shown):
            if error:
                raise UserError(f"{error}; the map needs the pictures of the run")
            yield one, found

    def compare(self, shown: Sequence[Shown]) -> Iterator[tuple[Shown, Found, str]]:
        """The same, with an error beside it where a picture cannot be read."""
        if self.file is None:
            for one, found, error in self._compare(shown):
                yield one, found, error
            return
        paths = {path for one in shown for path in (*one.templates, one.query)}
        gone = sorted(path for path in paths if not path.is_file())
        if gone:
            raise UserError(f"{gone[0]}: not found; the map needs the pictures of the run, put them back")
        digests = image_digests(sorted(paths), folder=self.file.parent)
        settings = {**self.describe(), "thresholds": None}

        def key(one: Shown) -> str:
            digest = [digests[path] for path in (*one.templates, one.query)]
            return content_key(settings, digest, self._threshold_of(one))

        kept = {
            line["key"]: line for file in sorted(self.file.parent.glob("maps*.jsonl")) for _, line in read_jsonl(file)
        }
        names = Found.__dataclass_fields__
        missing = []
        for one in shown:
            line = kept.get(key(one))
            if line is None:
                missing.append(one)
            else:
                yield one, Found(**{name: line[name] for name in names}), ""
        if missing:
            with JsonlLog(path=self.file) as log:
                for one, found, error in self._compare(missing):
                    if not error and key(one) not in log:
                        log.append({"key": key(one), **asdict(found)})
                    yield one, found, error

    def _threshold_of(self, one: Shown) -> float | None:
        return self.threshold if self.threshold is not None else self.thresholds.get(one.category)

    def _compare(self, shown: Sequence[Shown]) -> Iterator[tuple[Shown, Found, str]]:
        by_threshold: dict[float | None, list[Shown]] = {}
        for one in shown:
            by_threshold.setdefault(self._threshold_of(one), []).append(one)
        for threshold, some in by_threshold.items():
            self.inspector.judge = replace(self.inspector.judge, map_threshold=threshold)
            fitting = []
            for one in some:
                why = _cannot_be_compared(one)
                if why:
                    yield one, Found(refused=why), ""
                else:
                    fitting.append(one)
            questions = (self.inspector.pair_question(*one.templates[:1], one.query, one.templates[1:])
                         for one in fitting)  # fmt: skip
            for one, result in zip(fitting, self.inspector.ask(questions), strict=True):
                unclear = result.anomalous is None and (result.doubt or result.map_doubt or "")
                found = Found(
                    score=result.score,
                    boxes=[] if result.anomalous is False or unclear else result.boxes,
                    anomalous=result.anomalous,
                    refused=unclear or "",
                )
                yield one, found, result.error or ""


def _cannot_be_compared(one: Shown) -> str:
    """Why places of these pictures cannot be compared, "" where they can, or where a file cannot be read."""
    if not one.templates:
        return f"{one.query}: has no template to be compared with"
    try:
        size, others = image_size(one.query), [image_size(path) for path in one.templates]
    except UserError:
        return ""  # it is said when the picture is opened
    other = next((other for other in others if not is_like_shape(other, size)), None)
    if other is None:
        return ""
    return (
        f"{one.query}: has {size[0]}×{size[1]} pixels and its template {other[0]}×{other[1]}, which is another shape, "
        "so places cannot be compared"
    )


def ready(args: argparse.Namespace, backend: Backend, items: Sequence[Item]) -> None:
    """Where the map answers, let it see what it will be asked: before `identity` describes it.

    Raises:
        UserError: a map cannot answer one of the items.
    """
    if asks_map(args) and hasattr(backend, "learn"):
        backend.learn(items)
        args.model = backend.maps.title


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Whose boxes a run is scored by, where that is not the model alone.

    Attributes:
        whose: one of `BOXES`.
        found: item of a line → what the map says of its pictures.
        made: how the map was made, for the results.
    """

    whose: str
    found: Mapping[str, Found]
    made: Mapping[str, Any]

    def boxes(self, item: str, model: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
        """Boxes of an item by whose they are, as `BOXES` names them; together, they are a union."""
        found = self.found[item].boxes
        return {"model": list(model), "map": list(found), "both": [*model, *found]}


def choose_boxes(args: argparse.Namespace, records: Sequence[Mapping[str, Any]]) -> Chosen | None:
    """What `--boxes` asks for, of the lines of a run that ask for boxes; None for the model's alone.

    Raises:
        UserError: a line has no template, or its pictures cannot be read.
    """
    if args.boxes == "model":
        return None
    maps = open_maps(args, folder=args.output or args.score)
    shown = {record["item"]: shown_in(record.get("images") or [""], record["meta"]) for record in records}
    bare = next((item for item, one in shown.items() if not one.templates), None)
    if bare is not None:
        raise UserError(f"--boxes {args.boxes}: item {bare} has no template to compare with; give --boxes model")
    places = list(dict.fromkeys(shown.values()))
    maps.learn(places)
    found = dict(maps.find(places))
    return Chosen(whose=args.boxes, found={item: found[one] for item, one in shown.items()}, made=maps.describe())
