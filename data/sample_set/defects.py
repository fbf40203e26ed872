"""Defects: each takes a design and a view and gives the picture of the damaged product with an exact mask.

Structural defects change the design (a part missing, added, moved, bent, recoloured); surface defects are painted over
it (scratch, stain, crack, hole). A defect that cannot be seen, because its colours happen to match what it covers, is
drawn again.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from adcopilot.masks.components import mask_components
from adcopilot.sample.canvas import Design, Part, Point, View, disc, draw_cover, draw_design, stroke, turn
from adcopilot.sample.categories import pick_colour, random_part

STRUCTURAL = ("missing part", "extra part", "misplaced part", "bent part", "wrong colour")
SURFACE = ("scratch", "stain", "crack", "hole")
KINDS = STRUCTURAL + SURFACE
#: What is wrong with a query that shows another design than its template does.
WRONG_PRODUCT = "wrong product"

#: A pixel belongs to the mask when the defect covers at least this fraction of it.
COVERED = 0.4
#: Least mean change (largest channel, grey levels) over the mask, and least area in pixels, of a defect worth showing.
VISIBLE_CHANGE = 40.0
VISIBLE_PIXELS = 8
#: Parts have their size: one as large as a stain would hardly ever be missing or recoloured. (The mask of a misplaced
#: or bent part covers two places already.)
STRUCTURAL_LEAST = {"missing part": 0.6, "extra part": 0.6, "wrong colour": 0.6}
#: How often a defect is drawn before the design is given up, and with the same kind in a row.
TRIES, TRIES_OF_A_KIND = 60, 4


@dataclass(frozen=True, kw_only=True)
class Defect:
    """One defect in one picture.

    Attributes:
        kind: one of `KINDS`.
        mask: `(height, width)` bool, the pixels it covers.
        part: name of the part it concerns, or None for a surface defect.
    """

    kind: str
    mask: np.ndarray
    part: str | None = None


def draw_defect(
    rng: np.random.Generator,
    design: Design,
    view: View,
    *,
    kinds: tuple[str, ...] = KINDS,
    largest: float = 1.0,
    least: float = 0.0,
) -> tuple[np.ndarray, Defect] | None:
    """Damages the product once.

    Args:
        kinds: what may be drawn.
        largest: surface defects and extra parts are up to this many times their usual size.
        least: share of the image that the mask covers at least, times `STRUCTURAL_LEAST` of the kind.

    Returns:
        The picture before light and noise, `(height, width, 3)` float32, and the defect; None where `TRIES` gave
        nothing visible (the caller draws another design; it is rare, so that designs do not tell the label).
    """
    clean = draw_design(design, view)
    for attempt in range(TRIES):
        if attempt % TRIES_OF_A_KIND == 0:  # kinds that are small by nature would be rare if each try drew another
            kind = str(rng.choice(list(kinds)))
        grow = float(rng.uniform(1.0, largest)) if largest > 1 else 1.0
        if kind in STRUCTURAL:
            drawn = _structural(rng, design, view, kind, grow, STRUCTURAL_LEAST.get(kind, 1.0) * least)
        else:
            drawn = _surface(rng, design, view, kind, clean, grow, least)
        if drawn is None:
            continue
        pixels, mask, part = drawn
        change = np.abs(pixels - clean).max(axis=2)
        if mask.sum() >= VISIBLE_PIXELS and change[mask].mean() >= VISIBLE_CHANGE:
            return pixels, Defect(kind=kind, mask=mask, part=part)
    return None


def _structural(rng, design: Design, view: View, kind: str, grow: float, least: float):
    loose = [k for k, part in enumerate(design.parts) if part.loose]
    if not loose:
        return None
    index = int(rng.choice(loose))
    part = design.parts[index]
    end = index + 1
    while end < len(design.parts) and design.parts[end].rides:
        end += 1
    before, riders, above = design.parts[:index], design.parts[index + 1 : end], design.parts[end:]
    shown, hidden = [part.points], [p.points for p in above]
    if kind == "missing part":
        parts = before + above
    elif kind == "extra part":
        x, y = _place(rng, design)
        under = _under(design, x, y)
        part = random_part(rng, "part", x, y, grow * float(rng.uniform(0.15, 0.24)), pick_colour(rng, under))
        parts, shown, hidden = (*design.parts, part), [part.points], []
    elif kind == "misplaced part":
        width, height = part.extent
        reach = grow * max(0.26, 0.8 * min(width, height))
        angle = float(rng.uniform(0, 2 * math.pi))
        moved = part.moved(reach * math.cos(angle), reach * math.sin(angle))
        carried = (one.moved(reach * math.cos(angle), reach * math.sin(angle)) for one in riders)
        parts, shown = (*before, moved, *carried, *above), [part.points, moved.points]
    elif kind == "bent part":
        width, height = part.extent
        if max(width, height) < 1.5 * min(width, height):
            return None  # a round or square part looks the same turned
        degrees = float(rng.choice([-1, 1]) * rng.uniform(40, 90))
        bent = part.turned(degrees)
        carried = (replace(one, points=turn(one.points, degrees, centre=part.centre)) for one in riders)
        parts, shown = (*before, bent, *carried, *above), [part.points, bent.points]
    else:
        parts = (*before, replace(part, colour=pick_colour(rng, part.colour, design.background)), *riders, *above)
        hidden += [one.points for one in riders]
    mask = draw_cover(shown, view, points_off=hidden) >= COVERED
    if mask.mean() < least:
        return None
    return draw_design(replace(design, parts=parts), view), mask, part.name


def _surface(rng, design: Design, view: View, kind: str, clean: np.ndarray, grow: float, least: float):
    x, y = _place(rng, design)
    opacity = 1.0
    if kind in ("scratch", "crack"):
        points = _jagged(rng, x, y, grow, crack=kind == "crack")
    elif kind == "stain":
        corners = disc(x, y, 1.0, corners=int(rng.integers(7, 11)))
        radius = grow * float(rng.uniform(0.13, 0.26))
        points = tuple(
            (x + (u - x) * radius * rng.uniform(0.7, 1.3), y + (v - y) * radius * rng.uniform(0.7, 1.3))
            for u, v in corners
        )
        opacity = float(rng.uniform(0.65, 0.95))
    else:
        points = disc(x, y, grow * float(rng.uniform(0.11, 0.17)))
    cover = draw_cover([points], view)
    mask = cover >= COVERED
    if not mask.any() or mask.mean() < least:
        return None
    under = tuple(int(v) for v in clean[mask].mean(axis=0))
    if kind == "crack":
        colour = tuple(int(v) for v in rng.integers(0, 45, size=3))
    elif kind == "scratch":
        level = 255 if sum(under) < 420 else 40
        colour = tuple(int(np.clip(level + d, 0, 255)) for d in rng.integers(-40, 41, size=3))
    elif kind == "hole":
        colour = design.background
    else:
        colour = pick_colour(rng, under, low=0, high=256)
    weight = (cover * np.float32(opacity))[..., None]
    pixels = clean * (1 - weight) + np.asarray(colour, dtype=np.float32) * weight
    return pixels, mask, None


def _place(rng, design: Design) -> Point:
    """A point on the product: between the centre of one of its parts and one of that part's corners."""
    parts: list[Part] = [part for part in design.parts if not part.rides]  # a serial number draws no defects to itself
    part = parts[int(rng.integers(0, len(parts)))]
    corner = part.points[int(rng.integers(0, len(part.points)))]
    along = float(rng.uniform(0, 0.8))
    (cx, cy), (px, py) = part.centre, corner
    x, y = cx + (px - cx) * along, cy + (py - cy) * along
    return min(max(x, -0.78), 0.78), min(max(y, -0.78), 0.78)


