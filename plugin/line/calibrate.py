"""`adcopilot calibrate`: from pictures of good parts, and of defective ones if there are any, to `inspection.json`."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..anomaly_map import MOST_TEMPLATES
from ..cli.saying import progress
from ..errors import UserError
from ..images import image_size, is_like_shape, used_bits
from ..inspect.command import (
    ASKED,
    add_map_arguments,
    add_model_arguments,
    map_settings,
    one_line_warnings,
    open_inspector,
)
from ..inspect.hub import is_hub_id, model_folder
from ..inspect.judging import SOURCES, Judge
from ..inspect.lines import inspect_all, renew
from ..inspect.loading import check_folder, model_digest
from ..inspect.pairs import NamePattern, Pair, TemplatePool, find_images, find_pairs, spread
from ..inspect.sources import one_template
from ..jsonl import JsonlLog, content_key, file_digest
from .aligning import suited_map
from .deciding import Goal, decide_line
from .inspection import CALIBRATION, FILE, TEMPLATES, Inspection, templates_digest
from .pictures import LabelledPicture, check_good, check_whole, labelled
from .placing import check_place, place_files, place_model

if TYPE_CHECKING:
    from ..inspect.map_inspector import MapInspector
    from ..inspect.model_inspector import ModelInspector

__all__ = ["Calibration", "calibrate", "in_words", "quoted", "share", "takes_texture", "write_report"]

#: How many of a line's templates a query's map of pixels is made with.
TEMPLATES_EACH = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", type=Path, metavar="DIR|ID|none", help="folder or hub id of a model; none for the map"
    )
    what = parser.add_argument_group("pictures")
    what.add_argument("--good", type=Path, required=True, metavar="DIR", help="pictures of good parts")
    what.add_argument(
        "--bad", type=Path, metavar="DIR", help="pictures of defective parts; its folders name the kinds"
    )
    what.add_argument("--marks", type=Path, metavar="FILE", help="marks from a report page; they count before folders")
    what.add_argument("--template", type=Path, metavar="FILE", help="the one template (the good pictures themselves)")
    what.add_argument("--template-dir", type=Path, metavar="DIR", help="templates (the good pictures themselves)")
    what.add_argument(
        "--pair-pattern", metavar="QUERY=TEMPLATE", help="which template belongs to which picture, as in inspect"
    )
    how = parser.add_argument_group("the threshold")
    goal = how.add_mutually_exclusive_group()
    goal.add_argument("--max-missed", type=share, metavar="SHARE", help="miss at most this share of defective parts")
    goal.add_argument("--max-false-alarms", type=share, metavar="SHARE", help="at most this share of good parts")
    how.add_argument("--verdict-from", choices=SOURCES, help="whose score decides (what the pictures support)")
    how.add_argument("--mixed", action="store_true", help="take good pictures that fall into groups of another look")
    parser.add_argument("--output", type=Path, metavar="DIR", help=f"where {FILE} goes (the model's folder)")
    add_map_arguments(parser)
    add_model_arguments(parser)


def share(text: str) -> float:
    """A share between 0 and 1, as `0.01` or `1%`."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is no share, expected 0 to 1, such as 0.01 or 1%")
    return value


