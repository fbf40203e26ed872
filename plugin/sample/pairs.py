"""One pair of photographs: a normal template and a query of the same design, damaged or not."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from adcopilot.sample.canvas import View, draw_design, draw_view, expose
from adcopilot.sample.categories import HELD_OUT, TRAINED
from adcopilot.sample.defects import component_boxes, draw_defect

#: How far two photographs of one product may differ (see `draw_view`), and how large a defect may be.
VARIATION = 0.4
LARGEST = 2.2

CATEGORIES = {**TRAINED, **HELD_OUT}


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A template and a query.

    Attributes:
        category: the product.
        template: RGB image of a normal product.
        query: RGB image of the same design in another view.
        kind: the defect in the query, or None.
        part: the part the defect concerns, or None.
        mask: `(height, width)` bool, the defect's pixels in the query; all False when normal.
        boxes: `[x1, y1, x2, y2]` in the query's pixels, of the mask's connected components.
    """

    category: str
    template: Image.Image
    query: Image.Image
    kind: str | None
    part: str | None
    mask: np.ndarray
    boxes: list[list[int]]


def stream(*key: int) -> np.random.Generator:
    """The generator that belongs to `key`: each pair of a set has its own, so any part of a set can be made alone."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(list(key))))


def draw_pair(rng: np.random.Generator, *, category: str, size: int, anomalous: bool) -> Pair:
    """Draws a pair; template and query differ in pose, light and noise besides the defect."""
    side = (size, size)
    while True:
        design = CATEGORIES[category](rng)
        template = expose(
            draw_design(design, draw_view(rng, side, variation=VARIATION)), draw_view(rng, side, variation=VARIATION)
        )
        view: View = draw_view(rng, side, variation=VARIATION)
        if not anomalous:
            query = expose(draw_design(design, view), view)
            mask = np.zeros((size, size), dtype=bool)
            return Pair(category=category, template=template, query=query, kind=None, part=None, mask=mask, boxes=[])
        damaged = draw_defect(rng, design, view, largest=LARGEST)
        if damaged is not None:
            pixels, defect = damaged
            return Pair(
                category=category,
                template=template,
                query=expose(pixels, view),
                kind=defect.kind,
                part=defect.part,
                mask=defect.mask,
                boxes=component_boxes(defect.mask),
            )
