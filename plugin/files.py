"""Files of others: a path is looked at before it is opened, for to open a pipe waits for its writer, a device may
never end, and a path from a data file may lead anywhere."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

from .errors import UserError, reason_of

__all__ = ["check_writable", "not_a_file", "path_inside", "stored_object"]

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


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
