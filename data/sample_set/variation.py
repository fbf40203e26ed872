"""What may differ between two photographs of a good part, and is never a defect.

parts   parts that may lie loose are moved and turned, prints (words, letters, a serial number) read otherwise, slotted
        screws and scored pills stand at another angle, a fan's blades too
light   light falls off by 20 to 50 % to one side, and one soft shade lies somewhere

All of it stays well below a defect: a misplaced part is at least 0.26 away (see `defects`), a loose one at most 0.18
between two photographs; a bent one is turned by 40 degrees or more, a long loose one by 30 at most. A person who knows
the part sees through it; a comparison of pixels does not.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from adcopilot.sample.canvas import FRAME, Colour, Design, Part, Point, View, box, disc, draw_cover, turn
from adcopilot.sample.categories import pick_colour

#: What `--variation` takes.
VARIATIONS = ("none", "parts", "light", "parts+light")

#: Category → part → how far it may lie from its place, and how far it may be turned if it is long (else: at will).
LOOSE: dict[str, dict[str, tuple[float, float]]] = {
    "assembly": {"part": (0.09, 15)},
    "pcb": {"chip": (0.09, 12)},
    "label": {"word": (0.05, 4), "logo": (0.09, 15)},
    "connector": {"pin": (0.05, 10)},
    "keypad": {"key": (0.08, 12)},
    "mosaic": {"tile": (0.09, 10)},
    "blister": {"pill": (0.08, 15)},
    "bottle_cap": {"emblem": (0.08, 15)},
}
#: Parts that turn at will unless they are long: what was simply laid down. Others sit in their place.
AT_WILL = ("part", "pill", "emblem")
#: Category → parts that turn about the product's centre together, and how far.
ROTORS: dict[str, tuple[tuple[str, ...], float]] = {
    "fan": (("blade",), 25),
    "bottle_cap": (("letter",), 20),
}
#: Category → parts with a slot, or a score line; a hole has a slotted screw in it.
SLOTTED = {
    "washer": "hole",
    "connector": "pin",
    "bracket": "hole",
    "gear": "hole",
    "fan": "screw",
    "blister": "pill",
}
#: Category → printed part and its print: gaps between a word's letters, strokes of a letter, a chip's marking.
PRINTED = {"label": ("word", "gaps"), "bottle_cap": ("letter", "strokes"), "pcb": ("chip", "marking")}
#: What a serial number may be stuck on.
BODIES = ("ring", "board", "housing", "arm", "sheet", "body", "foil", "case", "plate")

#: A serial number's digits: width and height, thickness of a stroke, from digit to digit, sticker around them.
_DIGIT, _STROKE, _PITCH, _MARGIN = (0.18, 0.32), 0.07, 0.23, 0.08
#: Pixels of the picture in which room for a sticker is looked for.
_GRID = 56
#: Where a seven-segment digit's segments are (from -1 to 1; whether across), and which of them each digit has.
_TOP = ((0, -1, True), (-1, -0.5, False), (1, -0.5, False), (0, 0, True))
_PLACES = (*_TOP, (-1, 0.5, False), (1, 0.5, False), (0, 1, True))
_SEGMENTS = tuple(f"{lit:07b}" for lit in (119, 18, 93, 91, 58, 107, 111, 82, 127, 123))


@dataclass(frozen=True, kw_only=True)
class Variation:
    """What varies, and the generator that it is drawn from: its own, so that the part and its pose stay the same.

    Attributes:
        parts: whether parts and prints do.
        light: whether the light does.
        rng: unused where nothing varies.
    """

    parts: bool = False
    light: bool = False
    rng: np.random.Generator | None = None

    @classmethod
    def named(cls, name: str, rng: np.random.Generator) -> "Variation":
        """By one of `VARIATIONS`."""
        return cls(parts="parts" in name, light="light" in name, rng=rng)

    def dress(self, design: Design) -> Design:
        """The design with what it varies in: slots, prints, a serial number's sticker. All photographs share it."""
        if not self.parts:
            return design
        slotted = SLOTTED.get(design.category)
        printed, print_ = PRINTED.get(design.category, (None, ""))
        colours = {part.name: part.colour for part in design.parts}
        metal = pick_colour(self.rng, colours.get(slotted, design.background))
        slot = pick_colour(self.rng, metal) if slotted == "hole" else metal
        ink = colours.get({"word": "paper", "letter": "face"}.get(printed)) or pick_colour(self.rng, metal)
        if printed == "chip" and "chip" in colours:
            ink = pick_colour(self.rng, colours["chip"])
        parts: list[Part] = []
        for part in design.parts:
            parts.append(part)
            if part.name == slotted:
                parts += _slotted(part, metal, slot)
            elif part.name == printed:
                parts.append(Part(name=print_, points=part.points, colour=ink, rides=True))
        parts += _sticker(self.rng, design)
        return replace(design, parts=tuple(parts))

    def lay(self, design: Design) -> Design:
        """A `dress`ed design as it lies in one photograph."""
        if not self.parts:
            return design
        rng, loose = self.rng, LOOSE.get(design.category, {})
        if design.category == "screw":
            return replace(design, parts=_rolled(rng, design.parts))
        names, most = ROTORS.get(design.category, ((), 0.0))
        rotor = float(rng.uniform(-most, most))
        laid: list[Part] = []
        place = _Place()
        for part in design.parts:
            if not part.rides and part.name != "insert":  # those lie where the part under them does
                place = _Place(spin=float(rng.uniform(0, 180)))
                if part.name in names:
                    place = _Place(degrees=rotor, spin=place.spin)
                elif part.name in loose:
                    place = _put(rng, part, *loose[part.name])
                elif part.name == "sticker":
                    place = _put(rng, part, 0.06, 6)
            if part.name == "word":  # as long as what is printed
                (cx, cy), (width, height), more = part.centre, part.extent, float(rng.uniform(-0.06, 0.06))
                part = replace(part, points=box(cx + more / 2, cy, width + more, height))
            if part.name in _PRINTS:
                laid += [place.of(one) for one in _PRINTS[part.name](rng, part)]
            else:
                laid.append(place.of(part))
        return replace(design, parts=tuple(laid))

    def light_on(self, view: View) -> np.ndarray | None:
        """How much light falls on each pixel, `(height, width)`, 1 where it is full; None where light does not vary.

        Only sums, products and quotients are taken per pixel, as everywhere in `canvas`.
        """
        if not self.light:
            return None
        rng, (width, height) = self.rng, view.size
        x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
        y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
        angle, fall = float(rng.uniform(0, 2 * math.pi)), float(rng.uniform(0.2, 0.5))
        ux, uy = math.cos(angle), math.sin(angle)
        along = (x * np.float32(ux) + y * np.float32(uy)) / np.float32(abs(ux) + abs(uy))  # -1 to 1 over the picture
        light = 1 - np.float32(fall / 2) * (1 + along)
        cx, cy, radius = (float(rng.uniform(low, high)) for low, high in ((-0.7, 0.7), (-0.7, 0.7), (0.6, 1.1)))
        deep = float(rng.uniform(0.15, 0.3))
        far = ((x - np.float32(cx)) ** 2 + (y - np.float32(cy)) ** 2) / np.float32(radius * radius)
        near = np.maximum(1 - far, np.float32(0))
        return light * (1 - np.float32(deep) * near * near)


