"""Windows of an aligned pair of images, chosen so that no defect is cut out of its own query.

Every defect is the target of one window. A defect that no window can show truthfully is dropped, with the reason; a
window that shows part of a defect without saying so is never made. Boxes and windows are `(x1, y1, x2, y2)` in pixels,
corner to corner.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = [
    "NORMALS",
    "EdgeMap",
    "Seen",
    "Window",
    "WindowRules",
    "clean_window",
    "defect_window",
    "pair_windows",
    "repair",
    "seen_boxes",
]

Box = tuple[int, int, int, int]

TRIES = 64  # random positions before a window is given up

#: Where normal queries come from; `auto` is `clean` where a clean window exists and `repair` elsewhere.
NORMALS = ("auto", "clean", "repair", "none")

# Annotations are a few pixels generous or tight; a normal window keeps this far from them.
CLEAN_MARGIN = 4

#: Pixels by which a template may lie beside its query, and of the ring around a defect that tells where it does.
REACH, RING = 5, 6


@dataclass(frozen=True, kw_only=True)
class WindowRules:
    """What decides about the windows of a pair.

    Attributes:
        crop: side of a window in pixels, None for the whole image.
        min_visible: share of a defect's area that a window must show, its centre included, or leave it out entirely.
        normals: one of `NORMALS`.
        normal_ratio: normal windows for each defective one.
    """

    crop: int | None
    min_visible: float = 0.5
    normals: str = "auto"
    normal_ratio: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A defect as a window shows it.

    Attributes:
        index: of the defect in its image's list.
        box: in pixels of the window.
        clipped: the window's edge cuts the original box.
    """

    index: int
    box: Box
    clipped: bool


@dataclass(frozen=True, kw_only=True)
class Window:
    """Where a pair is cut.

    Attributes:
        place: in both of its images.
        seen: the defects in view; none of a normal query.
        repaired: the query's defects are to be overwritten by the template.
    """

    place: Box
    seen: tuple[Seen, ...] = ()
    repaired: bool = False


def pair_windows(
    rng: random.Random,
    boxes: Sequence[Box],
    *,
    size: tuple[int, int],
    template: Callable[[], np.ndarray],
    rules: WindowRules,
) -> tuple[list[Window], dict[int, str]]:
    """All windows of a pair, and the defects (by their index) that none of them shows, with the reason.

    Args:
        rng: chooses the windows.
        boxes: the query's defects.
        size: (width, height) of both images in pixels.
        template: opens its pixels, (height, width, 3), where they are needed.
        rules: as they say.
    """
    windows, dropped = _defective_windows(rng, boxes, size, rules)
    shown = {one.index for window in windows for one in window.seen}
    windows += _normal_windows(rng, boxes, [window.place for window in windows], size, template, rules)
    return windows, {index: reason for index, reason in dropped.items() if index not in shown}


def _defective_windows(rng, boxes, size, rules) -> tuple[list[Window], dict[int, str]]:
    if rules.crop is None:
        whole = (0, 0, *size)
        return [Window(place=whole, seen=tuple(seen_boxes(boxes, whole, min_visible=rules.min_visible)))], {}
    windows, dropped = [], {}
    for target, box in enumerate(boxes):
        found = defect_window(rng, boxes, target, image=size, crop=rules.crop, min_visible=rules.min_visible)
        if found is not None:
            windows.append(Window(place=found[0], seen=tuple(found[1])))
            continue
        visible = min(box[2] - box[0], rules.crop) * min(box[3] - box[1], rules.crop)
        too_large = visible < rules.min_visible * (box[2] - box[0]) * (box[3] - box[1])
        dropped[target] = "larger than the window" if too_large else "too near to another"
    return windows, dropped


def _normal_windows(rng, boxes, defective: list[Box], size, template, rules) -> Iterator[Window]:
    if rules.normals == "none" or not defective:
        return
    wanted = len(defective) * rules.normal_ratio
    # Up or down at random, so that a ratio holds over many images with one window each.
    count = int(wanted) + (rng.random() < wanted - int(wanted))
    edges = None
    for index in range(count):
        like, place = defective[index % len(defective)], None
        if rules.normals != "repair" and rules.crop is not None:
            edges = edges or EdgeMap(grey=template().mean(axis=2))
            place = clean_window(rng, boxes, image=size, crop=rules.crop, margin=CLEAN_MARGIN, edges=edges, like=like)
        if place is not None:
            yield Window(place=place)
        elif rules.normals != "clean":
            yield Window(place=like, repaired=True)


