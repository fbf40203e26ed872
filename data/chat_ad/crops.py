"""The same window out of a query and its template, boxes and mask cut alike.

A window shows a defect wholly or not at all. By default it shows all of them, and grows until it does; with
`keep="one"` it may leave whole defects outside, never all, and what it leaves out is listed. An anomalous image
without boxes is not cropped: nobody knows where its defect is. Nor is a pair of images of unlike shape: "the same
place" means nothing there.

Nothing is resized: a template of another size is cut at the same place and keeps its own pixels, as `adcopilot
inspect` shows it; the model's processor resizes each image by itself.

Windows around defects are larger than windows around nothing, and lie differently. A model could learn to tell the
answer from that; so a normal query's window is chosen as if it had the defects of another image of its category
(a decoy).
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Literal

import pyarrow as pa
from PIL import Image
from pydantic import Field, model_validator

from ..errors import UserError
from ..images import is_like_shape
from .draws import rank
from .pairing import PAIR_SCHEMA
from .recipe.model import Spec, Text
from .sources.references import open_reference
from .windows import TRIES, Seen, seen_boxes

__all__ = [
    "KEEP",
    "CropOptions",
    "choose_crops",
    "choose_window",
    "collect_decoys",
    "cut_boxes",
    "cut_pair",
    "map_window",
    "parse_shares",
    "shown_window",
]

Box = tuple[int, int, int, int]
#: Boxes of an image as shares of its sides.
Decoy = tuple[tuple[float, float, float, float], ...]

#: Which defects a window shows: all of them, or at least one.
KEEP = ("all", "one")

#: Decoys kept of a category.
DECOYS = 64

# Two merged patches of Qwen2.5-VL: less is not worth looking at.
_LEAST = 56


def parse_shares(text: str, *, name: str = "crop") -> tuple[float, float]:
    """`0.5:1` → (0.5, 1.0); `name` is the key's, for messages.

    Raises:
        UserError: not two shares in order.
    """
    first, mark, second = text.partition(":")
    try:
        least, most = float(first), float(second)
    except ValueError:
        least = most = -1.0
    if not mark or not 0 < least <= most <= 1:
        raise UserError(f"{name} is {text!r}, expected LEAST:MOST with 0 < LEAST <= MOST <= 1, as 0.5:1")
    return least, most


class CropOptions(Spec):
    """How windows are chosen: a recipe's `crop`.

    Attributes:
        shares: `LEAST:MOST` of the image's sides, between which the window's are drawn.
        keep: one of `KEEP`.
        margin: pixels between a defect and the window's edge, where the image has them.
    """

    shares: Text
    keep: Literal[KEEP] = "all"
    margin: Annotated[int, Field(ge=0)] = 8

    @model_validator(mode="after")
    def _shares(self) -> CropOptions:
        parse_shares(self.shares, name=".shares")
        return self


def choose_window(
    rng: random.Random, *, size: tuple[int, int], boxes: Sequence[Box], options: CropOptions
) -> Box | None:
    """A window that shows `boxes` as the options say, or None for the whole image.

    Args:
        rng: chooses.
        size: (width, height) of the image in pixels.
        boxes: the defects, (x1, y1, x2, y2) within it.
        options: as they say.
    """
    share = rng.uniform(*parse_shares(options.shares))
    wanted = [min(length, max(round(length * share), _LEAST)) for length in size]
    if options.keep == "one" and len(boxes) > 1:
        target = boxes[rng.randrange(len(boxes))]
        for _ in range(TRIES):
            window = _around(rng, size, wanted, target, options.margin)
            if seen_boxes(boxes, window, min_visible=1.0):
                return window if window != (0, 0, *size) else None
    union = _union(boxes)
    window = _around(rng, size, wanted, union, options.margin)
    return window if window != (0, 0, *size) else None


def choose_crops(
    pairs: pa.Table, *, options: CropOptions, decoys: Mapping[tuple[str, str], Sequence[Decoy]], seed: int = 0
) -> pa.Table:
    """The pairs with their column `crop` filled.

    Args:
        pairs: of `pairing.PAIR_SCHEMA`.
        options: how windows are chosen.
        decoys: `(source, category)` → what `collect_decoys` found.
        seed: of the choice; each row's depends on it and its own query and template alone.
    """
    names = ["image", "template", "label", "boxes", "width", "height", "source", "category"]
    names += ["template_width", "template_height"]
    windows = []
    for row in pairs.select(names).to_pylist():
        rng = random.Random(rank(seed, row["image"], row["template"]))
        size = row["width"], row["height"]
        boxes = [tuple(box) for box in row["boxes"]]
        found = decoys.get((row["source"], row["category"]))
        if row["label"] == "normal" and found:
            boxes = [_scaled(box, size) for box in found[rng.randrange(len(found))]]
        alike = is_like_shape(size, (row["template_width"], row["template_height"]))
        if alike and (row["label"] == "normal" or boxes):
            windows.append(choose_window(rng, size=size, boxes=boxes, options=options))
        else:
            windows.append(None)
    place = PAIR_SCHEMA.get_field_index("crop")
    field = PAIR_SCHEMA.field(place)
    return pairs.set_column(place, field, pa.array([window and list(window) for window in windows], field.type))


def collect_decoys(tables: Iterable[pa.Table], *, seed: int = 0) -> dict[tuple[str, str], list[Decoy]]:
    """For each (source, category) the boxes of up to `DECOYS` anomalous images, as shares of the image's sides.

    Which ones depends on the seed and their names alone.

    Args:
        tables: shards with the columns `image`, `label`, `boxes`, `width`, `height`, `source`, `category`.
        seed: of the choice.
    """
    found: dict[tuple[str, str], dict[bytes, Decoy]] = {}
    names = ["image", "label", "boxes", "width", "height", "source", "category"]
    for table in tables:
        for row in table.select(names).to_pylist():
            if row["label"] == "normal" or not row["boxes"]:
                continue
            kept = found.setdefault((row["source"], row["category"]), {})
            width, height = row["width"], row["height"]
            shares = tuple((b[0] / width, b[1] / height, b[2] / width, b[3] / height) for b in row["boxes"])
            kept[rank(seed, row["image"])] = shares
            if len(kept) > DECOYS:
                del kept[max(kept)]
    return {key: [kept[place] for place in sorted(kept)] for key, kept in sorted(found.items())}


def cut_pair(
    root: str | os.PathLike, row: Mapping, *, opened: Callable[..., Image.Image] = open_reference
) -> tuple[Image.Image, Image.Image]:
    """Open a pair and cut it: (template, query), upright RGB images, each in its own pixels.

    Args:
        root: what its references are relative to.
        row: of `pairing.PAIR_SCHEMA`; a `crop` of None shows everything.
        opened: (root, reference) → image: `references.open_reference`, or one that keeps some (`opened.OpenedImages`).

    Raises:
        UserError: an image cannot be read, the query's size is not the row's, or the window cuts a defect, leaves all
            of them out, or leaves the image.
    """
    size, window = (row["width"], row["height"]), shown_window(row)
    _seen(row)
    query = opened(root, row["image"])
    if query.size != size:
        raise UserError(
            f"{row['image']}: has {query.width}×{query.height} pixels, its row says {size[0]}×{size[1]}; index the "
            "dataset again"
        )
    template = opened(root, row["template"])
    return template.crop(map_window(window, size, template.size)), query.crop(window)


def shown_window(row: Mapping) -> Box:
    """The window that a row of `pairing.PAIR_SCHEMA` shows, in pixels of the original query: all where none is cut."""
    return tuple(row["crop"]) if row["crop"] is not None else (0, 0, row["width"], row["height"])


def cut_boxes(row: Mapping) -> tuple[list[list[int]], list[str]]:
    """The boxes and their labels as the row's window shows them, without opening any image.

    Raises:
        UserError: as `cut_pair`, of the window.
    """
    seen = _seen(row)
    return [list(one.box) for one in seen], [row["box_labels"][one.index] for one in seen]


def map_window(window: Box, from_size: tuple[int, int], to_size: tuple[int, int]) -> Box:
    """The window at the same place of an image of another size, at least a pixel wide and high."""
    if from_size == to_size:
        return window
    corners = []
    for low, high, source, target in zip(window[:2], window[2:], from_size, to_size, strict=True):
        first = min(round(low * target / source), target - 1)
        corners.append((first, min(max(round(high * target / source), first + 1), target)))
    return corners[0][0], corners[1][0], corners[0][1], corners[1][1]


def _seen(row: Mapping) -> list[Seen]:
    size, window, boxes = (row["width"], row["height"]), shown_window(row), [tuple(box) for box in row["boxes"]]
    name = f"{row['image']}: crop {list(window)}"
    if not (0 <= window[0] < window[2] <= size[0] and 0 <= window[1] < window[3] <= size[1]):
        raise UserError(f"{name} is not inside its {size[0]}×{size[1]} pixels; start the build again")
    seen = seen_boxes(boxes, window, min_visible=1.0)
    if seen is None:
        raise UserError(f"{name} cuts one of its defects {[list(box) for box in boxes]}; start the build again")
    if boxes and not seen:
        raise UserError(f"{name} leaves out all of its defects {[list(box) for box in boxes]}; start the build again")
    return seen


def _around(rng: random.Random, size, wanted: Sequence[int], box: Box | None, margin: int) -> Box:
    """A random window of at least `wanted` pixels that holds `box` with a margin, within the image."""
    corners = []
    for axis, (length, side) in enumerate(zip(size, wanted, strict=True)):
        low, high = (0, 0) if box is None else (max(box[axis] - margin, 0), min(box[axis + 2] + margin, length))
        if box is None:
            first = rng.randint(0, length - side)
        else:
            side = max(side, high - low)
            first = rng.randint(max(high - side, 0), min(low, length - side))
        corners.append((first, first + side))
    return corners[0][0], corners[1][0], corners[0][1], corners[1][1]


def _union(boxes: Sequence[Box]) -> Box | None:
    if not boxes:
        return None
    xs1, ys1, xs2, ys2 = zip(*boxes, strict=True)
    return min(xs1), min(ys1), max(xs2), max(ys2)


def _scaled(box: tuple[float, float, float, float], size: tuple[int, int]) -> Box:
    """A decoy's box in pixels, at least one wide and high."""
    x1, y1 = (min(int(share * length), length - 1) for share, length in zip(box[:2], size, strict=True))
    x2, y2 = (min(round(share * length), length) for share, length in zip(box[2:], size, strict=True))
    return x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)
