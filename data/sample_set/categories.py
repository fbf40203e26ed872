"""The sample set's product categories. Each function draws one *design* (a part number): every template and query of a
pair share it, so what is normal can be known from the template only.

`TRAINED` categories appear in training and test data, `HELD_OUT` ones in test data only.
"""

import itertools
import math
from collections.abc import Callable

import numpy as np

from adcopilot.sample.canvas import Colour, Design, Part, box, disc, polygon, stroke, turn

#: Least distance between two colours that touch, as the largest difference over the channels.
CONTRAST = 55


def pick_colour(rng: np.random.Generator, *unlike: Colour, low: int = 20, high: int = 236) -> Colour:
    """A random colour at least `CONTRAST` from each colour in `unlike` (or the farthest of sixteen tries)."""
    best, best_gap = None, -1
    for _ in range(16):
        colour = tuple(int(v) for v in rng.integers(low, high, size=3))
        gap = min((max(abs(a - b) for a, b in zip(colour, other, strict=True)) for other in unlike), default=255)
        if gap >= CONTRAST:
            return colour
        if gap > best_gap:
            best, best_gap = colour, gap
    return best


def _grey(rng: np.random.Generator, low: int, high: int) -> Colour:
    level = int(rng.integers(low, high))
    return tuple(int(np.clip(level + rng.integers(-12, 13), 0, 255)) for _ in range(3))


#: What `random_part` draws.
SHAPES = ("disc", "plate", "nut", "star", "oval", "bar")


def random_part(
    rng: np.random.Generator, name: str | None, cx: float, cy: float, radius: float, colour: Colour
) -> Part:
    """A loose part of random shape in the circle of `radius` about `(cx, cy)`; without a `name` its shape names it."""
    shape = SHAPES[int(rng.integers(0, len(SHAPES)))]
    angle = float(rng.uniform(0, 360))
    if shape == "disc":
        points = disc(cx, cy, radius)
    elif shape == "plate":
        points = turn(box(cx, cy, 1.7 * radius, radius * rng.uniform(0.6, 1.4)), angle, centre=(cx, cy))
    elif shape == "nut":
        points = polygon(cx, cy, radius, int(rng.integers(3, 7)), degrees=angle)
    elif shape == "star":
        points = polygon(cx, cy, radius, int(rng.integers(4, 7)), degrees=angle, inner=0.5)
    elif shape == "oval":
        points = turn(disc(cx, cy, radius, radius * 0.55), angle, centre=(cx, cy))
    else:
        points = turn(box(cx, cy, 2.0 * radius, 0.5 * radius), angle, centre=(cx, cy))
    return Part(name=name or shape, points=points, colour=colour, loose=True)


def scatter(rng: np.random.Generator, count: int, *, gap: float, reach: float = 0.8) -> list[tuple[float, float]]:
    """Up to `count` places within `reach` of the centre, at least `gap` apart."""
    places: list[tuple[float, float]] = []
    for _ in range(count * 8):
        if len(places) == count:
            break
        x, y = float(rng.uniform(-reach, reach)), float(rng.uniform(-reach, reach))
        if all(math.hypot(x - u, y - v) >= gap for u, v in places):
            places.append((x, y))
    return places


def assembly(rng: np.random.Generator) -> Design:
    """A tray or table with a random set of parts: the category whose variety teaches comparison itself."""
    background = pick_colour(rng)
    parts = []
    surface = background
    if rng.random() < 0.6:
        surface = pick_colour(rng, background)
        plate = box(0, 0, 1.9, 1.9) if rng.random() < 0.6 else polygon(0, 0, 1.0, int(rng.integers(5, 13)))
        parts.append(Part(name="plate", points=plate, colour=surface))
    for x, y in scatter(rng, int(rng.integers(3, 9)), gap=0.42, reach=0.66):
        part = random_part(rng, "part", x, y, float(rng.uniform(0.15, 0.26)), pick_colour(rng, surface))
        parts.append(part)
        if rng.random() < 0.25:
            inner = pick_colour(rng, part.colour)
            parts.append(Part(name="insert", points=disc(x, y, 0.09), colour=inner, loose=True))
    return Design(category="assembly", background=background, parts=tuple(parts))


