"""Spot-the-diff: two frames of a surveillance camera.

ROOT/data/annotations/{train,val,test}.json    [{"img_id": "123", "sentences": ["…", …]}, …], an entry a person
ROOT/resized_images/123.png, 123_2.png         before, after (the authors' download; also ROOT/data/resized_images)
"""

from __future__ import annotations

from pathlib import Path

from ..files import first_there

__all__ = ["annotations", "pair", "pictures"]

_WHAT = "the repository of Spot-the-diff, with data/annotations and resized_images"


def annotations(root: Path, split: str, *, option: str) -> Path:
    """The file of a split; the others' lie beside it.

    Raises:
        UserError: it is not there; it names `option`, which named the root.
    """
    folders = ("data/annotations/", "annotations/", "")
    return first_there(root, *(f"{folder}{split}.json" for folder in folders), option=option, what=_WHAT)


def pictures(root: Path, *, option: str) -> Path:
    """Their folder.

    Raises:
        UserError: as `annotations`.
    """
    return first_there(root, "resized_images", "data/resized_images", "images", option=option, what=_WHAT)


def pair(name: str) -> tuple[str, str]:
    """The pictures of an `img_id`, before and after."""
    return f"{name}.png", f"{name}_2.png"
