"""`adcopilot inspect`: compare query images with templates of good parts, one pair or folders of them."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..anomaly_map import MAP_KINDS
from ..cli import StoreOnce
from ..cli.saying import progress, say
from ..errors import UserError
from ..files import check_writable
from ..images import open_image
from ..jsonl import JsonlLog
from ..trained_sizes import FAR_OUTSIDE
from .hub import model_title
from .judging import SOURCES, Judge
from .lines import inspect_all
from .loading import check_folder, model_digest
from .opening import (
    LEAST_TEMPLATES,
    choose_map,
    folder_of_templates,
    open_engine,
    set_up,
    threshold_among,
)
from .pairs import TemplatePool
from .pictures import Names, Pictures, check_outside
from .result import printable
from .sources import check_outputs, check_sources, depth, how_chosen, plan
from .spreadsheet import write_results

if TYPE_CHECKING:  # they need torch, which takes seconds: only once the command line is known to be right
    from ..anomaly_map.comparing import MapSettings
    from ..line.inspection import Inspection
    from ..line.report import LineReport
    from .map_inspector import MapInspector
    from .model_inspector import ModelInspector

#: Options that decide what a model is asked and shown: a line remembers them.
ASKED = ("question", "image_max_pixels", "image_min_pixels")
#: What a model may be told before it answers.
HINTS = ("map",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.register("action", None, StoreOnce)
    parser.add_argument(
        "--model",
        required=True,
        type=Path,
        metavar="DIR|ID|none",
        help="folder or hub id of an AD-Copilot (or Qwen2.5-VL) model, or of a line (`adcopilot adapt`, `adcopilot "
        "calibrate`), whose templates, threshold and map are used; none for the anomaly map alone",
    )
    what = parser.add_argument_group("what to inspect (one pair, folders, or a tree)")
    what.add_argument(
        "--template", type=Path, metavar="FILE", help="image of a good part; one, as in training (else --template-dir)"
    )
    what.add_argument("--query", type=Path, metavar="FILE", help="image to inspect")
    what.add_argument("--template-dir", type=Path, metavar="DIR", help="images of good parts to choose from")
    what.add_argument("--query-dir", type=Path, metavar="DIR", help="images to inspect, in folders too")
    what.add_argument(
        "--pair-pattern",
        metavar="QUERY=TEMPLATE",
        help="which names belong together, in one folder or two: --query-dir PCB --pair-pattern "
        "'{}_test.jpg={}_temp.jpg'; '{}={}' for equal names",
    )
    what.add_argument("--mvtec", type=Path, metavar="DIR", help="tree with <category>/train/good and <category>/test")
    out = parser.add_argument_group("what to write")
    out.add_argument("--json", action="store_true", help="print one JSON object a line instead of words")
    out.add_argument("--output", type=Path, metavar="FILE", help="JSON lines file; continues an earlier run")
    out.add_argument(
        "--draw", metavar="FILE|DIR", help="picture of the pair with its boxes and its map; a folder for several"
    )
    out.add_argument("--csv", type=Path, metavar="FILE", help="table for a spreadsheet, with boxes")
    out.add_argument("--report", type=Path, metavar="FILE.html", help="page with counts and pictures, the worst first")
    out.add_argument("--save-maps", type=Path, metavar="DIR", help="each query's anomaly map as a 16-bit PNG")
    decide = parser.add_argument_group("the verdict")
    decide.add_argument(
        "--threshold",
        type=float,
        help="a score from here on is anomalous (the folder's; else 0.5 for a model, and for a map alone twice the "
        f"median score of the templates among each other, where there are {LEAST_TEMPLATES} or more)",
    )
    decide.add_argument(
        "--verdict-from",
        choices=SOURCES,
        help="whose score gives the verdict (the folder's choice; else the model, or the map without one)",
    )
    maps = add_map_arguments(parser)
    maps.add_argument("--hints", choices=HINTS, help="tell the model which places the map marks")
    maps.add_argument(
        "--map-threshold",
        type=float,
        metavar="X",
        help="beside a model's verdict: the map's boxes and hints are of what reaches this score (the folder's; for "
        f"hints else from the templates, where there are {LEAST_TEMPLATES} or more; else of what differs most)",
    )
    add_model_arguments(parser)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the model."""
    how = parser.add_argument_group("the model")
    how.add_argument("--question", help="ask this instead of training's question (to be answered by yes or no)")
    how.add_argument(
        "--any-size", action="store_true", help="a verdict for pictures far outside the sizes of training too"
    )
    how.add_argument("--batch-size", type=int, default=4, help="pairs answered together (4)")
    how.add_argument("--max-new-tokens", type=int, default=512, help="longest answer (512)")
    how.add_argument("--image-max-pixels", type=int, help="as in training (the model folder's, else 589824)")
    how.add_argument("--image-min-pixels", type=int, help="as in training (the model folder's, else 1024)")
    how.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (auto)")
    how.add_argument("--dtype", default="auto", help="auto (bfloat16 on a GPU), float32, bfloat16, float16")
    how.add_argument(
        "--attention", default="sdpa", choices=("sdpa", "eager", "flash_attention_2"), help="kernels (sdpa)"
    )


