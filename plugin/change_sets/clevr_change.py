"""CLEVR-Change: rendered scenes, each with one change, and with another camera and light only.

ROOT/data/images/CLEVR_default_000000.png            before
ROOT/data/sc_images/CLEVR_semantic_000000.png        after, something changed
ROOT/data/nsc_images/CLEVR_nonsemantic_000000.png    after, nothing changed but the view
ROOT/data/{change_captions,no_change_captions,splits,type_mapping}.json
ROOT/data/change_captions_with_bbox.json             optional: {"0": {"bbox_before": [x, y, w, h] or null, …}}
"""

from __future__ import annotations

from pathlib import Path

from ..files import first_there

__all__ = ["CAPTIONS", "file", "pair"]

#: What is after a scene → the file of its captions.
CAPTIONS = {"semantic": "change_captions.json", "nonsemantic": "no_change_captions.json"}

_FOLDERS = {"default": "images", "semantic": "sc_images", "nonsemantic": "nsc_images"}


def file(root: Path, name: str, *, option: str) -> Path:
    """A file of the set; pictures are named from its folder. The root may be the folder `data` itself.

    Raises:
        UserError: it is not there; it names `option`, which named the root.
    """
    what = "the folder that holds CLEVR-Change's data folder"
    return first_there(root, f"data/{name}", name, option=option, what=what)


def pair(index: int, after: str) -> tuple[str, str]:
    """The pictures of a scene, before and after; `after` is of `CAPTIONS`."""
    before, then = (f"{_FOLDERS[kind]}/CLEVR_{kind}_{index:06d}.png" for kind in ("default", after))
    return before, then
