"""`adcopilot calibrate`: from pictures of good parts, and of defective ones if there are any, to `inspection.json`."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..inspect.command import (
    add_map_arguments,
    add_model_arguments,
    map_settings,
    one_line_warnings,
    open_inspector,
)
from ..inspect.judging import SOURCES, Judge
from ..inspect.lines import inspect_all
from ..inspect.loading import check_folder, model_digest
from ..inspect.pairs import NamePattern, TemplatePool, find_pairs
from ..inspect.sources import one_template
from ..jsonl import JsonlLog, content_key, file_digest
from .inspection import FILE, Inspection
from .measures import choose_source, measures
from .pictures import Picture, check_good, labelled
from .thresholds import Threshold, from_good, from_labels, with_most_false_alarms, with_most_missed

__all__ = ["MOST_TEMPLATES", "Calibration", "calibrate"]

#: Templates that a line keeps at most; and how many of them a query's map is made with.
MOST_TEMPLATES = 32
TEMPLATES_EACH = 4
#: Parts that the pictures are divided into, so that no threshold is measured on what it was chosen by.
FOLDS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="DIR|none", help="a model's folder, or none for the map alone")
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
        raise argparse.ArgumentTypeError(f"{text} is no share, expected 0 to 1, such as 0.01 or 1%%")
    return value


def run(args: argparse.Namespace) -> int:
    no_model = str(args.model) == "none"
    if args.map_backbone is None and no_model and args.map == "off":
        raise UserError("calibrate none with --map off: nothing is left to calibrate; give --map pixels")
    if not no_model:
        check_folder(args.model)
    output = args.output or (None if no_model else args.model)
    pictures = labelled(args.good, args.bad, args.marks)
    check_good([one.file for one in pictures if not one.bad], args.good, mixed=args.mixed)
    settings = map_settings(args, None)
    found = calibrate(args, pictures, settings=settings, output=output, no_model=no_model)
    print(f"threshold {found.inspection.threshold:g}: {found.inspection.threshold_from}")
    print(f"verdict from the {found.inspection.verdict_from}: {found.inspection.why}")
    for warning in found.inspection.warnings:
        print(f"note: {warning}")
    if output is None:
        templates = f"--template-dir {args.template_dir or args.good}"
        if args.template:
            templates = f"--template {args.template}"
        if args.pair_pattern:
            templates += f" --pair-pattern {args.pair_pattern!r}"
        print(f"adcopilot inspect --model none {templates} --query-dir DIR --threshold {found.inspection.threshold:g}")
    else:
        print(f"{output / FILE} written; adcopilot inspect --model {output} --query-dir DIR --report report.html")
    return 0


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What `calibrate` found: the file's content, and the line of each picture."""

    inspection: Inspection
    lines: list[tuple[Picture, dict[str, Any]]]