def add_map_arguments(parser: argparse.ArgumentParser, *, templates: bool = True) -> Any:
    """The options of the anomaly map; their group.

    Args:
        templates: whether the command chooses templates, and so how many of them.
    """
    maps = parser.add_argument_group("the anomaly map: where a query differs from its templates (docs/anomaly-map.md)")
    maps.add_argument("--map", choices=(*MAP_KINDS, "off"), help="what is compared (the folder's; else pixels)")
    maps.add_argument(
        "--map-backbone", metavar="ID|DIR", help="vision model for --map features (the model's own tower without it)"
    )
    maps.add_argument(
        "--map-search", type=int, metavar="N", help="displacement allowed: pixels (2), or patches (1) of features"
    )
    if templates:
        maps.add_argument(
            "--map-templates", type=int, metavar="N", help="templates a query's map is made with (1; texture 32)"
        )
    maps.add_argument(
        "--box-growth", type=int, metavar="PIXELS", help="by how much the map's boxes are larger than what differs (0)"
    )
    return maps


def map_settings(args: argparse.Namespace, inspection: Inspection | None) -> MapSettings | None:
    """`choose_map` by the options."""
    return choose_map(inspection, kind=args.map, **map_options(args))


def map_options(args: argparse.Namespace) -> dict[str, Any]:
    """The fields of `MapSettings` that options give."""
    return {
        "backbone": args.map_backbone,
        "search": args.map_search,
        "growth": args.box_growth,
        "max_pixels": args.image_max_pixels,
    }


def run(args: argparse.Namespace) -> int:
    found = set_up(
        args.model,
        map=args.map,
        threshold=args.threshold,
        map_threshold=args.map_threshold,
        verdict_from=args.verdict_from,
        templates_each=args.map_templates,
        **map_options(args),
    )
    inspection, no_model = found.inspection, found.no_model
    args.model = found.folder
    if found.note:
        say(found.note)
    if args.save_maps and found.map is None:
        raise UserError(f"--save-maps {args.save_maps}: there is no map with --map off; leave out one of the two")
    found.check_left()
    if no_model and args.hints:
        raise UserError(f"--hints {args.hints} is for a model, and there is none; leave it out, or give --model DIR")
    if not no_model:
        check_folder(args.model)
    own = args.template or args.template_dir or args.mvtec or args.pair_pattern
    if inspection is not None and not own:
        args.template_dir = folder_of_templates(args.model, inspection)
    elif inspection is not None and inspection.templates and args.threshold is None:
        say(f"{args.model}: its threshold was found with its own templates, and these are others")
    for name, value in found.asked({name: getattr(args, name) for name in ASKED}, threshold=args.threshold).items():
        setattr(args, name, value)
    args.map_templates = found.templates_each
    single = check_sources(args)
    bits = found.bits or depth(args)
    if single:  # a bad file is the whole run's error here
        open_image(args.template, bits=bits)
        open_image(args.query, bits=bits)
    pictures = Pictures(args, single=bool(args.query), bits=bits) if args.draw else None
    maps = Names(args.save_maps)
    if args.save_maps:
        check_outside(args.save_maps, args, option="--save-maps")
    for option, path in (("--csv", args.csv), ("--report", args.report)):
        if path:
            check_writable(path, option=option)
    check_outputs(args)
    work, pools, total = plan(args, bits=bits)

    with JsonlLog(path=args.output) if args.output else nullcontext() as log, one_line_warnings():
        inspector = open_inspector(args, found.judge, found.map, no_model=no_model)
        inspector.bits = bits
        if (no_model or args.hints) and found.judge.map_threshold is None and pools:
            inspector.judge = among_templates(inspector, pools, args)
        from .mapping import save_map

        digest = model_digest(args.model) if args.output and not no_model else ""
        counts = Counter()
        report = open_report(args, inspector, inspection, bits=bits) if args.report else None
        table = []
        with progress(total=total, unit="pair", hidden=single) as bar:
            for pair, line, anomaly_map in inspect_all(
                inspector, work, model=digest, log=log, maps=bool(args.save_maps or args.report or args.draw)
            ):
                bar.update()
                counts["error" if "error" in line else line["verdict"]] += 1
                if FAR_OUTSIDE in line.get("reason", "") and not args.any_size:
                    counts["far"] += 1
                    if counts["far"] == 1:
                        told = f"undecided: {printable(line['reason'])}; --any-size gives a verdict all the same"
                        say(told)
                if pictures and "error" not in line:
                    pictures.draw(pair, line, anomaly_map, inspector.judge.map_threshold)
                if args.save_maps and anomaly_map is not None:
                    save_map(anomaly_map, maps.of(pair.name))
                if args.csv:
                    table.append(line)
                if report:
                    report.add(pair.name, line, anomaly_map)
                if args.json or not args.output:
                    with bar.external_write_mode(file=sys.stdout):
                        print(as_json(line) if args.json else in_words(line), flush=True)
    unusable = [message for pool in pools for message in pool.unusable]
    for message in unusable:
        print(f"left out as a template: {message}", file=sys.stderr)
    if args.csv:
        write_results(args.csv, table)
    if report:
        say(f"report: {report.write()}")
    if not single:
        say(f"templates: {how_chosen(args, pools)}")
        say(
            f"{total} queries: {counts['anomalous']} anomalous, {counts['normal']} normal, "
            f"{counts['undecided']} undecided, {counts['error']} could not be inspected, "
            f"{len(unusable)} templates could not be used",
        )
    return 1 if counts["error"] or unusable or (pictures and pictures.undrawn) else 0