def washer(rng: np.random.Generator) -> Design:
    background = _grey(rng, 20, 230)
    metal = pick_colour(rng, background)
    outer, inner = float(rng.uniform(0.75, 0.95)), float(rng.uniform(0.25, 0.4))
    corners = int(rng.choice([6, 8, 24]))
    parts = [
        Part(name="ring", points=polygon(0, 0, outer, corners), colour=metal),
        Part(name="bore", points=disc(0, 0, inner), colour=background),
    ]
    count, offset = int(rng.integers(3, 7)), float(rng.uniform(0, 360))
    radius = (outer + inner) / 2
    fill = background if rng.random() < 0.5 else pick_colour(rng, metal)
    for k in range(count):
        t = math.radians(offset + 360 * k / count)
        parts.append(
            Part(name="hole", points=disc(radius * math.cos(t), radius * math.sin(t), 0.13), colour=fill, loose=True)
        )
    return Design(category="washer", background=background, parts=tuple(parts))


def screw(rng: np.random.Generator) -> Design:
    """A screw from the side: head, shank, threads, tip."""
    background = pick_colour(rng)
    metal = pick_colour(rng, background)
    shade = pick_colour(rng, metal)
    angle = float(rng.uniform(0, 360))
    head = float(rng.uniform(0.35, 0.6))
    width = float(rng.uniform(0.28, 0.45))
    raw = [
        Part(name="head", points=box(-0.75, 0, 0.4, 2 * head), colour=metal, loose=False),
        Part(name="slot", points=box(-0.85, 0, 0.2, 0.18 + 0.2 * rng.random()), colour=shade, loose=True),
        Part(name="shank", points=box(0.05, 0, 1.3, width), colour=metal),
        Part(name="tip", points=((0.7, -width / 2), (0.98, 0.0), (0.7, width / 2)), colour=metal, loose=True),
    ]
    count = int(rng.integers(3, 6))
    for k in range(count):
        x = -0.35 + 0.95 * k / (count - 1)
        raw.append(Part(name="thread", points=box(x, 0, 0.11, width + 0.24), colour=shade, loose=True))
    parts = tuple(Part(name=p.name, points=turn(p.points, angle), colour=p.colour, loose=p.loose) for p in raw)
    return Design(category="screw", background=background, parts=parts)


def pcb(rng: np.random.Generator) -> Design:
    background = _grey(rng, 150, 240) if rng.random() < 0.5 else _grey(rng, 10, 60)
    board = pick_colour(rng, background)
    copper = pick_colour(rng, board)
    chip = pick_colour(rng, board, copper)
    parts = [Part(name="board", points=box(0, 0, 1.9, 1.9), colour=board)]
    places = scatter(rng, int(rng.integers(4, 9)), gap=0.45, reach=0.7)
    for (ax, ay), (bx, by) in itertools.pairwise(places):
        if rng.random() < 0.7:
            parts.append(Part(name="trace", points=stroke([(ax, ay), (ax, by), (bx, by)], 0.09), colour=copper))
    for x, y in places:
        if rng.random() < 0.45:
            parts.append(
                Part(
                    name="chip",
                    points=box(x, y, float(rng.uniform(0.3, 0.5)), float(rng.uniform(0.25, 0.4))),
                    colour=chip,
                    loose=True,
                )
            )
        else:
            parts.append(Part(name="pad", points=disc(x, y, 0.14), colour=copper, loose=True))
    return Design(category="pcb", background=background, parts=tuple(parts))


def label(rng: np.random.Generator) -> Design:
    background = pick_colour(rng)
    paper = pick_colour(rng, background, low=120, high=256)
    ink = pick_colour(rng, paper)
    parts = [Part(name="paper", points=box(0, 0, 1.9, float(rng.uniform(1.4, 1.9))), colour=paper)]
    rows = int(rng.integers(2, 5))
    for row in range(rows):
        y = -0.55 + 1.1 * row / (rows - 1)
        x = -0.8
        while x < 0.6:
            length = float(rng.uniform(0.2, 0.6))
            if x + length > 0.85:
                break
            parts.append(Part(name="word", points=box(x + length / 2, y, length, 0.17), colour=ink, loose=True))
            x += length + 0.16
    if rng.random() < 0.6:
        x, y = float(rng.choice([-0.6, 0.6])), float(rng.choice([-0.4, 0.4]))
        parts.append(random_part(rng, "logo", x, y, 0.24, pick_colour(rng, paper, ink)))
    return Design(category="label", background=background, parts=tuple(parts))


