"""The report as Markdown and CSV."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from adcopilot import __version__
from adcopilot.inspect.spreadsheet import plain
from adcopilot.pages.text import clean, shorten

from ..benchmark import Compared
from ..table import Row, Table, csv_text

if TYPE_CHECKING:
    from .page import Report

__all__ = ["WORDS", "comparisons_csv", "flat", "markdown", "number_text", "settings_csv", "table_csv"]

#: Settings that are the text of a prompt begin so.
WORDS = "words: "
_MARKS = re.compile(r"([\\`*_{}\[\]<>|#~!])")


def number_text(value: float | None, *, whole: bool = False, signed: bool = False) -> str:
    """Two decimals, with their sign if that is asked for, a count with commas, or a dash."""
    if value is None:
        return "–"
    if signed:
        return f"{value:+.2f}"
    return f"{value:,.0f}" if whole else f"{value:.2f}"


def _plain(text: Any) -> str:
    """Text that Markdown takes as it stands."""
    return _MARKS.sub(r"\\\1", shorten(text, 300))


def _markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, texts: int) -> list[str]:
    """`texts`: how many columns from the left are no numbers."""
    rule = ["---"] * texts + ["---:"] * (len(heads) - texts)
    return ["| " + " | ".join(cells) + " |" for cells in (heads, rule, *rows)] + [""]


def _lines(table: Table) -> list[str]:
    sourced = any(row.source or row.why for row in table.rows)
    rows = []
    for row in table.rows:
        cells = [_plain(row.name), *([_plain("; ".join(filter(None, (row.source, row.why))))] if sourced else [])]
        cells += [_plain(row.labels.get(head, "")) for head in table.labels]
        for column, _ in table.columns:
            value = row.values.get(column)
            text = number_text(value, whole=column in table.counts, signed=column in table.differences)
            if table.is_best(row, column):
                text = f"**{text}**"
            if column in row.intervals and value is not None and table.shows_interval(column):
                shape = " ({:+.1f} to {:+.1f})" if column in table.differences else " ({:.1f}–{:.1f})"
                text += shape.format(*row.intervals[column])
            cells.append(text)
        rows.append(cells)
    labels = [_plain(head) for head in table.labels]
    heads = ["", *(["from"] if sourced else []), *labels, *(head for _, head in table.columns)]
    unlike = [
        _plain(f"{row.name}, {column}: not ranked: {why}") for row in table.rows for column, why in row.unlike.items()
    ]
    return [f"## {_plain(table.title)}", "", *_markdown_table(heads, rows, texts=1 + sourced + len(labels)),
            *([_plain(table.note), ""] if table.note else []), *([*unlike, ""] if unlike else [])]  # fmt: skip


def markdown(report: Report) -> str:
    """The report without pictures."""
    lines = ["# Evaluation", ""]
    for table in (*report.tables, *report.datasets):
        lines += _lines(table)
    if report.comparisons:
        drawn = f"{report.samples} draws, seed {report.seed}"
        how = f"Paired bootstrap over images, {drawn}: 95 % interval of the difference in points."
        lines += ["## Pairs of runs", "", how, ""]
    for one in report.comparisons:
        lines += [f"### {_plain(one.second)} − {_plain(one.first)} ({one.benchmark}, {one.questions:,} questions)", ""]
        if one.differences:
            rows = [
                [
                    _plain(report.heads.get(each.column, each.column)),
                    f"{each.first:.2f}",
                    f"{each.second:.2f}",
                    f"{each.value:+.2f}",
                    f"{each.low:+.2f} to {each.high:+.2f}",
                ]
                for each in one.differences
            ]
            columns = ["", _plain(one.first), _plain(one.second), "difference", "95 % interval"]
            lines += _markdown_table(columns, rows, texts=1)
        if one.counts:
            words = ("Right in both", "only in the first", "only in the second", "in neither")
            counted = "; ".join(f"{word}: {count:,}" for word, count in zip(words, one.counts, strict=True))
            lines += [f"{counted}. Unread: {one.unread[0]:,} of the first, {one.unread[1]:,} of the second.", ""]
        if one.note:
            lines += [_plain(one.note), ""]
    lines += ["## How the numbers were made", ""]
    for name, facts in report.settings.items():
        lines += [f"### {_plain(name)}", ""]
        lines += [f"- {_plain(key)}: {_plain(value)}" for key, value in facts if not key.startswith(WORDS)]
        for key, value in (pair for pair in facts if pair[0].startswith(WORDS)):
            # As code: the text of a prompt is shown to the letter.
            lines += ["", f"{_plain(key)}:", "", *(f"    {line}" for line in clean(value).split("\n"))]
        lines.append("")
    lines.append(f"Written by adcopilot {__version__}.")
    return "\n".join(lines) + "\n"


def flat(value: Any, path: str = "") -> list[tuple[str, str]]:
    """A manifest's values by their paths, `backend.versions.torch`."""
    if isinstance(value, Mapping) and value:
        return [pair for key, inner in value.items() for pair in flat(inner, f"{path}.{key}" if path else str(key))]
    text = "none" if value in (None, "", [], {}) else ("no", "yes")[value] if isinstance(value, bool) else str(value)
    return [(shorten(path, 80), shorten(text, 300))]


def _safe(text: Any) -> str:
    """Text that no spreadsheet takes for a formula."""
    return plain(clean(str(text)))


def table_csv(table: Table) -> str:
    """All digits, with an interval's ends in columns of their own."""
    ends = [column for column, _ in table.columns if any(column in row.intervals for row in table.rows)]
    heads = dict(table.columns)
    whys = any(row.why or row.unlike for row in table.rows)
    heading = ["name", "from", "published", *(["not ranked"] if whys else []), *map(_safe, table.labels)]
    rows = [[*heading, *heads.values(), *(f"{heads[one]} {end}" for one in ends for end in ("2.5%", "97.5%"))]]
    for row in table.rows:
        values = [row.values.get(column) for column in heads]
        values += [value for one in ends for value in row.intervals.get(one, (None, None))]
        rows.append([_safe(row.name), _safe(row.source), "no" if row.own else "yes",
                     *([_safe(_why(row))] if whys else []),
                     *(_safe(row.labels.get(head, "")) for head in table.labels),
                     *("" if value is None else value for value in values)])  # fmt: skip
    return csv_text(rows)


def _why(row: Row) -> str:
    more = [f"{column}: {why}" for column, why in row.unlike.items()]
    return "; ".join(filter(None, (row.why.removeprefix("not ranked: "), *more)))


def comparisons_csv(comparisons: Sequence[Compared]) -> str:
    """A row a column of a pair of runs."""
    rows: list[list[Any]] = [["benchmark", "first", "second", "questions", "column", "first value", "second value",
                              "difference", "2.5%", "97.5%", "first unread", "second unread"]]  # fmt: skip
    for one in comparisons:
        rows += [
            [one.benchmark, _safe(one.first), _safe(one.second), one.questions, each.column, each.first, each.second,
             each.value, each.low, each.high, *(one.unread or ("", ""))]
            for each in one.differences
        ]  # fmt: skip
    return csv_text(rows)


def settings_csv(settings: Mapping[str, Sequence[tuple[str, str]]]) -> str:
    """A row a setting of a run."""
    rows = [[_safe(name), _safe(key), _safe(value)] for name, facts in settings.items() for key, value in facts]
    return csv_text([["run", "setting", "value"], *rows])
