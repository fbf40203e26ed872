"""Photographs of one part, as a user's folder holds them: good ones, a folder for each kind of defect, masks."""

from pathlib import Path

import numpy as np
from PIL import Image

from adcopilot.sample.canvas import draw_design, draw_view, expose
from adcopilot.sample.defects import draw_defect
from adcopilot.sample.pairs import CATEGORIES, stream

__all__ = ["photographs"]


def photographs(
    folder: Path,
    *,
    good: int,
    bad: int,
    size: int = 84,
    category: str = "assembly",
    first: int = 0,
    seed: int = 7,
) -> Path:
    """Draws `good/`, a folder for each kind of defect, and `ground_truth/` with their masks, as MVTec's layout has it.

    Args:
        folder: to write; its pictures of the same names are written again.
        good, bad: how many of either.
        size: side in pixels.
        category: one of `CATEGORIES`.
        first: with another one, other photographs of the same part.
        seed: with another one, another part.

    Returns:
        `folder`.
    """
    design = CATEGORIES[category](stream(seed))
    for number in range(good):
        dice = stream(seed, 1, first + number)
        view = draw_view(dice, (size, size), variation=0.3)
        _save(expose(draw_design(design, view), view), folder / "good" / f"{number:03d}.png")
    for number in range(bad):
        dice, damaged = stream(seed, 2, first + number), None
        while damaged is None:
            view = draw_view(dice, (size, size), variation=0.3)
            damaged = draw_defect(dice, design, view, largest=4.0, least=0.05)
        pixels, defect = damaged
        _save(expose(pixels, view), folder / defect.kind / f"{number:03d}.png")
        mask = Image.fromarray(np.where(defect.mask, 255, 0).astype(np.uint8))
        _save(mask, folder / "ground_truth" / defect.kind / f"{number:03d}_mask.png")
    return folder


def _save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
