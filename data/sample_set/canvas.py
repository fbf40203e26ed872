"""Drawing a product: polygons in product units, an anti-aliased canvas, and light.

Product units: the product's frame spans -1 … 1 on both axes and covers `FRAME` of the image's side. Only Pillow's
integer polygon fill and IEEE additions, products and square roots are used per pixel, and trigonometry only on single
numbers, so the same seed draws the same pixels on any machine with the same Pillow.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw

SUPERSAMPLE = 4
FRAME = 0.84

Point = tuple[float, float]
Colour = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One filled polygon of a product.

    Attributes:
        name: what a person calls it ("pin", "hole").
        points: its corners in product units.
        colour: RGB, 0 to 255 each.
        loose: whether a defect may remove, move, bend or recolour it.
        rides: whether it is printed or cut on the part below it, and goes where that goes (see `variation`).
    """

    name: str
    points: tuple[Point, ...]
    colour: Colour
    loose: bool = False
    rides: bool = False

    def moved(self, dx: float, dy: float) -> "Part":
        return replace(self, points=tuple((x + dx, y + dy) for x, y in self.points))

    def turned(self, degrees: float) -> "Part":
        """The part turned about its own centre."""
        cx, cy = self.centre
        return replace(self, points=turn(self.points, degrees, centre=(cx, cy)))

    @property
    def centre(self) -> Point:
        return (
            sum(x for x, _ in self.points) / len(self.points),
            sum(y for _, y in self.points) / len(self.points),
        )

    @property
    def extent(self) -> tuple[float, float]:
        """Width and height of the part's box in product units."""
        xs, ys = zip(*self.points, strict=True)
        return max(xs) - min(xs), max(ys) - min(ys)


@dataclass(frozen=True, kw_only=True)
class Design:
    """A product of one category: what lies under it and its parts, lowest first."""

    category: str
    background: Colour
    parts: tuple[Part, ...]


@dataclass(frozen=True, kw_only=True)
class View:
    """How one photograph was taken: everything that differs between two photographs of the same product.

    Attributes:
        size: width and height in pixels.
        shift: of the product's centre from the image's centre, in product units.
        degrees: turn of the product.
        scale: of the product, about 1.
        gain: per channel, about 1.
        slope: change of brightness from left to right and from top to bottom, as a fraction.
        noise: standard deviation of the sensor's noise in grey levels.
        grain: `(row, column)` where the noise is cut from the noise sheet.
    """

    size: tuple[int, int]
    shift: Point = (0.0, 0.0)
    degrees: float = 0.0
    scale: float = 1.0
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    slope: Point = (0.0, 0.0)
    noise: float = 0.0
    grain: tuple[int, int] = (0, 0)

    def project(self, points: tuple[Point, ...], *, factor: float = 1.0) -> list[Point]:
        """Product units to pixels, times `factor`."""
        width, height = self.size
        unit = FRAME * min(width, height) / 2 * self.scale * factor
        cos, sin = math.cos(math.radians(self.degrees)), math.sin(math.radians(self.degrees))
        cx = width * factor / 2 + self.shift[0] * unit
        cy = height * factor / 2 + self.shift[1] * unit
        return [(cx + unit * (cos * x - sin * y), cy + unit * (sin * x + cos * y)) for x, y in points]


def turn(points: tuple[Point, ...], degrees: float, *, centre: Point = (0.0, 0.0)) -> tuple[Point, ...]:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    cx, cy = centre
    return tuple((cx + cos * (x - cx) - sin * (y - cy), cy + sin * (x - cx) + cos * (y - cy)) for x, y in points)


def disc(cx: float, cy: float, rx: float, ry: float | None = None, *, corners: int = 20) -> tuple[Point, ...]:
    ry = rx if ry is None else ry
    steps = [2 * math.pi * k / corners for k in range(corners)]
    return tuple((cx + rx * math.cos(t), cy + ry * math.sin(t)) for t in steps)


def box(cx: float, cy: float, width: float, height: float) -> tuple[Point, ...]:
    x, y = width / 2, height / 2
    return ((cx - x, cy - y), (cx + x, cy - y), (cx + x, cy + y), (cx - x, cy + y))


def polygon(cx: float, cy: float, radius: float, corners: int, *, degrees: float = 0.0, inner: float = 1.0):
    """A regular polygon; with `inner` < 1 a star whose inner corners lie at that fraction of `radius`."""
    count = corners if inner == 1.0 else 2 * corners
    points = []
    for k in range(count):
        r = radius * (inner if inner != 1.0 and k % 2 else 1.0)
        t = math.radians(degrees) + 2 * math.pi * k / count
        points.append((cx + r * math.cos(t), cy + r * math.sin(t)))
    return tuple(points)


