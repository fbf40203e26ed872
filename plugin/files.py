"""Files of others. What a path is before it is opened: to open a pipe waits for its writer, a device may never end, a
path from a data file may lead anywhere. JSON and CSV, or one line with the reason and what can be done."""

from __future__ import annotations

import csv
import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

from .errors import UserError, one_line, reason_of

__all__ = [
    "check_output_dir",
    "check_writable",
    "first_there",
    "not_a_file",
    "path_inside",
    "read_csv",
    "read_json",
    "stored_object",
]

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check_output_dir(output: str, *, model: str) -> None:
    """Refuse a run's `output_dir` that is a file, or the model that it starts from: an adapter beside a model's
    weights is loaded with them ever after.

    Raises:
        UserError: it is one of these.
    """
    if Path(output).exists() and not Path(output).is_dir():
        raise UserError(f"output_dir {output}: is a file, expected a folder or a name that is free")
    if Path(model).is_dir() and Path(output).resolve() == Path(model).resolve():
        raise UserError(f"output_dir {output}: is the model that training starts from; name another folder")


def not_a_file(info: os.stat_result) -> str | None:
    """What a path is instead of a regular file ("a folder", "a named pipe", …); None if it is one.

    Args:
        info: `os.stat` of the path, links followed.
    """
    if stat.S_ISREG(info.st_mode):
        return None
    return next((kind for is_kind, kind in _KINDS if is_kind(info.st_mode)), "no regular file")


def check_writable(path: Path, *, option: str) -> None:
    """Whether a file can be written, asked before the work that it is to hold.

    Raises:
        UserError: it cannot.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
        if path.is_dir():
            raise IsADirectoryError(21, "it is a folder")
    except OSError as error:
        raise UserError(f"{option} {path}: cannot be written ({reason_of(error)}); give another path") from None


def first_there(root: Path, *names: str, option: str, what: str) -> Path:
    """The first of `names` that is in `root`.

    Args:
        root: a folder that a user named.
        names: where different copies of a data set have the same.
        option: that named it.
        what: the folder should be.

    Raises:
        UserError: the folder is missing, or has none of them.
    """
    if not root.is_dir():
        raise UserError(f"{option} {root}: no such folder, expected {what}")
    for name in names:
        if (root / name).exists():
            return root / name
    raise UserError(f"{option} {root}: has no {' or '.join(names)}, expected {what}")


def path_inside(media_dir: str | Path, name: str) -> Path:
    """`name`, a path from a data file, below `media_dir`.

    Raises:
        UserError: it leads out of the folder, by `..`, a link, or by being absolute.
    """
    root = Path(media_dir).resolve()
    path = (root / name).resolve()
    if not path.is_relative_to(root):
        raise UserError(f"{name}: leads out of {media_dir}, expected a path inside it; correct the record")
    return path


def stored_object(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds; {} where it holds none, for what is only looked at where it is there."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def read_json(path: str | os.PathLike, *, check: str, again: str, kind: type | None = None) -> Any:
    """A JSON file's value.

    Args:
        path: the file.
        check: what to do where it cannot be read.
        again: what to do, or what was expected, where it is no JSON.
        kind: `dict` or `list`, where nothing else will do.

    Raises:
        UserError: it cannot be read, is no JSON, or is of another kind.
    """
    try:
        value = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); {check}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({one_line(error)}); {again}") from None
    if kind is not None and not isinstance(value, kind):
        words = {dict: "an object", list: "a list"}[kind]
        raise UserError(f"{path}: holds a JSON {type(value).__name__}, expected {words}; is it the right file?")
    return value


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
