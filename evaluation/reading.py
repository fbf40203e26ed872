"""Files of others that are JSON or CSV, or one line with the reason and what can be done."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

from adcopilot.errors import UserError, one_line

__all__ = ["read_csv", "read_json"]


def read_json(path: str | os.PathLike, *, check: str, again: str) -> Any:
    """A JSON file's value.

    Args:
        path: the file.
        check: what to do where it cannot be read.
        again: what to do, or what was expected, where it is no JSON.

    Raises:
        UserError: it cannot be read or is no JSON.
    """
    try:
        return json.loads(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); {check}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({one_line(error)}); {again}") from None


def read_csv(path: str | os.PathLike, *, called: str = "", expected: str) -> list[list[str]]:
    """A CSV file's rows.

    Args:
        path: the file.
        called: the option that names it, with a space behind.
        expected: what it should be.

    Raises:
        UserError: it cannot be read or is no CSV file.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return list(csv.reader(file))
    except OSError as error:
        raise UserError(f"{called}{path}: cannot be read ({error.strerror or error}); check the path") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{called}{path}: not a CSV file ({error}); expected {expected}") from None