def connector(rng: np.random.Generator) -> Design:
    background = pick_colour(rng)
    housing = pick_colour(rng, background)
    pin = pick_colour(rng, housing)
    columns, rows = int(rng.integers(3, 6)), int(rng.integers(1, 4))
    height = 0.5 + 0.42 * rows
    parts = [Part(name="housing", points=box(0, 0, 1.9, height), colour=housing)]
    if rng.random() < 0.5:
        parts.append(Part(name="key", points=box(0, height / 2 - 0.06, 0.5, 0.14), colour=pin, loose=True))
    round_pins = rng.random() < 0.5
    for row in range(rows):
        for column in range(columns):
            x = -0.7 + 1.4 * column / (columns - 1)
            y = (row - (rows - 1) / 2) * 0.42
            points = disc(x, y, 0.13) if round_pins else box(x, y, 0.22, 0.24)
            parts.append(Part(name="pin", points=points, colour=pin, loose=True))
    return Design(category="connector", background=background, parts=tuple(parts))


def keypad(rng: np.random.Generator) -> Design:
    background = pick_colour(rng)
    case = pick_colour(rng, background)
    side = int(rng.integers(2, 5))
    parts = [Part(name="case", points=box(0, 0, 1.9, 1.9), colour=case)]
    shared = pick_colour(rng, case)
    pitch = 1.6 / side
    for row in range(side):
        for column in range(side):
            x, y = (column - (side - 1) / 2) * pitch, (row - (side - 1) / 2) * pitch
            colour = shared if rng.random() < 0.7 else pick_colour(rng, case)
            parts.append(Part(name="key", points=box(x, y, 0.7 * pitch, 0.6 * pitch), colour=colour, loose=True))
    return Design(category="keypad", background=background, parts=tuple(parts))


def bracket(rng: np.random.Generator) -> Design:
    background = pick_colour(rng)
    metal = pick_colour(rng, background)
    arm = float(rng.uniform(0.45, 0.7))
    quarter = 90 * int(rng.integers(0, 4))
    bodies = [box(-0.9 + arm / 2, 0, arm, 1.8), box(0, 0.9 - arm / 2, 1.8, arm)]
    centres = [(-0.9 + arm / 2, y) for y in (-0.6, -0.05)] + [(x, 0.9 - arm / 2) for x in (0.05, 0.6)]
    if rng.random() < 0.5:
        bodies.append(polygon(-0.2, 0.2, 0.5, 3, degrees=135))
    parts = [Part(name="arm", points=turn(points, quarter), colour=metal) for points in bodies]
    hole = background if rng.random() < 0.6 else pick_colour(rng, metal)
    for x, y in centres:
        if rng.random() < 0.85:
            parts.append(Part(name="hole", points=turn(disc(x, y, 0.15), quarter), colour=hole, loose=True))
    return Design(category="bracket", background=background, parts=tuple(parts))


def gasket(rng: np.random.Generator) -> Design:
    """A sheet of irregular outline with openings."""
    background = pick_colour(rng)
    sheet = pick_colour(rng, background)
    corners = int(rng.integers(7, 12))
    outline = []
    for k in range(corners):
        t, r = 2 * math.pi * k / corners, float(rng.uniform(0.7, 1.0))
        outline.append((r * math.cos(t), r * math.sin(t)))
    parts = [Part(name="sheet", points=tuple(outline), colour=sheet)]
    for x, y in scatter(rng, int(rng.integers(2, 6)), gap=0.45, reach=0.45):
        parts.append(random_part(rng, "opening", x, y, float(rng.uniform(0.14, 0.2)), background))
    return Design(category="gasket", background=background, parts=tuple(parts))


def mosaic(rng: np.random.Generator) -> Design:
    """A panel of coloured tiles: its defects are the largest, so comparison is learned here first."""
    background = pick_colour(rng)
    columns, rows = int(rng.integers(2, 5)), int(rng.integers(2, 5))
    parts = []
    for row in range(rows):
        for column in range(columns):
            cx, cy = (2 * column + 1) / columns - 1, (2 * row + 1) / rows - 1
            parts.append(
                Part(name="tile", points=box(cx, cy, 2 / columns, 2 / rows), colour=pick_colour(rng), loose=True)
            )
    return Design(category="mosaic", background=background, parts=tuple(parts))


