"""The report's tables: each benchmark's own, and each run's by dataset and by category."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ..benchmark import Benchmark
from ..benchmarks import FROM_FILES, shown
from ..comparable import run_row, set_apart
from ..source import ReportSource
from ..table import Row, Table

__all__ = ["by_benchmark", "further_tables", "main_tables", "run_tables"]


def by_benchmark(
    rows: Sequence[Any], *, source: Callable[[Any], ReportSource] = lambda row: row
) -> list[tuple[Benchmark, list[Any]]]:
    """The benchmarks that there are runs of, in the command line's order, each with its rows; `source`: of one."""
    found = [(one, [row for row in rows if source(row).benchmark is one]) for one in shown()]
    return [(one, members) for one, members in found if members]


def main_tables(sources: Sequence[ReportSource], *, paper: bool, others: Sequence[Row]) -> list[Table]:
    """The table of each benchmark that there are runs of.

    Args:
        sources: the runs.
        paper: whether the paper's rows are shown.
        others: published rows from elsewhere, of the benchmark that has such tables.
    """
    found = []
    for one, runs in by_benchmark(sources):
        published = list(others) if one.name == FROM_FILES else []
        published += one.published(one.number) if paper and one.number else []
        found.append(
            Table(
                key=one.name,
                title=f"{one.title} (Table {one.number})" if one.number else one.title,
                columns=one.columns,
                rows=set_apart(one, [(run_row(source), source) for source in runs], published),
                main=one.main,
                axes=one.axes,
                axes_called=one.axes_called,
                note=one.note,
            )
        )
    return found


def further_tables(sources: Sequence[ReportSource], *, paper: bool) -> list[Table]:
    """What benchmarks show besides: settings that runs differ in, and how answers were read."""
    return [table for one, runs in by_benchmark(sources) for table in one.further(runs, paper=paper)]


def run_tables(sources: Sequence[ReportSource]) -> tuple[list[Table], list[Table]]:
    """Each run's rows by dataset, and by category, where its benchmark has any."""
    datasets, categories = [], []
    for number, source in enumerate(sources, 1):
        asked = source.benchmark
        if (table := asked.by_dataset(source)) is not None:
            title = f"{source.name}: {asked.title} by dataset"
            datasets.append(replace(table, key=f"datasets-{number}", first="Dataset", title=title))
        if (table := asked.by_category(source)) is not None:
            title = f"{source.name}, {asked.name}"
            categories.append(replace(table, key=f"categories-{number}", first="Category", title=title))
    return datasets, categories
