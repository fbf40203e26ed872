"""Lines that are made in one order and written in another."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from ..jsonl import atomic_write

__all__ = ["OrderedLines"]


class OrderedLines:
    """Lines of a file by their places in it; memory holds where each is, not the lines. Use as a context manager.

    Args:
        folder: of a file for the time being.
    """

    def __init__(self, *, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed in __exit__
        self._found: list[tuple[Any, int, int]] = []

    def __enter__(self) -> OrderedLines:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._found)

    def add(self, place: Any, line: bytes) -> None:
        """Keep a line, without its end; `place` is anything that sorts, and no two lines' are alike."""
        self._found.append((place, self._file.tell(), len(line) + 1))
        self._file.write(line + b"\n")

    def write(self, path: Path) -> list[Any]:
        """Write the file, and return the lines' places, in order.

        Raises:
            UserError: it cannot be written.
        """
        self._found.sort()

        def copy(file) -> None:
            for _, offset, length in self._found:
                self._file.seek(offset)
                file.write(self._file.read(length))

        atomic_write(path, copy)
        return [place for place, _, _ in self._found]
