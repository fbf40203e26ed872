"""Runs with labels: an ablation table with differences to its first row, and a curve over numbers of training samples
(the paper's Tables VI and VII and its Figure 5).

A plan is a CSV file, one row a run, in the order of the table; the first run of a benchmark is what the others are
compared with:

    run,name,samples,Comparison Encoder,Stage 0
    runs/base,Qwen2.5-VL-7B,,no,no
    runs/s0,,30000,yes,yes

`run` is a folder of `adcopilot eval …` or a file of answers, relative to the plan; `name` what to call it (its labels
if empty); `samples` how many samples it was trained with, empty for none on the curve. Every other column is a label;
yes and no become a tick and nothing.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from adcopilot.errors import UserError
from adcopilot.files import read_csv
from adcopilot.pages.charts import Point, Series, line_plot
from adcopilot.pages.text import shorten

from ..benchmark import Benchmark, Compared
from ..comparable import run_row, set_apart
from ..source import ReportSource
from ..table import Columns, Row, Table
from .sources import read_source
from .tables import by_benchmark

__all__ = ["Figure", "Planned", "ablation_tables", "read_plan", "scaling_figures"]

_TICK = "✓"
_MARKS = {"yes": _TICK, "y": _TICK, "x": _TICK, "true": _TICK, _TICK: _TICK, "no": "", "n": "", "false": "", "-": ""}
_OWN = ("run", "name", "samples")
_MOST_LABELS = 12

#: What a plan may be about, besides what it has labels for.
_PLANNED = ("shots", "template", "knowledge", "conversation", "prompts")


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A row of a plan: the run, label → text, and how many samples it was trained with."""

    source: ReportSource
    labels: Mapping[str, str]
    samples: float | None = None


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A plot that is a file of its own: its key (anchor and file name), heading, SVG, what a reader hears, a note."""

    key: str
    title: str
    svg: str
    told: str
    note: str

    @property
    def encoded(self) -> str:
        """The SVG for a data address."""
        return base64.b64encode(self.svg.encode()).decode()


def read_plan(path: Path) -> list[Planned]:
    """The runs of a plan.

    Raises:
        UserError: the file cannot be read or is no such table, or a run cannot be read; it names the line.
    """
    lines = read_csv(path, called="--plan ", expected="a column `run` and labels")
    heads = [head.strip() for head in lines[0]] if lines else []
    if "run" not in heads:
        found = ", ".join(heads) or "nothing"
        raise UserError(f"--plan {path}: its first line has no column `run`, found {shorten(found, 80)}")
    named = [head for head in heads if head]
    twice = next((head for head in named if named.count(head) > 1), None)
    if twice is not None:
        raise UserError(f"--plan {path}: has the column {twice!r} twice")
    labels = [head for head in named if head not in _OWN]
    if len(labels) > _MOST_LABELS:
        raise UserError(f"--plan {path}: has {len(labels)} columns of labels, expected {_MOST_LABELS} at most")
    rows = []
    for number, line in enumerate(lines[1:], 2):
        if not any(cell.strip() for cell in line):
            continue
        if len(line) > len(heads):
            raise UserError(f"--plan {path}:{number}: has {len(line)} cells, its first line {len(heads)}")
        cells = {head: cell.strip() for head, cell in zip(heads, line, strict=False) if head}
        rows.append(_planned(path, number, cells, labels))
    if not rows:
        raise UserError(f"--plan {path}: names no run")
    return rows


def _planned(path: Path, number: int, cells: Mapping[str, str], labels: Sequence[str]) -> Planned:
    where = f"--plan {path}:{number}"
    if not cells.get("run"):
        raise UserError(f"{where}: has no run")
    try:
        source = read_source(str(path.parent / cells["run"]))
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    samples = None
    if cells.get("samples"):
        try:
            samples = float(cells["samples"].replace("_", "").replace(",", ""))
        except ValueError:
            samples = math.nan
        if not (0 < samples < math.inf):
            raise UserError(f"{where}: samples is {cells['samples'][:40]!r}, expected a number above 0, or nothing")
    marks = {head: _MARKS.get(cells.get(head, "").lower(), shorten(cells.get(head, ""), 60)) for head in labels}
    words = [head if text == _TICK else f"{head} {text}" for head, text in marks.items() if text]
    if samples is not None and not cells.get("name"):
        words.append(f"{samples:,g} samples")
    source.name = shorten(cells.get("name") or ", ".join(words) or source.name, 60)
    return Planned(source=source, labels=marks, samples=samples)


def ablation_tables(planned: Sequence[Planned], pairs: Sequence[Compared], *, paper: bool) -> list[Table]:
    """A table for each benchmark of the plan, and below them the paper's.

    Args:
        planned: the plan's rows.
        pairs: each run against the first of its benchmark, as `comparable.compare` gives them.
        paper: whether the paper's tables are shown.
    """
    tables, published = [], []
    for benchmark, rows in by_benchmark(planned, source=lambda row: row.source):
        found = {pair.second: pair for pair in pairs if pair.benchmark == benchmark.name}
        if len(rows) > 1:
            tables.append(_own_table(benchmark, rows, found))
            published += [_paper_table(benchmark, number, what) for number, what in benchmark.ablations]
    return [*tables, *(published if paper else ())]


def _own_table(benchmark: Benchmark, rows: Sequence[Planned], pairs: Mapping[str, Compared]) -> Table:
    heads = dict(benchmark.columns)
    drawn = []
    # What a plan compares is its own choice; another set or other words are not.
    ranked = set_apart(benchmark, [(run_row(row.source), row.source) for row in rows], ignore=_PLANNED)
    for row, shown in zip(rows, ranked, strict=True):
        known = {one.column: one for one in pairs[row.source.name].differences} if row.source.name in pairs else {}
        gains = {_gain(column): known[name] for column, name in benchmark.gains if name in known}
        labels = dict(row.labels)
        if row.samples is not None:
            labels["Samples"] = f"{row.samples:,g}"
        drawn.append(
            replace(
                shown,
                values={**shown.values, **{column: one.value for column, one in gains.items()}},
                intervals={**shown.intervals, **{column: (one.low, one.high) for column, one in gains.items()}},
                labels=labels,
            )
        )
    given = [head for head in rows[0].labels if any(row.labels[head] for row in rows)]
    if any(row.samples is not None for row in rows):
        given.append("Samples")
    gained = [(_gain(column), f"Δ {heads[column]}") for column, _ in benchmark.gains]
    gained = [(column, head) for column, head in gained if any(column in row.values for row in drawn)]
    return Table(
        key=f"ablation-{benchmark.name}",
        title=f"Ablation: {benchmark.title}",
        columns=_gains_first(benchmark.columns, gained),
        rows=drawn,
        labels=given,
        differences=[column for column, _ in gained],
        note=f"Percent. Δ: points gained over the first row, {drawn[0].name}, on the questions that both have "
        "answered, with the 95 % interval of a paired bootstrap over images.",
    )


def _gain(column: str) -> str:
    return f"gain {column}"


def _gains_first(columns: Columns, gained: Columns) -> list[tuple[str, str]]:
    """Columns with their differences beside them, and these before the others: a wide table is read from the left."""
    gains = dict(gained)
    pairs = [(one, (_gain(one[0]), gains[_gain(one[0])])) for one in columns if _gain(one[0]) in gains]
    return [*(column for pair in pairs for column in pair), *(one for one in columns if _gain(one[0]) not in gains)]


def _paper_table(benchmark: Benchmark, number: str, what: str) -> Table:
    published = benchmark.published(number)
    heads = dict(benchmark.columns)
    columns = [column for column in heads if column in published[0].values]
    gained = [column for column, _ in benchmark.gains if column in columns]
    rows = [_paper_row(row, published[0], gained) for row in published]
    return Table(
        key=f"ablation-paper-{number.lower()}",
        title=f"The paper's ablation of {what} (Table {number})",
        columns=[
            *((column, heads[column]) for column in columns),
            *((_gain(one), f"Δ {heads[one]}") for one in gained),
        ],
        rows=rows,
        labels=list(dict.fromkeys(head for row in reversed(published) for head in row.labels)),
        differences=[_gain(column) for column in gained],
        note="Published numbers, not measured here; Δ to the table's first row.",
    )


def _paper_row(row: Row, first: Row, gained: Sequence[str]) -> Row:
    gains = {_gain(one): round(row.values[one] - first.values[one], 2) for one in gained if row is not first}
    return replace(row, values={**row.values, **gains})


def scaling_figures(planned: Sequence[Planned]) -> list[Figure]:
    """For each benchmark with runs of two or more numbers of samples, its main column over these numbers: a line for
    each combination of labels."""
    figures = []
    for benchmark, every in by_benchmark(planned, source=lambda row: row.source):
        rows, main = [row for row in every if row.samples is not None], benchmark.main
        head = dict(benchmark.columns)[main]
        lines: dict[str, list[Point]] = {}
        for row in sorted(rows, key=lambda one: one.samples):
            value = benchmark.values(row.source.results).get(main)
            if value is None:
                continue
            low, high = run_row(row.source).intervals.get(main) or (None, None)
            words = [name if text == _TICK else f"{name} {text}" for name, text in row.labels.items() if text]
            points = lines.setdefault(", ".join(words) or benchmark.title, [])
            points.append(Point(x=row.samples, y=value, low=low, high=high))
        if len({point.x for points in lines.values() for point in points}) < 2:
            continue
        drawn = [Series(name=name, points=points) for name, points in lines.items()]
        title = f"Data scaling: {benchmark.title}"
        told = "; ".join(
            f"{line.name}: {', '.join(f'{point.x:,g} samples {point.y:.2f}' for point in line.points)}"
            for line in drawn
        )
        figures.append(
            Figure(
                key=f"scaling-{benchmark.name}",
                title=title,
                svg=line_plot(title, drawn, x_label="Training samples", y_label=f"{head}, percent", log_x=True),
                told=f"{title}. {told}",
                note="As the paper's Figure 5, which prints no numbers to set beside these. Bars are 95 % intervals.",
            )
        )
    return figures
