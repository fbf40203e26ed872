"""Single pictures for the stand-in pretraining of the tiny base: tiles, loose parts, marks, rows of equal items.

None of them shows a product category, and none is a pair: a base trained on them can see, name, count and point, knows
what a scratch looks like and which item of a row is odd, and has never compared two images.
"""

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from adcopilot.prompts import verdict_answer
from adcopilot.sample import wording
from adcopilot.sample.canvas import Design, Part, View, box, disc, draw_cover, draw_design, draw_view, expose
from adcopilot.sample.categories import pick_colour, random_part, scatter
from adcopilot.sample.conversations import as_messages, pick, pick_task
from adcopilot.sample.defects import COVERED, component_boxes, draw_defect

#: Image sizes (width, height) and how often each is drawn.
SIZES = {(56, 56): 0.7, (84, 56): 0.08, (56, 84): 0.07, (84, 84): 0.15}


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """A stretch of the stand-in pretraining.

    Attributes:
        name: of the lesson.
        share: of all scenes.
        tasks: how often each task is drawn.
        boxes: whether found defects are answered with their boxes, or with "Yes." only.
    """

    name: str
    share: float
    tasks: dict[str, float]
    boxes: bool = False


#: The lessons in order. A model this small learns to write without looking when it starts with sentences and boxes, so
#: it starts with answers of which every word has to be seen.
LESSONS = (
    Lesson(name="tiles", share=0.1, tasks={"tiles": 0.9, "table": 0.1}),
    Lesson(
        name="reading",
        share=0.22,
        tasks={"tiles": 0.3, "items": 0.4, "name": 0.1, "aim": 0.1, "count": 0.05, "table": 0.05},
    ),
    Lesson(
        name="odd",
        share=0.36,
        tasks={
            "odd": 0.45,
            "mark": 0.2,
            "items": 0.12,
            "tiles": 0.05,
            "name": 0.06,
            "aim": 0.06,
            "count": 0.03,
            "table": 0.03,
        },
    ),
    Lesson(
        name="boxes",
        share=0.32,
        tasks={
            "odd": 0.4,
            "mark": 0.2,
            "find": 0.1,
            "list": 0.08,
            "items": 0.1,
            "tiles": 0.04,
            "name": 0.04,
            "aim": 0.04,
        },
        boxes=True,
    ),
)

