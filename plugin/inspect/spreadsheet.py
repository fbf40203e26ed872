"""Results as a table for a spreadsheet (`adcopilot inspect --csv`)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError, reason_of
from ..jsonl import atomic_write

__all__ = ["plain", "write_results", "write_rows"]

#: Columns of a result's line; boxes are JSON: `[[x1, y1, x2, y2, "label"], …]` in pixels of the query.
COLUMNS = ("query", "template", "verdict", "score", "map_score", "boxes", "map_boxes", "text", "reason", "disagree",
           "category", "defect", "error")  # fmt: skip


def write_results(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write the lines of a run.

    Raises:
        UserError: the file cannot be written.
    """
    rows = [[_cell(line.get(name)) for name in COLUMNS] for line in lines]
    try:
        write_rows(path, [list(COLUMNS), *rows])
    except OSError as error:
        raise UserError(f"--csv {path}: cannot be written ({reason_of(error)}); give another path") from None


def write_rows(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    """Write rows with a byte order mark, by which Excel knows that it is UTF-8."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([[plain(cell) if isinstance(cell, str) else cell for cell in row] for row in rows])
    data = text.getvalue().encode("utf-8-sig", "backslashreplace")
    atomic_write(path, lambda file: file.write(data))


def plain(cell: str) -> str:
    """A text that no spreadsheet takes for a formula, as a file's name or an answer could be meant to be."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else cell


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return json.dumps([[*box["bbox_2d"], box["label"]] for box in value], ensure_ascii=False)
    return "" if value is None else value