def calibrate(
    args: argparse.Namespace,
    pictures: Sequence[Picture],
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
    from tqdm import tqdm

    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
    pairs, kept = _pairs(args, pictures, output, templates)
    with one_line_warnings():
        inspector = open_inspector(args, Judge(source="map" if no_model else "model"), settings, no_model=no_model)
        digest = "" if no_model or output is None else model_digest(args.model)
        log = JsonlLog(path=output / "calibration.jsonl") if output is not None else None
        try:
            lines = []
            bar = tqdm(total=len(pictures), desc="calibration", unit="picture", file=sys.stderr, disable=None)
            with bar:
                for _, line, _ in inspect_all(inspector, pairs, model=digest, log=log):
                    if "error" in line:
                        raise UserError(f"{line['error']}; take it out of the folder, or mend it")
                    lines.append(line)
                    bar.update()
        finally:
            if log is not None:
                log.close()
    found = list(zip(pictures, lines, strict=True))
    inspection = _decide(args, found, settings=settings, templates=kept, made=made or {}, no_model=no_model)
    if output is not None:
        inspection.write(output)
    return Calibration(inspection=inspection, lines=found)


def _pairs(args, pictures: Sequence[Picture], output: Path | None, templates: Sequence[Path] | None):
    """The pair of each picture, and the templates that the line keeps, relative to its folder."""
    queries = [(one.file, one.file.name) for one in pictures]
    if args.template:
        kept = _keep([args.template], output)
        return one_template(queries, args.template), kept
    each = args.map_templates or TEMPLATES_EACH
    if args.template_dir or args.pair_pattern:
        pattern = NamePattern.parse(args.pair_pattern) if args.pair_pattern else None
        folder = args.template_dir or args.good
        pool = TemplatePool(folder=folder, by_name=True, pattern=pattern)
        kept = () if pattern else _keep(pool.files[:: -(-len(pool.files) // MOST_TEMPLATES)], output)
        return find_pairs(_named(pictures, args, pattern), pool, templates=each), kept
    good = list(templates or [one.file for one in pictures if not one.bad])
    chosen = good[:: -(-len(good) // MOST_TEMPLATES)]
    kept = _keep(chosen, output)
    pool = TemplatePool(folder=Path(), by_name=False, files=chosen)
    return find_pairs(queries, pool, templates=each), kept


def _named(pictures: Sequence[Picture], args, pattern: NamePattern | None) -> list[tuple[Path, str]]:
    """Queries with their paths below their folders; those that the pattern knows."""
    named = []
    for one in pictures:
        folder = args.good if one.file.is_relative_to(args.good) else args.bad
        name = str(one.file.relative_to(folder)) if folder and one.file.is_relative_to(folder) else one.file.name
        if pattern and not pattern.template_for(Path(name).as_posix()):
            raise UserError(f"{one.file}: is no query by --pair-pattern {args.pair_pattern!r}; give queries alone")
        named.append((one.file, name))
    return named


def _keep(files: Sequence[Path], output: Path | None) -> tuple[str, ...]:
    """Copy templates into the line's folder; their paths there."""
    if output is None:
        return ()
    folder = output / "templates"
    folder.mkdir(exist_ok=True)
    names = []
    for index, file in enumerate(files):
        name = f"{index:03d}{file.suffix.lower()}"
        shutil.copyfile(file, folder / name)
        names.append(name)
    for old in folder.iterdir():  # of an earlier calibration
        if old.name not in names:
            old.unlink()
    return tuple(f"templates/{name}" for name in names)


def _decide(args, found, *, settings, templates, made, no_model: bool) -> Inspection:
    scores: dict[str, list[float | None]] = {}
    if not no_model:
        scores["model"] = [line["score"] for _, line in found]
    if settings is not None:
        scores["map"] = [line["score"] if no_model else line.get("map_score") for _, line in found]
        missing = [one.file for (one, _), score in zip(found, scores["map"], strict=True) if score is None]
        if len(missing) > len(found) / 5 or (no_model and len(missing) == len(found)):
            raise UserError(f"{missing[0]}: {len(missing)} of {len(found)} pictures have no map; give others")
    pictures = [one for one, _ in found]
    bad = [one.bad for one in pictures]
    chosen = {name: _threshold(args, values, bad, of_map=name == "map") for name, values in scores.items()}
    if len(scores) == 2:
        pairs = zip(scores["model"], scores["map"], strict=True)
        scores["either"] = [larger(*one, chosen["model"].value, chosen["map"].value) for one in pairs]
    default = "map" if "map" in scores else "model"
    source, why = choose_source(scores, bad, default=default)
    if args.verdict_from:
        source, why = args.verdict_from, "asked for by --verdict-from"
        if source not in scores:
            raise UserError(f"--verdict-from {source}: there is no score of it here; leave it out")
    main = chosen["model" if source == "model" else "map"]
    inspection = Inspection(
        verdict_from=source,
        thresholds={name: one.value for name, one in chosen.items()},
        threshold_from=main.chosen,
        why=why,
        warnings=main.warnings,
        templates=templates,
        templates_each=args.map_templates or TEMPLATES_EACH,
        map=settings.as_dict() if settings is not None else None,
        metrics=_metrics(args, pictures, scores, source),
        made={**_made(args, pictures), **made},
    )
    return replace(inspection, warnings=(*main.warnings, *_about_metrics(inspection)))


def larger(model: float | None, of_map: float | None, model_threshold: float, map_threshold: float) -> float | None:
    """The larger of two scores, each brought to a scale on which its threshold is 0.5."""
    found = []
    if model is not None:
        held = min(max(model_threshold, 1e-6), 1 - 1e-6)
        odds, at = min(max(model, 1e-9), 1 - 1e-9), held / (1 - held)
        odds = odds / (1 - odds)
        found.append(odds / (odds + at))
    if of_map is not None:
        found.append(of_map / (of_map + max(map_threshold, 1e-9)))
    return max(found, default=None)


def _threshold(args, scores, bad, *, of_map: bool) -> Threshold:
    known = [(score, one) for score, one in zip(scores, bad, strict=True) if score is not None]
    good_scores = [score for score, one in known if not one]
    bad_scores = [score for score, one in known if one]
    if not good_scores:
        raise UserError(f"{args.good}: no good picture has a score; give others")
    if args.max_missed is not None:
        return with_most_missed(good_scores, bad_scores, args.max_missed)
    if args.max_false_alarms is not None:
        return with_most_false_alarms(good_scores, args.max_false_alarms)
    return from_labels(good_scores, bad_scores) if bad_scores else from_good(good_scores, of_map=of_map)


def _metrics(args, pictures: Sequence[Picture], scores, source: str) -> dict[str, Any]:
    """How right verdicts are, each by a threshold that its picture had no part in; marked pictures are left out."""
    order = sorted(
        range(len(pictures)), key=lambda index: (pictures[index].bad, content_key(pictures[index].file.name))
    )
    fold = {index: place % FOLDS for place, index in enumerate(order)}
    verdicts: list[bool | None] = [None] * len(pictures)
    for number in range(FOLDS):
        inside = [index for index in fold if fold[index] != number]
        if not any(not pictures[index].bad for index in inside):
            continue
        parts = ("model", "map") if source == "either" else (source,)
        bad = [pictures[index].bad for index in inside]
        if args.max_missed is not None and not any(bad):
            continue
        limits = {
            name: _threshold(args, [scores[name][index] for index in inside], bad, of_map=name == "map").value
            for name in parts
        }
        for index in (index for index in fold if fold[index] == number):
            found = [scores[name][index] >= limits[name] for name in parts if scores[name][index] is not None]
            verdicts[index] = any(found) if found else None
    measured = [index for index, one in enumerate(pictures) if not one.marked]
    limit = _threshold(args, scores[source], [one.bad for one in pictures], of_map=source != "model").value
    return measures(
        [scores[source][index] for index in measured],
        [pictures[index].bad for index in measured],
        threshold=limit,
        kinds=[pictures[index].kind or ("without a name" if pictures[index].bad else None) for index in measured],
        verdicts=[verdicts[index] for index in measured],
    ) | {"how": f"each picture judged by a threshold from the others, {FOLDS} parts", "source": source}


def _about_metrics(inspection: Inspection) -> list[str]:
    metrics = inspection.metrics
    if not metrics["defective"]:
        return ["without defective pictures nothing says how many defects are missed; give --bad DIR"]
    if metrics["missed_share"] and metrics["missed_share"]["interval"][1] > 0.2:
        low, high = metrics["missed_share"]["interval"]
        return [
            f"of {metrics['defective']} defective pictures {metrics['missed']} were missed: {low:.0%} to {high:.0%}"
        ]
    return []


def _made(args, pictures: Sequence[Picture]) -> dict[str, Any]:
    digests = sorted((file_digest(one.file), one.bad) for one in pictures)
    return {
        "command": "adcopilot calibrate",
        "versions": {name: version(name) for name in ("adcopilot", "torch", "transformers", "numpy", "pillow")},
        "pictures": content_key(digests),
        "model": None if str(args.model) == "none" else model_digest(args.model),
    }
