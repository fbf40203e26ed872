"""Pairs of pictures to try the page with: the sample set's, of numbers that belong to none of its splits.

`tests/demo/test_pieces.py` draws them again and compares.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ..images import open_image

__all__ = ["Example", "read_examples"]

#: The pictures' names in `pictures/`, a category of the sample set each, and what there is to see.
CHOSEN = {
    "pcb": "Circuit board: hole",
    "gear": "Gear: stain",
    "bracket": "Bracket: extra part",
    "washer": "Washer: no defect",
}


@dataclass(frozen=True, kw_only=True)
class Example:
    """A pair of RGB images of 56×56 pixels, and what there is to see in words."""

    title: str
    template: Image.Image
    query: Image.Image


def read_examples() -> list[Example]:
    """The pairs."""
    folder = Path(__file__).with_name("pictures")
    found = []
    for name, title in CHOSEN.items():
        template, query = (open_image(folder / f"{name}-{kind}.png") for kind in ("template", "query"))
        found.append(Example(title=title, template=template, query=query))
    return found
