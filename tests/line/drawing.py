"""Photographs of one part, drawn by the sample set's own hand: what a user's folder would hold."""

from pathlib import Path

import numpy as np
from PIL import Image

from adcopilot.sample.canvas import draw_design, draw_view, expose
from adcopilot.sample.defects import draw_defect
from adcopilot.sample.pairs import CATEGORIES, stream

SEED = 7


def photographs(folder: Path, *, good: int, bad: int, size: int = 84, category: str = "assembly", first: int = 0):
    """`good/`, a folder for each kind of defect, `ground_truth/`; another `first`: other photographs of the part."""
    design = CATEGORIES[category](stream(SEED))
    number = 0
    for index in range(good):
        dice = stream(SEED, 1, first + index)
        view = draw_view(dice, (size, size), variation=0.3)
        path = folder / "good" / f"{index:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        expose(draw_design(design, view), view).save(path)
    while number < bad:
        dice = stream(SEED, 2, first + number)
        view = draw_view(dice, (size, size), variation=0.3)
        pixels, defect = draw_defect(dice, design, view, largest=4.0, least=0.05)
        for kind, image in (
            (defect.kind, expose(pixels, view)),
            (f"ground_truth/{defect.kind}", Image.fromarray(np.where(defect.mask, 255, 0).astype(np.uint8))),
        ):
            name = f"{number:03d}_mask.png" if "/" in kind else f"{number:03d}.png"
            path = folder / kind / name
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
        number += 1
    return folder
