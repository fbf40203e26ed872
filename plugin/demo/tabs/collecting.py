"""From a visitor's uploads to folders of pictures, which "Many parts" inspects."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from ...errors import UserError
from ...inspect.pairs import find_images
from ..archive import unpack
from ..limits import check_pixels
from ..service import Service

__all__ = ["collect", "leave_out_unusable"]


def collect(service: Service, files: Sequence[tuple[str, str]], folder: Path, *, visitor: str) -> None:
    """Copy uploads into a new folder, zips unpacked.

    Raises:
        UserError: they are not the visitor's, a zip cannot be used, or they are too many.
    """
    folder.mkdir()
    number = 0
    for path, name in files:
        found, name = service.store.use(path, visitor=visitor), Path(name).name
        if found.suffix.lower() == ".zip":
            number += unpack(found, folder, name=name, limits=service.limits)
            continue
        target, copies = folder / found.name, 1
        while target.exists():  # the same name from two folders
            copies += 1
            target = folder / f"{found.stem} ({copies}){found.suffix}"
        shutil.copyfile(found, target)
        number += 1
    if number > service.limits.files:
        raise UserError(f"{number} pictures, this page takes {service.limits.files} at a time")


def leave_out_unusable(service: Service, folder: Path) -> list[str]:
    """Delete pictures of good parts that are none, or too large to be decoded.

    Returns:
        What is wrong with each.

    Raises:
        UserError: none is left.
    """
    problems = []
    files = find_images(folder)
    for file in files:
        try:
            check_pixels(file, name=str(file.relative_to(folder)), limits=service.limits)
        except UserError as error:
            problems.append(str(error))
            file.unlink()
    if len(problems) == len(files):
        raise UserError(f"none of the pictures of good parts can be used: {problems[0]}")
    return problems