def stroke(path: list[Point], width: float) -> tuple[Point, ...]:
    """A polygon along `path` that is `width` wide and pointed at both ends."""
    left, right = [], []
    for k, (x, y) in enumerate(path):
        (ax, ay), (bx, by) = path[max(0, k - 1)], path[min(len(path) - 1, k + 1)]
        length = math.sqrt((bx - ax) ** 2 + (by - ay) ** 2) or 1.0
        half = width / 2 * (0.5 if k in (0, len(path) - 1) else 1.0)
        nx, ny = -(by - ay) / length * half, (bx - ax) / length * half
        left.append((x + nx, y + ny))
        right.append((x - nx, y - ny))
    return tuple(left + right[::-1])


def draw_design(design: Design, view: View) -> np.ndarray:
    """The product without light or noise, `(height, width, 3)` float32, 0 to 255."""
    width, height = view.size
    image = Image.new("RGB", (width * SUPERSAMPLE, height * SUPERSAMPLE), design.background)
    pen = ImageDraw.Draw(image)
    for part in design.parts:
        pen.polygon(view.project(part.points, factor=SUPERSAMPLE), fill=part.colour)
    return np.asarray(image.reduce(SUPERSAMPLE), dtype=np.float32)


def draw_cover(
    points_on: list[tuple[Point, ...]], view: View, *, points_off: list[tuple[Point, ...]] = ()
) -> np.ndarray:
    """How much of each pixel `points_on` cover where no later `points_off` hide them, `(height, width)`, 0 to 1."""
    width, height = view.size
    image = Image.new("L", (width * SUPERSAMPLE, height * SUPERSAMPLE), 0)
    pen = ImageDraw.Draw(image)
    for points in points_on:
        pen.polygon(view.project(points, factor=SUPERSAMPLE), fill=255)
    for points in points_off:
        pen.polygon(view.project(points, factor=SUPERSAMPLE), fill=0)
    return np.asarray(image.reduce(SUPERSAMPLE), dtype=np.float32) / np.float32(255)


_NOISE_SIDE = 512
_noise_sheet: np.ndarray | None = None


def noise_sheet() -> np.ndarray:
    """A fixed sheet of unit noise, `(512, 512)`: sums of twelve bytes, which no library rounds in its own way."""
    global _noise_sheet
    if _noise_sheet is None:
        source = np.random.Generator(np.random.PCG64(20260801))
        total = source.integers(0, 256, size=(12, _NOISE_SIDE, _NOISE_SIDE), dtype=np.int64).sum(axis=0)
        _noise_sheet = ((total - 1530) / 256).astype(np.float32)
    return _noise_sheet


def expose(pixels: np.ndarray, view: View, light_on: np.ndarray | None = None) -> Image.Image:
    """Applies the view's light and noise to `(height, width, 3)` pixels and rounds them to an RGB image.

    `light_on` is more light, or less, `(height, width)`.
    """
    height, width = pixels.shape[:2]
    across = np.linspace(-0.5, 0.5, width, dtype=np.float32) * np.float32(view.slope[0])
    down = np.linspace(-0.5, 0.5, height, dtype=np.float32) * np.float32(view.slope[1])
    light = (1 + across[None, :] + down[:, None])[..., None] * np.asarray(view.gain, dtype=np.float32)
    lit = pixels * light if light_on is None else pixels * light * light_on[..., None]
    if view.noise:
        row, column = view.grain
        sheet = noise_sheet()
        rows = (row + np.arange(height)) % _NOISE_SIDE
        columns = (column + np.arange(width)) % _NOISE_SIDE
        lit = lit + np.float32(view.noise) * sheet[rows[:, None], columns[None, :]][..., None]
    return Image.fromarray(np.clip(lit + 0.5, 0, 255).astype(np.uint8))


def draw_view(rng: np.random.Generator, size: tuple[int, int], *, variation: float = 1.0) -> View:
    """A random view; `variation` scales how far pose, light and noise may go (1: 3 degrees, 0.1 of brightness)."""

    def around(centre: float, reach: float) -> float:
        return centre + variation * rng.uniform(-reach, reach)

    base = around(1.0, 0.1)
    return View(
        size=size,
        shift=(around(0.0, 0.04), around(0.0, 0.04)),
        degrees=around(0.0, 3.0),
        scale=around(1.0, 0.02),
        gain=tuple(base * around(1.0, 0.02) for _ in range(3)),
        slope=(around(0.0, 0.12), around(0.0, 0.12)),
        noise=around(2.5, 1.5),
        grain=(int(rng.integers(0, _NOISE_SIDE)), int(rng.integers(0, _NOISE_SIDE))),
    )
