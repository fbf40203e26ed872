"""Tables in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

__all__ = ["aligned"]


def aligned(heads: Iterable[str], rows: Mapping[str, Sequence[str]], *, width: int) -> list[str]:
    """Lines of a table: names of rows from the left, cells of so many characters from the right."""
    first = max(map(len, rows))
    return [
        " ".join([f"{name:<{first}}", *(f"{cell:>{width}}" for cell in cells)])
        for name, cells in [("", list(heads)), *rows.items()]
    ]