def open_inspector(
    args: argparse.Namespace, judge: Judge, settings: MapSettings | None, *, no_model: bool
) -> ModelInspector | MapInspector:
    """`open_engine` by the options."""
    names = ("dtype", "attention", "image_max_pixels", "image_min_pixels", "max_new_tokens", "batch_size", "any_size")
    options = {name: getattr(args, name) for name in names}
    if args.question is not None:
        options["question"] = args.question
    options["hints"] = getattr(args, "hints", None) is not None  # `adcopilot calibrate` has none
    return open_engine(args.model, no_model=no_model, map=settings, judge=judge, device=args.device, **options)


def open_report(
    args: argparse.Namespace, inspector: ModelInspector | MapInspector, inspection: Inspection | None, *, bits: int
) -> LineReport:
    """The page that `--report` asks for."""
    from ..line.report import LineReport

    title = "anomaly map" if str(args.model) == "none" else model_title(args.model)
    return LineReport(args.report, title=title, judge=inspector.judge, inspection=inspection, bits=bits)


def among_templates(
    inspector: ModelInspector | MapInspector, pools: list[TemplatePool], args: argparse.Namespace
) -> Judge:
    """The judge with a threshold of the map from the templates, compared with each other, where they are enough for
    one."""
    from .map_inspector import MapInspector

    alone = inspector
    if not isinstance(inspector, MapInspector):
        alone = MapInspector(map=inspector.map, judge=inspector.judge, device=args.device)
    found = threshold_among(alone, pools, each=args.map_templates)
    if found is None:
        return inspector.judge
    whose = "threshold" if alone is inspector else "the map's threshold"
    shared = ""
    if len(pools) > 1:
        shared = f", one for all {len(pools)} categories; `adcopilot calibrate` finds each category its own"
    say(f"{whose} {found.value:g}: {found.chosen}, compared with each other{shared}")
    return replace(inspector.judge, map_threshold=found.value)


@contextmanager
def one_line_warnings() -> Iterator[None]:
    """Show the package's own warnings (an animation, of which only the first frame counts) as one line."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: say(f"warning: {message}")
        yield


def as_json(line: dict[str, Any]) -> str:
    """A result for programs."""
    text = json.dumps(line, ensure_ascii=False)
    # A file name that is not UTF-8 can be printed only escaped.
    return text if text.isprintable() else json.dumps(line)


def in_words(line: dict[str, Any]) -> str:
    """A result for people, in one line: verdict, score, file, what was said."""
    if "error" in line:
        return f"ERROR      -----  {printable(line['error'])}"
    verdict = "normal" if line["verdict"] == "normal" else line["verdict"].upper()
    score = "-----" if line["score"] is None else f"{line['score']:.3f}"
    said = "" if line["verdict"] == "undecided" and "reason" in line else line["text"]
    text = " ".join(f"{said} {line.get('reason', '')}".split())
    text = text if len(text) <= 400 else text[:399] + "…"
    return printable(f"{verdict:<9}  {score}  {line['query']}  {text}").rstrip()