_COLOURS = {
    "red": (205, 45, 45),
    "green": (50, 170, 60),
    "blue": (50, 80, 205),
    "yellow": (220, 210, 60),
    "purple": (150, 60, 180),
    "orange": (225, 135, 45),
    "cyan": (70, 200, 210),
    "pink": (230, 140, 180),
    "white": (235, 235, 235),
    "grey": (130, 130, 130),
    "black": (30, 30, 30),
    "brown": (115, 75, 45),
}


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One picture and one conversation about it."""

    image: Image.Image
    messages: list[dict[str, str]]
    task: str


def lesson_at(place: float) -> Lesson:
    """The lesson at `place` (0 to 1) of the whole course."""
    for lesson in LESSONS:
        place -= lesson.share
        if place < 0:
            return lesson
    return LESSONS[-1]


def draw_scene(rng: np.random.Generator, *, place: float = 1.0) -> Scene:
    """Draws a picture and a conversation of the lesson at `place` (0 to 1) of the course."""
    lesson = lesson_at(place)
    sizes = list(SIZES)
    size = sizes[int(rng.choice(len(sizes), p=np.array(list(SIZES.values()))))]
    task = pick_task(rng, lesson.tasks)
    while True:
        if task in ("odd", "mark"):
            scene = (_odd if task == "odd" else _mark)(rng, size, not lesson.boxes)
        elif task in ("tiles", "items"):
            scene = _grid(rng, size, task)
        else:
            scene = _parts(rng, size, task)
        if scene is not None:
            return scene


def colour_name(colour: tuple[int, int, int]) -> str:
    return min(_COLOURS, key=lambda name: sum((a - b) ** 2 for a, b in zip(_COLOURS[name], colour, strict=True)))


def _named_colour(rng: np.random.Generator) -> tuple[int, int, int]:
    """A colour close to one that has a name."""
    base = list(_COLOURS.values())[int(rng.integers(0, len(_COLOURS)))]
    return tuple(int(np.clip(v + rng.integers(-18, 19), 0, 255)) for v in base)


def _table(rng: np.random.Generator, *, named: bool = False, low: int = 1, high: int = 7) -> Design:
    """Parts at random on a plain table; in `named` scenes every colour is one that a word fits."""
    background = _named_colour(rng) if named else pick_colour(rng)
    parts = []
    count = int(rng.integers(low, high))
    largest = 0.5 if count == 1 else 0.4 if count == 2 else 0.28
    for x, y in scatter(rng, count, gap=2 * largest - 0.06, reach=0.75):
        if named:
            colour = background
            while max(abs(a - b) for a, b in zip(colour, background, strict=True)) < 55:
                colour = _named_colour(rng)
        else:
            colour = pick_colour(rng, background)
        parts.append(random_part(rng, None, x, y, float(rng.uniform(0.16, largest)), colour))
    return Design(category="table", background=background, parts=tuple(parts))


def _parts(rng: np.random.Generator, size: tuple[int, int], task: str) -> Scene | None:
    design = _table(rng, named=True, high=3 if task == "list" else 4 if task in ("name", "aim") else 6)
    view = draw_view(rng, size)
    seen = []
    for k, part in enumerate(design.parts):
        above = [p.points for p in design.parts[k + 1 :]]
        mask = draw_cover([part.points], view, points_off=above) >= COVERED
        if mask.sum() < 6:
            return None
        seen.append((_outer_box(mask), f"{colour_name(part.colour)} {part.name}", mask))
    if task == "table":
        question, answer = pick(rng, wording.ASK_TABLE), f"{colour_name(design.background)}."
    elif task == "list":
        answer = wording.boxes_list([(b, name) for b, name, _ in sorted(seen, key=lambda s: (s[0][1], s[0][0]))])
        question = pick(rng, wording.ASK_LIST)
    elif task in ("find", "aim"):
        chosen, name, _ = seen[int(rng.integers(0, len(seen)))]
        if sum(other.split()[1] == name.split()[1] for _, other, _ in seen) > 1:
            return None
        question = pick(rng, wording.ASK_FIND if task == "find" else wording.ASK_AIM).format(name=name.split()[1])
        x1, y1, x2, y2 = chosen
        answer = wording.boxes_text([chosen], name) if task == "find" else f"[{(x1 + x2) // 2}, {(y1 + y2) // 2}]"
    elif task == "name":
        _, name, mask = seen[int(rng.integers(0, len(seen)))]
        rows, columns = np.nonzero(mask)
        k = int(rng.integers(0, len(rows)))
        question = pick(rng, wording.ASK_NAME).format(x=int(columns[k]), y=int(rows[k]))
        answer = f"{name}."
    else:
        question, answer = pick(rng, wording.ASK_COUNT), f"{len(seen)}."
    return _scene(design, view, task, question, answer)


def _grid(rng: np.random.Generator, size: tuple[int, int], task: str) -> Scene:
    """A mosaic of coloured tiles, or rows of different items, to be read row by row."""
    wide, high = size
    most = 4 if task == "tiles" else 3
    columns, rows = int(rng.integers(2, most + 1)), int(rng.integers(2, most + 1))
    reach_x, reach_y = max(1.0, wide / high), max(1.0, high / wide)
    pitch_x, pitch_y = 2 * reach_x / columns, 2 * reach_y / rows
    background = _named_colour(rng)
    parts, lines = [], []
    for row in range(rows):
        words = []
        for column in range(columns):
            cx, cy = (column + 0.5) * pitch_x - reach_x, (row + 0.5) * pitch_y - reach_y
            colour = _named_colour(rng)
            if task == "tiles":
                parts.append(Part(name="tile", points=box(cx, cy, pitch_x, pitch_y), colour=colour))
                words.append(colour_name(colour))
                continue
            while max(abs(a - b) for a, b in zip(colour, background, strict=True)) < 55:
                colour = _named_colour(rng)
            part = random_part(rng, None, cx, cy, 0.45 * min(pitch_x, pitch_y) * float(rng.uniform(0.7, 1.0)), colour)
            parts.append(part)
            words.append(f"{colour_name(colour)} {part.name}")
        lines.append((" " if task == "tiles" else ", ").join(words))
    design = Design(category="grid", background=background, parts=tuple(parts))
    return _scene(design, draw_view(rng, size), task, pick(rng, wording.ASK_READ), "\n".join(lines))


def _mark(rng: np.random.Generator, size: tuple[int, int], short: bool) -> Scene | None:
    """Parts on a table, with a scratch or a crack or without."""
    design, view = _table(rng), draw_view(rng, size)
    question = pick(rng, wording.ASK_MARK_SHORT if short else wording.ASK_MARK)
    if rng.random() < 0.5:
        return _scene(design, view, "mark", question, f"{wording.NO}.")
    damaged = draw_defect(rng, design, view, kinds=("scratch", "crack"))
    if damaged is None:
        return None
    pixels, defect = damaged
    answer = _yes(component_boxes(defect.mask), defect.kind, short)
    return Scene(image=expose(pixels, view), messages=as_messages([(question, answer)], images=1), task="mark")


def _odd(rng: np.random.Generator, size: tuple[int, int], short: bool) -> Scene | None:
    """Rows of equal items, one of which may be odd."""
    wide, high = size
    columns = int(rng.integers(2, 4 if wide == 56 else 5))
    rows = int(rng.integers(2, 4 if high == 56 else 5))
    reach_x, reach_y = 0.95 * max(1.0, wide / high), 0.95 * max(1.0, high / wide)
    background = pick_colour(rng)
    parts: list[Part] = []
    surface = background
    if rng.random() < 0.4:
        surface = pick_colour(rng, background)
        parts.append(Part(name="tray", points=box(0, 0, 2.1 * reach_x, 2.1 * reach_y), colour=surface))
    radius = 0.42 * min(2 * reach_x / columns, 2 * reach_y / rows)
    item = _item(rng, radius * float(rng.uniform(0.75, 1.0)), surface)
    odd = int(rng.integers(0, columns * rows)) if rng.random() < 0.5 else -1
    shown: list[tuple] = []
    kind = None
    for k in range(columns * rows):
        cx = (k % columns + 0.5) / columns * 2 * reach_x - reach_x
        cy = (k // columns + 0.5) / rows * 2 * reach_y - reach_y
        here = [part.moved(cx, cy) for part in item]
        if k == odd:
            kind, here, shown = _make_odd(rng, here, radius, surface)
            if kind is None:
                return None
        parts.extend(here)
    design = Design(category="rows", background=background, parts=tuple(parts))
    view = draw_view(rng, size)
    question = pick(rng, wording.ASK_ODD_SHORT if short else wording.ASK_ODD)
    if odd < 0:
        return _scene(design, view, "odd", question, f"{wording.NO}.")
    mask = draw_cover(shown, view) >= COVERED
    if mask.sum() < 8:
        return None
    answer = _yes([_outer_box(mask)], kind, short)
    return _scene(design, view, "odd", question, answer)


def _item(rng: np.random.Generator, radius: float, surface) -> list[Part]:
    """An item at the origin: a part, often with another on it."""
    body = random_part(rng, None, 0, 0, radius, pick_colour(rng, surface))
    parts = [body]
    if rng.random() < 0.5:
        x, y = float(rng.uniform(-0.3, 0.3)) * radius, float(rng.uniform(-0.3, 0.3)) * radius
        parts.append(Part(name="insert", points=disc(x, y, 0.4 * radius), colour=pick_colour(rng, body.colour)))
    return parts


def _make_odd(rng: np.random.Generator, here: list[Part], radius: float, surface):
    """Makes one item odd: its defect's kind, its parts, and what the defect covers; kind None when nothing shows."""
    body = here[0]
    kind = ("missing part", "extra part", "misplaced part", "bent part", "wrong colour", "stain")[
        int(rng.integers(0, 6))
    ]
    if kind == "missing part":
        return kind, here[1:] if len(here) > 1 and rng.random() < 0.3 else [], [body.points]
    if kind == "extra part":
        angle_x, angle_y = float(rng.uniform(-0.5, 0.5)) * radius, float(rng.uniform(-0.5, 0.5)) * radius
        cx, cy = body.centre
        extra = random_part(
            rng, "part", cx + angle_x, cy + angle_y, 0.5 * radius, pick_colour(rng, body.colour, surface)
        )
        return kind, [*here, extra], [extra.points]
    if kind == "misplaced part":
        dx, dy = (float(rng.choice([-1, 1]) * rng.uniform(0.35, 0.6)) * radius for _ in range(2))
        moved = [part.moved(dx, dy) for part in here]
        return kind, moved, [body.points, moved[0].points]
    if kind == "bent part":
        width, height = body.extent
        if max(width, height) < 1.4 * min(width, height):
            return None, here, []
        turned = [body.turned(float(rng.choice([-1, 1]) * rng.uniform(45, 90))), *here[1:]]
        return kind, turned, [body.points, turned[0].points]
    colour = pick_colour(rng, *(part.colour for part in here), surface)
    if kind == "wrong colour":
        return kind, [replace(body, colour=colour), *here[1:]], [body.points]
    cx, cy = body.centre
    spot = Part(
        name="stain", points=disc(cx + 0.3 * radius * float(rng.uniform(-1, 1)), cy, 0.45 * radius), colour=colour
    )
    return kind, [*here, spot], [spot.points]


def _scene(design: Design, view: View, task: str, question: str, answer: str) -> Scene:
    image = expose(draw_design(design, view), view)
    return Scene(image=image, messages=as_messages([(question, answer)], images=1), task=task)


def _yes(boxes: list[list[int]], kind: str, short: bool) -> str:
    return verdict_answer(True, "" if short else wording.boxes_text(boxes, kind))


def _outer_box(mask: np.ndarray) -> list[int]:
    rows, columns = np.nonzero(mask)
    return [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]
