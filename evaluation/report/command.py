"""`adcopilot eval report`: runs as the paper's tables and plots, beside published rows."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adcopilot import __version__
from adcopilot.errors import UserError
from adcopilot.jsonl import write_text
from adcopilot.pages.text import clean, plural

from ..benchmarks import FROM_FILES, benchmark
from ..comparable import compare_runs
from ..source import ReportSource
from ..wording import Wording
from .cards import make_answers
from .page import Report, render_report
from .plan import Planned, ablation_tables, read_plan, scaling_figures
from .sources import read_source
from .tables import further_tables, main_tables, run_tables
from .text_files import WORDS, comparisons_csv, flat, markdown, settings_csv, table_csv

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to `parser`."""
    add, files = parser.add_argument, benchmark(FROM_FILES).title
    add(
        "runs",
        nargs="*",
        default=[],
        metavar="RUN",
        help=f"folder of a run, or {files}'s answer file; NAME=RUN gives it a name",
    )
    add("--plan", type=Path, metavar="FILE.csv", help="runs with labels, for an ablation table and a curve over "
        "numbers of samples: a column `run`, `name` and `samples` if wanted, and a column for each label")  # fmt: skip
    add("--output", type=Path, required=True, metavar="DIR", help="folder for report.html, report.md and tables")
    add("--against", action="append", default=[], metavar="WHAT", help="`published`, the paper's rows, or a table of "
        f"{files}'s summary script (*_accuracy.csv); may be repeated")  # fmt: skip
    add("--data-root", type=Path, action="append", default=[], metavar="DIR", help="further folder with images of the "
        "gallery, where they were moved or are links; may be repeated")  # fmt: skip
    add("--samples", type=int, default=48, metavar="N", help="answers that the gallery shows (48)")
    add("--draws", type=int, default=1000, metavar="N", help="of the bootstrap between runs (1000)")
    add("--seed", type=int, default=0, metavar="N", help="of the bootstrap and of the gallery's choice (0)")
    add("--max-mib", type=float, default=24, metavar="N", help="most MiB of pictures in the page (24)")


def run(args: argparse.Namespace) -> int:
    """Write `report.html`, `report.md` and a CSV file for each table, and say where they are.

    The same runs and options give the same bytes.

    Raises:
        UserError: an option is out of range, a run cannot be read or has no scores, these are damaged, or a file
            cannot be written.
    """
    ranges = {"samples": (0, 1000), "draws": (100, 100_000), "max_mib": (0, 500), "seed": (0, 2**32 - 1)}
    for name, (low, high) in ranges.items():
        value = getattr(args, name)
        if not low <= value <= high:
            raise UserError(f"--{name.replace('_', '-')} is {value:g}, expected {low} to {high}")
    if not args.runs and args.plan is None:
        raise UserError("no run is given: name folders of runs, or a --plan")
    for folder in args.data_root:
        if not folder.is_dir():
            raise UserError(f"--data-root {folder}: no such folder")
    if args.output.exists() and not args.output.is_dir():
        raise UserError(f"--output {args.output}: is a file, expected a folder")
    from jinja2 import TemplateError

    planned = [] if args.plan is None else read_plan(args.plan)
    sources = _named([*(row.source for row in planned), *(read_source(text) for text in args.runs)])
    try:
        texts, missing = _texts(args, planned, sources)
    except UserError:
        raise
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, ArithmeticError, TemplateError) as error:
        listed = ", ".join(str(source.path) for source in sources)
        raise UserError(
            f"{listed}: results or answers are not as this version writes them ({type(error).__name__}: {error}); "
            "score the runs again"
        ) from error
    for name, text in texts.items():
        # Names of files may hold what no UTF-8 does.
        write_text(args.output / name, text, errors="replace")
    for name in texts:
        print(clean(str(args.output / name)))
    if missing:
        print(f"{plural(missing, 'picture')} of the gallery could not be shown; the page says why")
    return 0


