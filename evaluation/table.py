"""A table of scores, in the shapes of the paper's: columns, and rows of runs and of published numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Columns", "Row", "Table", "aligned", "csv_text"]

#: (key in `Row.values`, head) from left to right.
Columns = Sequence[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of a table.

    Attributes:
        name: of the model or setting.
        source: where its numbers are from, as a reader should know it.
        values: column → percent (or a count); None is shown as a dash.
        own: one of the runs, not a published row.
        intervals: column → 95 % interval.
        apart: not ranked with the others: parts of a benchmark, other settings, people, models trained on it.
        why: the reason where `comparable` found one, to stand beside the row.
        unlike: column → why its number is not ranked, though the row is.
        plot: drawn in the plots.
        labels: heading → text, of a table with `labels`.
    """

    name: str
    source: str
    values: Mapping[str, float | None]
    own: bool = True
    intervals: Mapping[str, Sequence[float]] = field(default_factory=dict)
    apart: bool = False
    why: str = ""
    unlike: Mapping[str, str] = field(default_factory=dict)
    plot: bool = True
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of the report.

    Attributes:
        key: short, for anchors and names of files.
        title: its heading.
        columns: from left to right.
        rows: runs first.
        first: what its rows are.
        main: the column that the bars show, "" for none.
        axes: columns of the radar plot; none for no plot.
        axes_called: the heading of that plot.
        note: what a reader has to know.
        counts: columns of whole numbers, where more is not better.
        labels: headings of columns of text, before the numbers.
        differences: columns of differences to the first row, shown with their sign and interval.
    """

    key: str
    title: str
    columns: Columns
    rows: Sequence[Row]
    first: str = "Model"
    main: str = ""
    axes: Sequence[str] = ()
    axes_called: str = "By column"
    note: str = ""
    counts: Sequence[str] = ()
    labels: Sequence[str] = ()
    differences: Sequence[str] = ()

    @classmethod
    def plain(cls, columns: Columns, rows: Mapping[str, Mapping[str, float | None]], **more: Any) -> Table:
        """Rows by their names, none of them ranked; the report gives it its key and title."""
        drawn = [Row(name=name, source="", values=row, apart=True) for name, row in rows.items()]
        return cls(key="", title="", columns=columns, rows=drawn, **more)

    def best(self, column: str) -> float | None:
        """The highest value of a column, to two decimals, None where fewer than two rows can be compared."""
        values = [row.values.get(column) for row in self.rows if not row.apart and column not in row.unlike]
        known = [round(value, 2) for value in values if value is not None]
        return None if column in (*self.counts, *self.differences) or len(known) < 2 else max(known)

    def is_best(self, row: Row, column: str) -> bool:
        """Whether a row has the highest value of a column."""
        value = row.values.get(column)
        ranked = value is not None and not row.apart and column not in row.unlike
        return ranked and round(value, 2) == self.best(column)

    def shows_interval(self, column: str) -> bool:
        """Whether a column's interval stands beside its number; a CSV file has them all."""
        return column in (self.main, "f1", *self.differences)


def aligned(heads: Iterable[str], rows: Mapping[str, Sequence[str]], *, width: int) -> list[str]:
    """Lines of a table for a terminal: names of rows from the left, cells of so many characters from the right."""
    first = max(map(len, rows))
    return [
        " ".join([f"{name:<{first}}", *(f"{cell:>{width}}" for cell in cells)])
        for name, cells in [("", list(heads)), *rows.items()]
    ]


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Rows, their heading among them, as a CSV file has them."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()
