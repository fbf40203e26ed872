"""The pictures that `adcopilot inspect --draw` writes."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..drawing import save_picture
from ..errors import UserError
from ..images import IMAGE_SUFFIXES
from ..jsonl import content_key
from .pairs import Pair
from .result import Result, printable

if TYPE_CHECKING:  # needs torch
    from ..anomaly_map.comparing import AnomalyMap

__all__ = ["Names", "Pictures", "check_outside", "picture_name"]

#: A file's name has at most 255 bytes on most file systems; atomic_write adds a few for its temporary file.
MOST_BYTES = 240


class Pictures:
    """Where pictures go: a file for one pair, a folder (with the queries' own folders in it) for several.

    Raises:
        UserError: a file is given for several pairs, its suffix is not one that can be written, or the folder lies
            among the images to inspect.
    """

    def __init__(self, args: argparse.Namespace, *, single: bool, bits: int | None = None) -> None:
        self.bits = bits
        self.path = Path(args.draw)
        self.undrawn = 0
        suffix = self.path.suffix.lower()
        self.is_folder = self.path.is_dir() or args.draw.endswith("/") or not suffix
        if not single and not self.is_folder:
            raise UserError(f"--draw {args.draw}: several pairs need a folder, not a file")
        if not self.is_folder and suffix not in IMAGE_SUFFIXES:
            raise UserError(f"--draw {args.draw}: cannot write {suffix}; expected .png or .jpg, or a folder")
        check_outside(self.path, args, option="--draw")
        self._names = Names(self.path if self.is_folder else None)

    def draw(self, pair: Pair, line: dict[str, Any], anomaly_map: AnomalyMap | None, threshold: float | None) -> None:
        """Draw a result; one whose images have gone since is said and counted in `undrawn`.

        Args:
            anomaly_map: the query's, which is drawn beside it; None where none was made.
            threshold: of the map's score, where one is known.

        Raises:
            UserError: the picture cannot be written.
        """
        try:
            result = replace(Result.from_dict(line), map=anomaly_map, map_threshold=threshold)
            picture = result.draw(bits=self.bits, query_name=pair.name)
        except UserError as error:
            self.undrawn += 1
            print(f"not drawn: {printable(str(error))}", file=sys.stderr)
            return
        save_picture(picture, self._names.of(pair.name) if self.is_folder else self.path)


def check_outside(path: Path, args: argparse.Namespace, *, option: str) -> None:
    """Whether pictures may be written to a file or folder.

    Raises:
        UserError: it lies among the pictures to inspect, or is one of them.
    """
    for name in ("query_dir", "template_dir", "mvtec"):
        folder = getattr(args, name)
        if folder and path.resolve().is_relative_to(folder.resolve()):
            raise UserError(
                f"{option} {path}: lies inside --{name.replace('_', '-')} {folder}, so the next run would inspect its "
                "pictures; choose a folder elsewhere"
            )
    for name in ("query", "template"):
        file = getattr(args, name)
        if file and (path.resolve() == file.resolve() or path.resolve() == file.resolve().parent):
            what = "would be overwritten" if path.resolve() == file.resolve() else "could be overwritten"
            raise UserError(f"{option} {path}: --{name} {file} {what}; choose another place")


class Names:
    """Files of a folder that queries' pictures go to, each its own.

    Args:
        folder: where; None where there is none.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._taken: dict[str, str] = {}

    def of(self, name: str) -> Path:
        """The file of a query; `a.jpg` and `a.jpg.png` have two."""
        place = picture_name(name)
        if self._taken.setdefault(place, name) != name:
            path = Path(place)
            place = str(path.with_name(f"{path.stem}-{content_key(name)[:12]}.png"))
            self._taken[place] = name
        return self.folder / place


def picture_name(name: str) -> str:
    """Where the picture of a query goes, below the folder of pictures: the query's own path, as a PNG.

    A file's name of more bytes than one may have is cut, and told apart by a digest of the whole.
    """
    path = Path(name if name.lower().endswith(".png") else f"{name}.png")
    if len(os.fsencode(path.name)) <= MOST_BYTES:
        return str(path)
    kept = os.fsencode(path.stem)[: MOST_BYTES - 40].decode(errors="ignore")
    return str(path.with_name(f"{kept}-{content_key(name)}.png"))
