"""From one annotated pair of images to the template and query pairs that training sees: crops or whole images.

Every defect is the target of one cut. A defect that no cut can show truthfully is dropped and listed with the reason;
a cut that shows part of a defect without saying so is never made.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .deep_pcb.source import SourcePair
from .windows import EdgeMap, clean_window, defect_window, repair, scale_seen, seen_boxes

__all__ = ["NORMALS", "Cut", "CutRules", "Dropped", "cut_pair", "resize"]

Box = tuple[int, int, int, int]

#: Where normal queries come from; `auto` is `clean` where a clean window exists and `repair` elsewhere.
NORMALS = ("auto", "clean", "repair", "none")

# Annotations are a few pixels generous or tight; a normal window keeps this far from them.
CLEAN_MARGIN = 4


@dataclass(frozen=True, kw_only=True)
class CutRules:
    """What decides about the cuts.

    Attributes:
        crop: side of the window in original pixels, None for the whole image.
        min_visible: share of a defect's area that a window must show, its centre included, or leave it out entirely.
        normals: one of `NORMALS`.
        normal_ratio: normal cuts for each defective one.
    """

    crop: int | None
    min_visible: float
    normals: str
    normal_ratio: float


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A template and query pair.

    Attributes:
        window: where in the original images it was cut.
        template, query: arrays (height, width, 3), uint8, of the window's size.
        indices: the defects in view, by their index in the source's list; empty for a normal pair.
        boxes: theirs, in pixels of the window.
        clipped: of each, whether the window's edge cuts it.
        origin: `defective`, `clean` (a window without defects) or `repaired` (defects overwritten by the template).
    """

    window: Box
    template: np.ndarray
    query: np.ndarray
    indices: tuple[int, ...] = ()
    boxes: tuple[Box, ...] = ()
    clipped: tuple[bool, ...] = ()
    origin: str = "defective"


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """A defect (its index in the source's list) that no cut was centred on, and why."""

    index: int
    reason: str


def cut_pair(
    rng: random.Random, pair: SourcePair, template: np.ndarray, query: np.ndarray, *, rules: CutRules
) -> tuple[list[Cut], list[Dropped]]:
    """All cuts of a pair, and the defects that none of them shows.

    Args:
        rng: chooses the windows.
        pair: its boxes.
        template, query: its pixels, (height, width, 3), uint8.
        rules: as they say.
    """
    boxes = [defect.box for defect in pair.defects]
    windows, dropped = _defective_windows(rng, boxes, pair.size, rules)
    cuts = []
    for window, seen in windows:
        cuts.append(
            Cut(
                window=window,
                template=_cut(template, window),
                query=_cut(query, window),
                indices=tuple(one.index for one in seen),
                boxes=tuple(one.box for one in seen),
                clipped=tuple(one.clipped for one in seen),
            )
        )
    shown = {index for cut in cuts for index in cut.indices}
    cuts += _normal_cuts(rng, boxes, [window for window, _ in windows], template, query, pair.size, rules)
    return cuts, [entry for entry in dropped if entry.index not in shown]


def resize(array: np.ndarray, boxes: Sequence[Box], *, side: int | None) -> tuple[np.ndarray, list[list[int]]]:
    """An image and its boxes with the longer side `side` pixels long, or as they are for None."""
    height, width = array.shape[:2]
    if side is None or max(height, width) == side:
        return array, [list(box) for box in boxes]
    target = tuple(max(1, round(length * side / max(height, width))) for length in (width, height))
    resized = np.asarray(Image.fromarray(array).resize(target, Image.Resampling.LANCZOS))
    return resized, [scale_seen(box, (width, height), target) for box in boxes]


def _defective_windows(rng, boxes, size, rules):
    """[(window, what it shows)], and the defects that could not be the target of one."""
    if rules.crop is None:
        whole = (0, 0, *size)
        return [(whole, seen_boxes(boxes, whole, min_visible=rules.min_visible))], []
    windows, dropped = [], []
    for target, box in enumerate(boxes):
        found = defect_window(rng, boxes, target, image=size, crop=rules.crop, min_visible=rules.min_visible)
        if found is not None:
            windows.append(found)
            continue
        visible = min(box[2] - box[0], rules.crop) * min(box[3] - box[1], rules.crop)
        too_large = visible < rules.min_visible * (box[2] - box[0]) * (box[3] - box[1])
        dropped.append(Dropped(index=target, reason="larger than the crop" if too_large else "too near to another"))
    return windows, dropped


def _normal_cuts(rng, boxes, windows, template, query, size, rules) -> Iterator[Cut]:
    if rules.normals == "none" or not windows:
        return
    edges = EdgeMap(grey=template.mean(axis=2))
    repaired = None
    for index in range(_count(rng, len(windows) * rules.normal_ratio)):
        like = windows[index % len(windows)]
        window = None
        if rules.normals != "repair" and rules.crop is not None:
            window = clean_window(rng, boxes, image=size, crop=rules.crop, margin=CLEAN_MARGIN, edges=edges, like=like)
        if window is not None:
            yield Cut(window=window, template=_cut(template, window), query=_cut(query, window), origin="clean")
        elif rules.normals != "clean":
            repaired = repair(query, template, boxes) if repaired is None else repaired
            yield Cut(window=like, template=_cut(template, like), query=_cut(repaired, like), origin="repaired")


def _count(rng: random.Random, wanted: float) -> int:
    """`wanted` rounded up or down at random, so that a ratio holds over many images with one cut each."""
    whole = int(wanted)
    return whole + (rng.random() < wanted - whole)


def _cut(array: np.ndarray, window: Box) -> np.ndarray:
    x1, y1, x2, y2 = window
    return array[y1:y2, x1:x2]
