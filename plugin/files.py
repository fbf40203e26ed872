"""Look at what a path is before it is opened: to open a pipe waits for its writer, and a device may never end."""

from __future__ import annotations

import os
import stat

__all__ = ["not_a_file"]

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