def _under(design: Design, x: float, y: float):
    """The colour at a point, near enough: that of the topmost part whose box holds it."""
    for part in reversed(design.parts):
        xs, ys = zip(*part.points, strict=True)
        if min(xs) <= x <= max(xs) and min(ys) <= y <= max(ys):
            return part.colour
    return design.background


def _jagged(rng, x: float, y: float, grow: float, *, crack: bool) -> tuple[Point, ...]:
    """A scratch (nearly straight) or a crack (zigzag) through `(x, y)`."""
    angle = float(rng.uniform(0, 2 * math.pi))
    length = float(rng.uniform(0.5, 1.0))
    bends = 5 if crack else 3
    path = []
    for k in range(bends):
        s = (k / (bends - 1) - 0.5) * length
        off = float(rng.uniform(-0.11, 0.11)) if crack else float(rng.uniform(-0.03, 0.03))
        px = x + s * math.cos(angle) - off * math.sin(angle)
        py = y + s * math.sin(angle) + off * math.cos(angle)
        path.append((min(max(px, -1.0), 1.0), min(max(py, -1.0), 1.0)))
    return stroke(path, grow * float(rng.uniform(0.08, 0.13)))


def component_boxes(mask: np.ndarray) -> list[list[int]]:
    """Boxes of the 8-connected components of a mask, `[x1, y1, x2, y2]` in pixels with x2, y2 exclusive, top first.

    Components of fewer than three pixels (slivers of anti-aliasing) belong to the nearest larger one's box if there is
    one, and stand alone otherwise.
    """
    found = mask_components(mask)
    boxes = [list(one.box) for one in found]
    large = [k for k, one in enumerate(found) if one.area >= 3]
    if not large:
        return boxes
    merged = {k: list(boxes[k]) for k in large}
    for k, (x1, y1, x2, y2) in enumerate(boxes):
        if k not in merged:
            cx, cy = (x1 + x2) / 2, (y1 + y2) / 2
            box = merged[min(large, key=lambda j: _distance(boxes[j], cx, cy))]
            box[:] = min(box[0], x1), min(box[1], y1), max(box[2], x2), max(box[3], y2)
    return sorted(merged.values(), key=lambda b: (b[1], b[0]))


def _distance(box: list[int], x: float, y: float) -> float:
    return max(box[0] - x, x - box[2], 0) + max(box[1] - y, y - box[3], 0)
