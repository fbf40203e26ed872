"""One pair of photographs: a normal template and a query of the same design, damaged or not."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from adcopilot.sample.canvas import Design, View, draw_design, draw_view, expose
from adcopilot.sample.categories import HELD_OUT, TRAINED
from adcopilot.sample.defects import WRONG_PRODUCT, component_boxes, draw_defect
from adcopilot.sample.variation import NOTHING, Variation

#: How far two photographs of one product may differ (see `draw_view`).
VARIATION = 0.4

CATEGORIES = {**TRAINED, **HELD_OUT}


@dataclass(frozen=True, kw_only=True)
class Difficulty:
    """How hard an anomalous query is to tell from a normal one.

    Attributes:
        least: share of the image that a defect's mask covers at least (see `draw_defect`).
        largest: surface defects and extra parts are up to this many times their usual size.
        wrong_product: the query shows another design altogether instead of a damaged one.
    """

    least: float = 0.0
    largest: float = 1.0
    wrong_product: bool = False


#: From what a glance shows to what the test sets ask: the lessons of the tiny model.
WRONG = Difficulty(wrong_product=True)
LARGE = Difficulty(least=0.065, largest=5.0)
USUAL = Difficulty(least=0.048, largest=4.0)


@dataclass(frozen=True, kw_only=True)
class DrawnPair:
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


def draw_pair(
    rng: np.random.Generator,
    *,
    category: str,
    size: int,
    anomalous: bool,
    difficulty: Difficulty = USUAL,
    variation: Variation = NOTHING,
) -> DrawnPair:
    """Draws a pair; template and query differ in pose, a little light and noise besides the defect, and in what else
    `variation` allows good parts to differ in."""
    side = (size, size)
    while True:
        design = variation.dress(CATEGORIES[category](rng))
        seen = draw_design(variation.lay(design), draw_view(rng, side, variation=VARIATION))
        taken = draw_view(rng, side, variation=VARIATION)
        template = expose(seen, taken, variation.light_on(taken))
        view: View = draw_view(rng, side, variation=VARIATION)
        found = variation.lay(design)
        if not anomalous:
            pixels, mask, kind, part = draw_design(found, view), np.zeros((size, size), dtype=bool), None, None
        elif difficulty.wrong_product:
            another = variation.lay(variation.dress(_another(rng, category)))
            pixels, mask, part = draw_design(another, view), np.ones((size, size), dtype=bool), None
            kind = WRONG_PRODUCT
        else:
            damaged = draw_defect(rng, found, view, largest=difficulty.largest, least=difficulty.least)
            if damaged is None:
                continue
            pixels, defect = damaged
            mask, kind, part = defect.mask, defect.kind, defect.part
        query = expose(pixels, view, variation.light_on(view))
        boxes = [[0, 0, size, size]] if kind == WRONG_PRODUCT else component_boxes(mask)
        return DrawnPair(
            category=category, template=template, query=query, kind=kind, part=part, mask=mask, boxes=boxes
        )


def _another(rng: np.random.Generator, category: str) -> Design:
    """Another design of the category, or of any that belongs to the same side of training and test."""
    if rng.random() < 0.3:
        category = str(rng.choice(list(TRAINED if category in TRAINED else HELD_OUT)))
    return CATEGORIES[category](rng)