def _texts(
    args: argparse.Namespace, planned: Sequence[Planned], sources: Sequence[ReportSource]
) -> tuple[dict[str, str], int]:
    """The report's files, name → text, and how many pictures could not be shown."""
    others = [benchmark(FROM_FILES).read_table(Path(text)) for text in args.against if text != "published"]
    paper = "published" in args.against
    datasets, categories = run_tables(sources)
    pairs = [compare_runs(one, other, samples=args.draws, seed=args.seed) for one, other in _pairs(sources)]
    tables = [
        *ablation_tables(planned, pairs, paper=paper),
        *main_tables(sources, paper=paper, others=others),
        *further_tables(sources, paper=paper),
    ]
    answers, missing = make_answers(sources, samples=args.samples, seed=args.seed, budget=int(args.max_mib * 2**20),
                                    data_roots=args.data_root)  # fmt: skip
    report = Report(
        names=list(dict.fromkeys(source.name for source in sources)),
        tables=tables,
        datasets=datasets,
        maps=categories,
        figures=scaling_figures(planned),
        comparisons=pairs,
        answers=answers,
        settings={f"{one.name}, {one.benchmark.name}": _settings(one, args) for one in sources},
        heads={column: head for table in reversed([*tables, *datasets]) for column, head in table.columns},
        samples=args.draws,
        seed=args.seed,
    )
    return {
        "report.html": render_report(report),
        "report.md": markdown(report),
        **{f"{table.key}.csv": table_csv(table) for table in (*tables, *datasets, *categories)},
        **{f"{figure.key}.svg": figure.svg for figure in report.figures},
        **({"pairs.csv": comparisons_csv(pairs)} if pairs else {}),
        "settings.csv": settings_csv(report.settings),
    }, missing


def _named(sources: list[ReportSource]) -> list[ReportSource]:
    """Make the names of a benchmark's runs differ."""
    counts = Counter((source.benchmark.name, source.name) for source in sources)
    taken: set[tuple[str, str]] = set()
    for source in sources:
        name = source.name
        if counts[source.benchmark.name, name] > 1:
            name = f"{name} [{clean(source.path.resolve().name)}]"
        unique, number = name, 2
        while (source.benchmark.name, unique) in taken:
            unique, number = f"{name} {number}", number + 1
        taken.add((source.benchmark.name, unique))
        source.name = unique
    return sources


def _pairs(sources: Sequence[ReportSource]) -> list[tuple[ReportSource, ReportSource]]:
    """Each run with the first one of its benchmark."""
    first: dict[str, ReportSource] = {}
    return [
        (first[source.benchmark.name], source)
        for source in sources
        if first.setdefault(source.benchmark.name, source) is not source
    ]


def _shown(text: Any) -> str:
    """A prompt's text as it is asked; images by their places."""
    if isinstance(text, list):
        return "".join(f"[image {part + 1}]" if isinstance(part, int) else str(part) for part in text)
    return text if isinstance(text, str) else json.dumps(text, ensure_ascii=False)


def _settings(source: ReportSource, args: argparse.Namespace) -> list[tuple[str, str]]:
    """What a run's numbers depend on, as its manifest has it, and how the report treats them."""
    facts: list[tuple[str, Any]] = [("run", source.path.name)]
    if source.version:
        facts.append(("adcopilot", source.version))
    facts += flat(source.identity)
    wording = source.selection.get("wording")
    selection = {name: value for name, value in source.selection.items() if name not in ("data_root", "wording")}
    facts += [(f"selection.{name}", value) for name, value in flat(selection)]
    facts.append(("wording", Wording.line(wording or {"whose": source.benchmark.wording_of(source)})))
    if isinstance(wording, Mapping):
        facts += [(f"wording.{name}", value) for name, value in flat(Wording.brief(wording)) if name != "whose"]
        facts += [(f"{WORDS}{name}", _shown(value)) for name, value in dict(wording.get("text") or {}).items()]
    for name in ("questions", "answered", "asked", "complete"):
        if name in source.results:
            facts.append((name, flat(source.results[name])[0][1]))
    if source.records:
        facts.append(("answers in the logs", f"{len(source.records):,}"))
    for name in source.benchmark.settings:
        if source.results.get(name):
            facts += flat(source.results[name], name)
    if source.partial:
        facts.append(("only a part", source.partial))
    facts += [("report.bootstrap_draws", str(args.draws)), ("report.seed", str(args.seed))]
    return [*facts, ("report.adcopilot", __version__)]