#: Two photographs that differ as they always did: in pose, noise and a little light.
NOTHING = Variation()


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a part lies in a photograph, against where its design has it: turned about `centre`, then moved."""

    shift: Point = (0.0, 0.0)
    degrees: float = 0.0
    centre: Point = (0.0, 0.0)
    spin: float = 0.0

    def of(self, part: Part) -> Part:
        if part.name == "slot":
            part = part.turned(self.spin)
        if not self.degrees and self.shift == (0.0, 0.0):
            return part
        return replace(part, points=turn(part.points, self.degrees, centre=self.centre)).moved(*self.shift)


def _put(rng: np.random.Generator, part: Part, reach: float, degrees: float) -> _Place:
    angle, far = float(rng.uniform(0, 2 * math.pi)), reach * math.sqrt(float(rng.random()))
    width, height = part.extent
    if part.name in AT_WILL and max(width, height) < 1.4 * min(width, height):
        degrees = 180
    return _Place(
        shift=(far * math.cos(angle), far * math.sin(angle)),
        degrees=float(rng.uniform(-degrees, degrees)),
        centre=part.centre,
        spin=float(rng.uniform(0, 180)),
    )


def _slotted(part: Part, metal: Colour, slot: Colour) -> list[Part]:
    """What lies in a hole: a screw's head and its slot; or on a screw, a pin, a pill: the slot alone."""
    (cx, cy), across = part.centre, min(part.extent)
    riders = []
    if part.name == "hole":
        across *= 0.84
        riders.append(Part(name="screw head", points=disc(cx, cy, across / 2), colour=metal, rides=True))
    riders.append(Part(name="slot", points=box(cx, cy, 0.94 * across, 0.3 * across), colour=slot, rides=True))
    return riders


