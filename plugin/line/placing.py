"""A model's files in the folder of a line, which has to have all that it inspects with."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from .inspection import FILE

__all__ = ["place_model"]


def place_model(model: Path, line: Path) -> None:
    """Put a model's files into a line's folder: as links to the same content where that can be, else as copies."""
    line.mkdir(parents=True, exist_ok=True)
    for file in sorted(model.iterdir()):
        target = line / file.name
        if not file.is_file() or file.name in (FILE, "README.md") or file.name.startswith("."):
            continue
        part = target.with_name(f"{target.name}.part")
        part.unlink(missing_ok=True)
        content = file.resolve()  # in a hub's cache it is a link
        try:
            os.link(content, part)
        except OSError:  # another disk, or one without hard links
            shutil.copyfile(content, part)
        os.replace(part, target)
