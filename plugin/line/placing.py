"""Files that a line's folder has of others: a model's, and templates. It has to have all that it inspects with."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from ..errors import UserError
from ..jsonl import file_digest, write_json
from .inspection import FILE

__all__ = ["check_place", "place_files", "place_model"]

#: The names of what was placed in a folder, so that the next time takes away what it does not replace.
_PLACED = ".placed"


def place_model(model: Path, line: Path) -> None:
    """Put a model's files into a line's folder: as links to the same content where that can be, else as copies.

    Raises:
        UserError: as `check_place`.
    """
    names = (file for file in sorted(model.iterdir()) if file.is_file() and not file.name.startswith("."))
    place_files({file.name: file for file in names if file.name not in (FILE, "README.md")}, line, link=True)


def check_place(files: Mapping[str, Path], folder: Path) -> set[str]:
    """The names that were placed in a folder before.

    Raises:
        UserError: a file would be overwritten that was not placed there.
    """
    mark = folder / _PLACED
    before = set(json.loads(mark.read_bytes())) if mark.is_file() else set()
    for name, file in files.items():
        target = folder / name
        if name not in before and os.path.lexists(target) and (not target.is_file() or _other(target, file)):
            raise UserError(
                f"{target}: is there already and is no part of the line, so it is not overwritten; give another "
                "--output DIR, or move it away"
            )
    return before


def place_files(files: Mapping[str, Path], folder: Path, *, link: bool = False) -> None:
    """Put files into a folder, and take away what was placed there before and is none of them.

    Args:
        files: name → what is to be there.
        link: as links to the same content where that can be.

    Raises:
        UserError: as `check_place`.
    """
    before = check_place(files, folder)
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder, before | files.keys())
    for name, file in files.items():
        target = folder / name
        if target.is_file() and target.samefile(file):
            continue
        part = target.with_name(f"{name}.part")
        part.unlink(missing_ok=True)
        try:
            (os.link if link else shutil.copyfile)(file.resolve(), part)  # in a hub's cache it is a link
        except OSError:
            if not link:
                raise
            shutil.copyfile(file, part)  # to another disk, or one without hard links
        os.replace(part, target)
    for name in before - files.keys():
        (folder / name).unlink(missing_ok=True)
    _write(folder, set(files))


def _other(target: Path, file: Path) -> bool:
    return target.stat().st_size != file.stat().st_size or file_digest(target) != file_digest(file)


def _write(folder: Path, names: set[str]) -> None:
    write_json(folder / _PLACED, sorted(names), indent=None)