def _rolled(rng: np.random.Generator, parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """A screw on its side rolled on: its slot wanders over the head, its threads along the shank."""
    (ax, ay), (bx, by) = (next(part for part in parts if part.name == name).centre for name in ("head", "tip"))
    length = math.sqrt((bx - ax) ** 2 + (by - ay) ** 2)
    ux, uy = (bx - ax) / length, (by - ay) / length
    across, along = float(rng.uniform(-0.2, 0.2)), float(rng.uniform(-0.1, 0.1))
    moves = {"slot": (-uy * across, ux * across), "thread": (ux * along, uy * along)}
    return tuple(part.moved(*moves.get(part.name, (0.0, 0.0))) for part in parts)


def _gaps(rng: np.random.Generator, part: Part) -> list[Part]:
    """Bars of paper that part a word into letters."""
    (cx, cy), (width, height) = part.centre, part.extent
    bars, x = [], cx - width / 2 + float(rng.uniform(0.05, 0.12))
    while x < cx + width / 2 - 0.05:
        bars.append(replace(part, points=box(x, cy + height * float(rng.choice([-0.2, 0, 0.2])), 0.055, height)))
        x += float(rng.uniform(0.11, 0.2))
    return bars


def _strokes(rng: np.random.Generator, part: Part) -> list[Part]:
    """One or two strokes that are taken from a letter's square."""
    (cx, cy), (width, height) = part.centre, part.extent
    bars = []
    for _ in range(int(rng.integers(1, 3))):
        off = float(rng.choice([-0.25, 0, 0.25]))
        if rng.random() < 0.5:
            bars.append(replace(part, points=box(cx + off * width, cy, 0.28 * width, 0.7 * height)))
        else:
            bars.append(replace(part, points=box(cx, cy + off * height, 0.7 * width, 0.28 * height)))
    return bars


def _marking(rng: np.random.Generator, part: Part) -> list[Part]:
    """A line printed on a chip."""
    (cx, cy), (width, height) = part.centre, part.extent
    bars, x = [], cx - 0.36 * width
    while x < cx + 0.36 * width:
        length = float(rng.uniform(0.03, 0.1))
        bars.append(replace(part, points=box(x + length / 2, cy, length, 0.4 * height)))
        x += length + 0.045
    return bars


def _digits(rng: np.random.Generator, part: Part) -> list[Part]:
    """A serial number over the sticker `part`."""
    (cx, cy), (width, height) = part.centre, part.extent
    upright = height > width
    count = round((max(width, height) - _MARGIN) / _PITCH)
    w, h = _DIGIT
    bars = []
    for k in range(count):
        x = cx + (k - (count - 1) / 2) * _PITCH
        for on, (sx, sy, across) in zip(_SEGMENTS[int(rng.integers(0, 10))], _PLACES, strict=True):
            if on == "1":
                size = (w, _STROKE) if across else (_STROKE, h / 2 + _STROKE / 2)
                place = box(x + sx * (w - _STROKE) / 2, cy + sy * (h - _STROKE) / 2, *size)
                bars.append(replace(part, points=turn(place, 90, centre=(cx, cy)) if upright else place))
    return bars


_PRINTS = {"gaps": _gaps, "strokes": _strokes, "marking": _marking, "digits": _digits}


def _sticker(rng: np.random.Generator, design: Design) -> list[Part]:
    """A sticker for a serial number where the product has room for one: as long as fits, across or upright."""
    bodies = [part for part in design.parts if part.name in BODIES]
    if not bodies:
        return []
    view = View(size=(_GRID, _GRID))
    others = [part.points for part in design.parts if part.name not in BODIES]
    free = draw_cover([part.points for part in bodies], view, points_off=others) > 0.99
    total = np.pad(free.astype(int).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    unit = FRAME * _GRID / 2  # pixels a product unit, as `View.project` has it
    for count in (5, 4, 3, 2):
        sides = count * _PITCH + _MARGIN, _DIGIT[1] + _MARGIN
        for width, height in (sides, sides[::-1]) if rng.random() < 0.5 else (sides[::-1], sides):
            w, h = math.ceil(width * unit), math.ceil(height * unit)
            held = total[h:, w:] - total[:-h, w:] - total[h:, :-w] + total[:-h, :-w]
            rows, columns = np.nonzero(held == w * h)
            if len(rows):
                k = int(rng.integers(0, len(rows)))
                cx, cy = ((v[k] + s / 2 - _GRID / 2) / unit for v, s in ((columns, w), (rows, h)))
                paper = pick_colour(rng, *(part.colour for part in bodies[:1]))
                points = box(float(cx), float(cy), width, height)
                ink = Part(name="digits", points=points, colour=pick_colour(rng, paper), rides=True)
                return [Part(name="sticker", points=points, colour=paper), ink]
    return []
