"""README.md beside a model's weights or a data set's records, as hubs read it: YAML in front, then Markdown.

Nothing is invented: what stands in no file is "not recorded".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from ..jsonl import write_text

__all__ = ["UNKNOWN", "cell_text", "read_card", "write_card"]

UNKNOWN = "not recorded"


def cell_text(value: Any) -> str:
    """Text for a line or a cell of a table: from somebody's file, so nothing in it may end the cell or the line."""
    text = "" if value is None else " ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;")
    return text[:200] or UNKNOWN


def write_card(folder: Path, front: Mapping[str, Any], lines: Iterable[str]) -> None:
    """Write a folder's README.md.

    Raises:
        OSError: it cannot be written.
    """
    above = yaml.safe_dump(dict(front), sort_keys=False, allow_unicode=True)
    text = "\n".join(["---", f"{above}---", "", *lines, ""])
    write_text(folder / "README.md", text)


def read_card(folder: Path) -> tuple[str, dict[str, Any]]:
    """A folder's README.md and what stands in front of it; empty where there is none that can be read."""
    try:
        text = (folder / "README.md").read_text("utf-8")
        front = yaml.safe_load(text.split("---\n")[1]) if text.startswith("---\n") else {}
    except (OSError, ValueError, IndexError, RecursionError, yaml.YAMLError):
        return "", {}
    return text, front if isinstance(front, dict) else {}