def gear(rng: np.random.Generator) -> Design:
    background = pick_colour(rng)
    metal = pick_colour(rng, background)
    teeth = int(rng.integers(7, 13))
    offset = float(rng.uniform(0, 360))
    parts = [Part(name="body", points=disc(0, 0, 0.74, corners=28), colour=metal)]
    tooth = box(0.84, 0, 0.3, 3.0 / teeth)
    for k in range(teeth):
        parts.append(Part(name="tooth", points=turn(tooth, offset + 360 * k / teeth), colour=metal, loose=True))
    parts.append(Part(name="bore", points=disc(0, 0, float(rng.uniform(0.15, 0.24))), colour=background, loose=True))
    if rng.random() < 0.6:
        count = int(rng.integers(3, 6))
        for k in range(count):
            t = math.radians(offset + 360 * k / count)
            points = disc(0.48 * math.cos(t), 0.48 * math.sin(t), 0.12)
            parts.append(Part(name="hole", points=points, colour=background, loose=True))
    return Design(category="gear", background=background, parts=tuple(parts))


def blister(rng: np.random.Generator) -> Design:
    background = _grey(rng, 20, 110)
    foil = _grey(rng, 165, 235)
    pill = pick_colour(rng, foil)
    columns, rows = int(rng.integers(2, 4)), int(rng.integers(3, 5))
    turned = 90 if rng.random() < 0.5 else 0
    parts = [Part(name="foil", points=turn(box(0, 0, 1.5, 1.9), turned), colour=foil)]
    for row in range(rows):
        for column in range(columns):
            x = (column - (columns - 1) / 2) * (1.25 / columns)
            y = (row - (rows - 1) / 2) * (1.7 / rows)
            points = disc(x, y, 0.4 / columns, 0.58 / rows)
            parts.append(Part(name="pill", points=turn(points, turned), colour=pill, loose=True))
    return Design(category="blister", background=background, parts=tuple(parts))


def bottle_cap(rng: np.random.Generator) -> Design:
    background = pick_colour(rng)
    rim = pick_colour(rng, background)
    face = pick_colour(rng, rim)
    mark = pick_colour(rng, face)
    parts = [
        Part(name="rim", points=polygon(0, 0, 0.97, int(rng.integers(14, 21)), inner=0.88), colour=rim),
        Part(name="face", points=disc(0, 0, 0.72, corners=28), colour=face),
    ]
    count, offset = int(rng.integers(3, 6)), float(rng.uniform(0, 360))
    for k in range(count):
        t = math.radians(offset + 360 * k / count)
        points = box(0.45 * math.cos(t), 0.45 * math.sin(t), 0.22, 0.22)
        parts.append(Part(name="letter", points=points, colour=mark, loose=True))
    if rng.random() < 0.7:
        parts.append(random_part(rng, "emblem", 0, 0, 0.2, mark))
    return Design(category="bottle_cap", background=background, parts=tuple(parts))


def fan(rng: np.random.Generator) -> Design:
    background = pick_colour(rng)
    frame = pick_colour(rng, background)
    blade = pick_colour(rng, frame)
    hub = pick_colour(rng, blade)
    parts = [
        Part(name="frame", points=box(0, 0, 1.9, 1.9), colour=frame),
    ]
    count, offset = int(rng.integers(3, 7)), float(rng.uniform(0, 360))
    shape = ((0.15, -0.08), (0.75, -0.22), (0.8, 0.16), (0.2, 0.12))
    for k in range(count):
        parts.append(Part(name="blade", points=turn(shape, offset + 360 * k / count), colour=blade, loose=True))
    parts.append(Part(name="hub", points=disc(0, 0, 0.22), colour=hub, loose=False))
    for x in (-0.8, 0.8):
        for y in (-0.8, 0.8):
            parts.append(Part(name="screw", points=disc(x, y, 0.11), colour=hub, loose=True))
    return Design(category="fan", background=background, parts=tuple(parts))


def _by_name(*drawn: Callable[[np.random.Generator], Design]) -> dict[str, Callable[[np.random.Generator], Design]]:
    return {one.__name__: one for one in drawn}


TRAINED = _by_name(assembly, washer, screw, pcb, label, connector, keypad, bracket, gasket, mosaic)
HELD_OUT = _by_name(gear, blister, bottle_cap, fan)