def seen_boxes(boxes: Sequence[Box], window: Box, *, min_visible: float) -> list[Seen] | None:
    """What of `boxes` a window shows, or None when it shows so little of one that neither answer would be true.

    A box counts when its centre and at least `min_visible` of its area lie inside; it is clipped to the window. A
    window that touches a box without showing that much is ambiguous and must not be used.
    """
    seen = []
    for index, (x1, y1, x2, y2) in enumerate(boxes):
        cx1, cy1, cx2, cy2 = max(x1, window[0]), max(y1, window[1]), min(x2, window[2]), min(y2, window[3])
        if cx1 >= cx2 or cy1 >= cy2:
            continue
        visible = (cx2 - cx1) * (cy2 - cy1) / ((x2 - x1) * (y2 - y1))
        centred = cx1 <= (x1 + x2) / 2 <= cx2 and cy1 <= (y1 + y2) / 2 <= cy2
        if visible < min_visible or not centred:
            return None
        box = (cx1 - window[0], cy1 - window[1], cx2 - window[0], cy2 - window[1])
        seen.append(Seen(index=index, box=box, clipped=(cx1, cy1, cx2, cy2) != (x1, y1, x2, y2)))
    return seen


def defect_window(
    rng: random.Random, boxes: Sequence[Box], target: int, *, image: tuple[int, int], crop: int, min_visible: float
) -> tuple[Box, list[Seen]] | None:
    """A random window of `crop` pixels that shows the whole of box `target` (or is filled by it, if that is larger).

    Returns:
        The window and all that it shows, or None when no position found in `TRIES` leaves every other box either out
        of sight or sufficiently visible.
    """
    for _ in range(TRIES):
        corner = []
        for low, high, length in zip(boxes[target][:2], boxes[target][2:], image, strict=True):
            first, last = sorted((high - crop, low))
            corner.append(rng.randint(max(first, 0), max(min(last, length - crop), max(first, 0))))
        window = (corner[0], corner[1], corner[0] + crop, corner[1] + crop)
        seen = seen_boxes(boxes, window, min_visible=min_visible)
        if seen and any(one.index == target for one in seen):
            return window, seen
    return None


class EdgeMap:
    """How much structure each window of a picture holds, in constant time a window."""

    def __init__(self, *, grey: np.ndarray) -> None:
        dark = (grey < 128).astype(np.int64)
        edges = np.zeros_like(dark)
        edges[:, 1:] += np.abs(np.diff(dark, axis=1))
        edges[1:] += np.abs(np.diff(dark, axis=0))
        self._sums = np.pad(edges.cumsum(0).cumsum(1), ((1, 0), (1, 0)))

    def count(self, window: Box) -> int:
        """Number of dark-to-light steps inside a window."""
        x1, y1, x2, y2 = window
        sums = self._sums
        return int(sums[y2, x2] - sums[y1, x2] - sums[y2, x1] + sums[y1, x1])


def clean_window(
    rng: random.Random,
    boxes: Sequence[Box],
    *,
    image: tuple[int, int],
    crop: int,
    margin: int,
    edges: EdgeMap,
    like: Box,
) -> Box | None:
    """A window that keeps `margin` pixels from every box; among random ones, the nearest to `like` in structure.

    Without that choice normal windows would be the empty ones, and emptiness would betray the answer.
    """
    best, distance = None, None
    wanted = edges.count(like)
    for _ in range(TRIES):
        x, y = rng.randint(0, image[0] - crop), rng.randint(0, image[1] - crop)
        window = (x, y, x + crop, y + crop)
        near = (
            b[0] - margin < window[2]
            and window[0] < b[2] + margin
            and b[1] - margin < window[3]
            and window[1] < b[3] + margin
            for b in boxes
        )
        if any(near):
            continue
        difference = abs(edges.count(window) - wanted)
        if distance is None or difference < distance:
            best, distance = window, difference
    return best


def repair(query: np.ndarray, template: np.ndarray, boxes: Sequence[Box]) -> np.ndarray:
    """The query with the template's pixels in each box: a normal picture with the query's own noise elsewhere.

    The two are aligned to a few pixels only, so each patch is taken at the offset (up to `REACH`) at which template
    and query agree best in a ring around the box. Arrays are (height, width[, channels]) of equal shape.
    """
    height, width = query.shape[:2]
    result = query.copy()
    defective = np.zeros((height, width), bool)
    for x1, y1, x2, y2 in boxes:
        defective[y1:y2, x1:x2] = True
    for x1, y1, x2, y2 in boxes:
        ox1, oy1, ox2, oy2 = max(x1 - RING, 0), max(y1 - RING, 0), min(x2 + RING, width), min(y2 + RING, height)
        compare = ~defective[oy1:oy2, ox1:ox2]
        around = query[oy1:oy2, ox1:ox2].astype(np.int32)
        best = None
        for dy in range(-REACH, REACH + 1):
            for dx in range(-REACH, REACH + 1):
                if oy1 + dy < 0 or ox1 + dx < 0 or oy2 + dy > height or ox2 + dx > width:
                    continue
                patch = template[oy1 + dy : oy2 + dy, ox1 + dx : ox2 + dx].astype(np.int32)
                cost = (int(np.abs(patch - around)[compare].sum()), abs(dx) + abs(dy), dx, dy)
                best = cost if best is None else min(best, cost)
        _, _, dx, dy = best
        result[y1:y2, x1:x2] = template[y1 + dy : y2 + dy, x1 + dx : x2 + dx]
    return result
