"""The anomaly map in evaluation: in place of a model, beside its boxes, and as hints in its questions."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adcopilot.anomaly_map.hints import HINT, hint, with_hint
from adcopilot.errors import UserError
from adcopilot.images import image_size
from adcopilot.inspect.command import HINTS, add_map_arguments, map_settings
from adcopilot.inspect.opening import LEAST_TEMPLATES
from adcopilot.jsonl import content_key

from .maps import MapFinding, Maps, shown_in
from .options import asks_map
from .running import RunShard
from .table import Columns, Table

if TYPE_CHECKING:
    from adcopilot.answering.base import Backend
    from adcopilot.answering.items import Item

    from .benchmark import Benchmark
    from .source import ReportSource

__all__ = [
    "BOXES",
    "Chosen",
    "add_arguments",
    "check_options",
    "choose_boxes",
    "open_maps",
    "ready",
    "tables_by",
    "told_of",
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
    group.add_argument("--hints", choices=HINTS, help="tell the model which places the map marks")
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
    if alone and args.hints:
        raise UserError(f"--hints {args.hints} is for a model; leave it out with the map alone")
    if not (alone or args.hints or args.boxes != "model"):
        given = next((name for name in _OF_A_MAP if getattr(args, name) is not None), None)
        if given is not None:
            option = f"--{given.replace('_', '-')}"
            raise UserError(
                f"{option} is of an anomaly map, and none is made; add --backend map, --boxes both or --hints map"
            )
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
    if inspection is not None and args.threshold is None and not inspection.holds_for(settings, None):
        raise UserError(
            f"--line {args.line}: its threshold was found with other map settings and does not hold for these; leave "
            "--map and its options out, or give --threshold"
        )
    kept = inspection.thresholds["map"] if inspection else None
    shard = RunShard.parse(args.shard)
    return Maps(
        settings,
        bits=inspection.bits if inspection else None,
        threshold=kept if args.threshold is None else args.threshold,
        templates_each=inspection.templates_each if inspection and args.threshold is None else None,
        device=args.device,
        file=None if folder is None else folder / shard.file_name("maps"),
    )


def ready(args: argparse.Namespace, backend: Backend, items: Sequence[Item]) -> tuple[Sequence[Item], dict[str, Any]]:
    """Before `identity` describes a backend: where the map answers, let it see what it will be asked; with `--hints`,
    put them into the questions.

    Returns:
        The items as they are asked, and what this adds to the settings.

    Raises:
        UserError: a map cannot answer one of the items, or pictures are gone.
    """
    if asks_map(args) and hasattr(backend, "learn"):
        backend.learn(items)
        args.model = backend.maps.title
    if not args.hints:
        return items, {}
    maps = open_maps(args, folder=args.output)
    shown = {item.key: shown_in(item.images, item.meta) for item in items if len(item.images) > 1}
    places = list(dict.fromkeys(shown.values()))
    maps.learn(places)
    # a picture that cannot be read costs its own question, when it is asked
    found = {one: made for one, made, error in maps.compare(places) if not error and not made.refused}
    hinted = []
    for item in items:
        made = found.get(shown.get(item.key))
        if made is None:
            hinted.append(item)
            continue
        size = image_size(item.images[-1])
        space = backend.model_size(size) if backend.family.pixels else (1000, 1000)
        question = with_hint(item.question, hint(made.boxes, size=size, space=space))
        hinted.append(replace(item, key=content_key(item.key, question), question=question))
    return hinted, {"hints": {"sentence": HINT, **maps.describe()}}


def told_of(source: ReportSource) -> list[str]:
    """What stands beside a run's name: hints in its questions, boxes that are not the model's alone."""
    whose = source.results.get("boxes_by", {}).get("whose")
    hints = ["hints of the map"] if source.identity.get("hints") else []
    return [*hints, *([f"boxes by {whose}"] if whose else [])]


def tables_by(
    asked: Benchmark,
    sources: Sequence[ReportSource],
    *,
    columns: Columns,
    values: Callable[[Mapping[str, Any]], Mapping[str, float | None]],
) -> list[Table]:
    """The table of runs that were scored by other boxes than the model's alone; none without such a run.

    Args:
        asked: their benchmark.
        sources: the runs.
        columns: of the table.
        values: a row's, of what the results say of one of `BOXES`.
    """
    rows = {
        f"{source.name}, {whose}": values(row)
        for source in sources
        for whose, row in source.results.get("boxes_by", {}).items()
        if whose in BOXES
    }
    title = f"{asked.title}: boxes by model, map and both"
    return [replace(Table.plain(columns, rows), key=f"{asked.name}-boxes", title=title)] if rows else []


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Whose boxes a run is scored by, where that is not the model alone.

    Attributes:
        whose: one of `BOXES`.
        found: item of a line → what the map says of its pictures.
        made: how the map was made, for the results.
    """

    whose: str
    found: Mapping[str, MapFinding]
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