def run(args: argparse.Namespace) -> int:
    no_model = str(args.model) == "none"
    if args.map_backbone is None and no_model and args.map == "off":
        raise UserError("calibrate none with --map off: nothing is left to calibrate; give --map pixels")
    if is_hub_id(args.model) and args.output is None:
        raise UserError(f"{args.model}: is on a hub, so the line needs a folder of its own; give --output DIR")
    args.model = model_folder(args.model, option="calibrate")
    if not no_model:
        check_folder(args.model)
    if args.max_missed is not None and args.bad is None and args.marks is None:
        raise UserError("--max-missed needs pictures of defective parts; give --bad DIR, or --max-false-alarms")
    output = args.output or (None if no_model else args.model)
    if output is not None:
        _check_apart(output, (args.good, args.bad, args.template_dir))
    pictures = labelled(args.good, args.bad, args.marks)
    good = [one.file for one in pictures if not one.bad]
    templates = [args.template] if args.template else find_images(args.template_dir) if args.template_dir else []
    check_whole(list(dict.fromkeys([*(one.file for one in pictures), *templates])))
    check_good(good, args.good, mixed=args.mixed, textures=takes_texture(args))
    settings = map_settings(args, None)
    if not no_model and output.resolve() != args.model.resolve():
        place_model(args.model, output)
        args.model = output  # what is calibrated is what will inspect
    found = calibrate(args, pictures, settings=settings, output=output, no_model=no_model)
    for line in in_words(found):
        print(line)
    if output is None:
        templates = f"--template-dir {quoted(args.template_dir or args.good)}"
        if args.template:
            templates = f"--template {quoted(args.template)}"
        if args.pair_pattern:
            templates += f" --pair-pattern {args.pair_pattern!r}"
        made = _map_words(found.inspection)
        print(
            f"adcopilot inspect --model none {templates} --query-dir DIR {made}--threshold "
            f"{found.inspection.threshold!r}"
        )
    else:
        write_report(found, output / "report.html", title=output.resolve().name)
        print(f"{output / FILE} and {output / 'report.html'} are written")
        print(f"adcopilot inspect --model {quoted(output)} --query-dir DIR --report report.html")
    return 0


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What `calibrate` found.

    Attributes:
        inspection: the file's content.
        pictures, pairs: what was inspected.
        inspector: with what.
        log: file of the results; None where none was written.
    """

    inspection: Inspection
    pictures: Sequence[LabelledPicture]
    pairs: list[Pair]
    inspector: ModelInspector | MapInspector
    log: Path | None


def calibrate(
    args: argparse.Namespace,
    pictures: Sequence[LabelledPicture],
    *,
    settings,
    output: Path | None,
    no_model: bool,
    made: dict[str, Any] | None = None,
    templates: Sequence[Path] | None = None,
) -> Calibration:
    """Inspect labelled pictures, choose thresholds and the source of verdicts, write `inspection.json`.

    A run that was killed goes on: results stand in `calibration.jsonl` in `output`.

    Args:
        args: options of the command.
        pictures: labelled.
        settings: of the map; None for none.
        output: folder of the line; None to write nothing.
        no_model: whether the map is all there is.
        made: what else is to be recorded.
        templates: good pictures to keep as templates; by default of those in `pictures`.

    Raises:
        UserError: a picture cannot be inspected, or there are no good ones.
    """
    because = ""
    if args.map is None and takes_texture(args):
        each = args.map_templates or TEMPLATES_EACH
        settings, because = suited_map(pictures, settings, templates=_kept(pictures, templates), each=each)
    each = args.map_templates or max(TEMPLATES_EACH, settings.templates if settings else 1)
    bits = used_bits([one.file for one in pictures])
    pairs, files = _pairs(args, pictures, templates, each=each, bits=bits)
    pairs, left_out = list(pairs), []
    kept = _names(files) if output is not None else {}
    if output is not None:
        check_place(kept, output / TEMPLATES)
    if no_model and settings.kind != "texture" and not _own_templates(args):
        pictures, pairs, left_out = _comparable(pictures, pairs)
    with one_line_warnings():
        inspector = open_inspector(args, Judge(source="map" if no_model else "model"), settings, no_model=no_model)
        inspector.bits = bits
        digest = "" if no_model or output is None else model_digest(args.model)
        path = output / CALIBRATION if output is not None else None
        log = JsonlLog(path=path) if path else None
        try:
            lines = []
            bar = progress(total=len(pictures), desc="calibration", unit="picture", hidden=None)
            with bar:
                for _, line, _ in inspect_all(inspector, pairs, model=digest, log=log, boxes=False):
                    if "error" in line:
                        raise UserError(f"{line['error']}; take it out of the folder, or mend it")
                    lines.append(line)
                    bar.update()
        finally:
            if log is not None:
                log.close()
    scores: dict[str, list[float | None]] = {}
    if not no_model:
        # what the model leaves undecided it will leave undecided: its score is no ground for a threshold
        scores["model"] = [None if line["anomalous"] is None else line["score"] for line in lines]
    if settings is not None:
        scores["map"] = [line["score"] if no_model else line.get("map_score") for line in lines]
    goal = Goal(missed=args.max_missed, false_alarms=args.max_false_alarms, source=args.verdict_from)
    decided = decide_line(pictures, scores, goal=goal)
    inspection = replace(
        decided,
        warnings=(*left_out, *decided.warnings),
        templates=tuple(f"{TEMPLATES}/{name}" for name in kept),
        templates_each=each,
        map=settings.to_dict() if settings is not None else None,
        bits=bits,
        asked={} if no_model else {name: value for name in ASKED if (value := getattr(args, name)) is not None},
        made={**_made(args, pictures), **({"map_because": because} if because else {}), **(made or {})},
    )
    if output is not None:  # at the end: a calibration that fails leaves a line as it was
        place_files(kept, output / TEMPLATES)
        made = {**inspection.made, "templates": templates_digest(output)}
        inspection = replace(inspection, made=made)
        inspection.write(output)
    return Calibration(inspection=inspection, pictures=pictures, pairs=pairs, inspector=inspector, log=path)


def write_report(found: Calibration, path: Path, *, title: str) -> None:
    """The page about the pictures that a line was calibrated with: their maps are made again, their answers are not.

    The stored lines get the verdicts and boxes that the page shows.

    Raises:
        UserError: it cannot be written.
    """
    from .report import LineReport

    inspector = found.inspector
    inspector.judge = found.inspection.judge()
    report = LineReport(
        path,
        title=title,
        judge=inspector.judge,
        inspection=found.inspection,
        bits=inspector.bits,
        metrics=found.inspection.metrics,
    )
    log = JsonlLog(path=found.log) if found.log else None
    try:
        digest = "" if str(inspector.folder) == "none" else model_digest(inspector.folder)
        lines = inspect_all(inspector, found.pairs, model=digest, log=log, maps=True)
        names: set[str] = set()
        judged: list[tuple[Pair, dict[str, Any]]] = []
        for picture, (pair, line, anomaly_map) in zip(found.pictures, lines, strict=True):
            name = f"{picture.file.parent.name}/{picture.file.name}"
            name = name if name not in names else str(picture.file)  # of folders of one name
            names.add(name)
            report.add(name, line, anomaly_map, label=(picture.bad, picture.kind))
            judged.append((pair, line))
        report.write()
    finally:
        if log is not None:
            log.close()
    if found.log is not None:
        renew(found.log, inspector, judged, model=digest)


def in_words(found: Calibration) -> list[str]:
    """What was found, in a few lines."""
    inspection, metrics = found.inspection, found.inspection.metrics
    lines = [f"threshold {inspection.threshold:g}: {inspection.threshold_from}"]
    if "map_because" in inspection.made:
        lines.append(f"map of {inspection.map['kind']}: {inspection.made['map_because']}")
    lines.append(f"verdict from the {inspection.verdict_from}: {inspection.why}")
    if metrics["defective"] and metrics["auroc"] is not None:
        told = (
            f"missed {metrics['missed']} of {metrics['defective']} defective, false alarms {metrics['false_alarms']}"
        )
        lines.append(f"{told} of {metrics['good']} good, AUROC {metrics['auroc']:.3f}; {metrics['how']}")
    return [*lines, *(f"note: {warning}" for warning in inspection.warnings)]


def quoted(path: Path) -> str:
    """A path as it can be typed."""
    return shlex.quote(str(path))


def _map_words(inspection: Inspection) -> str:
    """The options that make the map of a line without a folder again."""
    from ..anomaly_map.comparing import MapSettings

    made = MapSettings(**inspection.map)
    given = {"--map": made.kind, "--map-backbone": made.backbone, "--map-search": made.search}
    given |= {"--map-templates": inspection.templates_each, "--box-growth": made.growth}
    usual = ("pixels", None, None, made.templates, 0)
    return "".join(
        f"{name} {value} " for (name, value), plain in zip(given.items(), usual, strict=True) if value != plain
    )


def takes_texture(args: argparse.Namespace) -> bool:
    """Whether the map is one of textures, or may become one: options that name another, that speak of places or that
    bring templates leave nothing to choose."""
    if args.map is not None:
        return args.map == "texture"
    return args.map_search is None and not _own_templates(args)


def _own_templates(args) -> bool:
    """Whether the templates are others than the good pictures."""
    return bool(args.template or args.template_dir or args.pair_pattern)


def _kept(pictures: Sequence[LabelledPicture], templates: Sequence[Path] | None) -> list[Path]:
    """The good pictures that are templates, at most as many as a line keeps, spread over all."""
    return spread(templates or [one.file for one in pictures if not one.bad], MOST_TEMPLATES)


def _pairs(
    args, pictures: Sequence[LabelledPicture], templates: Sequence[Path] | None, *, each: int, bits: int | None
):
    """The pair of each picture, and the templates that the line keeps."""
    queries = [(one.file, one.file.name) for one in pictures]
    if args.template:
        return one_template(queries, args.template), [args.template]
    if args.template_dir or args.pair_pattern:
        pattern = NamePattern.parse(args.pair_pattern) if args.pair_pattern else None
        folder = args.template_dir or args.good
        pool = TemplatePool(folder=folder, by_name=True, pattern=pattern, bits=bits)
        kept = [] if pattern else spread(pool.files, MOST_TEMPLATES)
        return find_pairs(_named(pictures, args, pattern), pool, templates=each), kept
    chosen = _kept(pictures, templates)
    pool = TemplatePool(folder=Path(), by_name=True, files=chosen, bits=bits)
    return find_pairs(queries, pool, templates=each), chosen


def _comparable(
    pictures: Sequence[LabelledPicture], pairs: list[Pair]
) -> tuple[Sequence[LabelledPicture], list[Pair], list[str]]:
    """The pictures that a map can be made of with other good ones, and a sentence about those that it cannot.

    Raises:
        UserError: there is no good picture among them.
    """
    kept, alone = [], []
    for picture, pair in zip(pictures, pairs, strict=True):
        known = pair.error is None and pair.template is not None
        fits = not known or is_like_shape(image_size(pair.query), image_size(pair.template))
        (kept if fits else alone).append((picture, pair))
    if not alone:
        return pictures, pairs, []
    told = f"{len(alone)} of {len(pairs)} pictures ({alone[0][1].query.name}{', …' if len(alone) > 1 else ''})"
    told += " have a shape that no other good picture has: they were compared with nothing"
    if all(picture.bad for picture, _ in kept):
        raise UserError(f"{told}, and no good one is left; give good pictures of one shape")
    return [picture for picture, _ in kept], [pair for _, pair in kept], [told]


def _named(pictures: Sequence[LabelledPicture], args, pattern: NamePattern | None) -> list[tuple[Path, str]]:
    """Queries with their paths below their folders; those that the pattern knows."""
    named = []
    for one in pictures:
        folder = args.good if one.file.is_relative_to(args.good) else args.bad
        name = str(one.file.relative_to(folder)) if folder and one.file.is_relative_to(folder) else one.file.name
        if pattern and not pattern.template_for(Path(name).as_posix()):
            raise UserError(f"{one.file}: is no query by --pair-pattern {args.pair_pattern!r}; give queries alone")
        named.append((one.file, name))
    return named


def _names(files: Sequence[Path]) -> dict[str, Path]:
    """What templates are called in the line's folder: by their own names, by which a query may belong to them."""
    names: dict[str, Path] = {}
    for index, file in enumerate(files):
        names[file.name if file.name not in names else f"{index:03d}-{file.name}"] = file
    return names


def _check_apart(output: Path, read: Sequence[Path | None]) -> None:
    """Refuse a line in a folder that is read, and pictures where the line's templates go."""
    for folder in filter(None, read):
        if output.resolve().is_relative_to(folder.resolve()):
            told = f"lies inside {folder}, whose pictures are read"
        elif folder.resolve().is_relative_to((output / TEMPLATES).resolve()):
            told = f"keeps its templates in {folder}, whose pictures are read"
        else:
            continue
        raise UserError(f"--output {output}: {told}; give a folder elsewhere")
    if output.exists() and not output.is_dir():
        raise UserError(f"--output {output}: is a file, expected a folder; give another name")


def _made(args, pictures: Sequence[LabelledPicture]) -> dict[str, Any]:
    digests = sorted((file_digest(one.file), one.bad) for one in pictures)
    return {
        "command": "adcopilot calibrate",
        "versions": {name: version(name) for name in ("adcopilot", "torch", "transformers", "numpy", "pillow")},
        "pictures": content_key(digests),
        "model": None if str(args.model) == "none" else model_digest(args.model),
    }
