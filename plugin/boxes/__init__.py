"""Boxes, and the two spaces they live in.

Annotations are pixels of the original image, upright (EXIF orientation applied, see `adcopilot.images`). What the
model reads and writes are pixels of the image as it sees it: after LlamaFactory's `image_max_pixels` resize and then
Qwen2.5-VL's own resize to multiples of 28. Both are plain stretches of the whole image, so one pair of sizes says
everything about the mapping. `model_image_size` computes that size; `map_text_boxes` rewrites the boxes of a text.
Which notations boxes are written in, `notations.py` knows.

A box refers to the last image before it in its conversation. In a pair that is the query, never the template.

Nothing here needs torch, and nothing from a text is ever evaluated.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from ..errors import UserError
from .notations import Expression, Number, bare_lists, scan_boxes

__all__ = [
    "boxes_in_image",
    "boxes_that_count",
    "image_tokens",
    "map_text_boxes",
    "model_image_size",
    "parse_bare_boxes",
    "parse_boxes",
    "scale_box",
    "text_boxes",
]

# Their module needs numpy; reading and mapping boxes, as command lines and data checks do, needs nothing.
_AREAS = ("MaskTruth", "bbox_mask_iou")


def __getattr__(name: str):
    if name in _AREAS:
        from . import areas as box_areas

        return getattr(box_areas, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


Size = tuple[int, int]  # width, height


def model_image_size(
    width: int,
    height: int,
    *,
    image_max_pixels: int | None = None,
    image_min_pixels: int | None = None,
    patch_size: int = 14,
    merge_size: int = 2,
    processor_min_pixels: int = 56 * 56,
    processor_max_pixels: int = 28 * 28 * 1280,
) -> Size:
    """Size in pixels of the image as the model sees it.

    Args:
        width, height: of the upright image, in pixels.
        image_max_pixels, image_min_pixels: LlamaFactory's settings (its defaults are 589824 and 1024). Leave both out
            for an image that goes straight to the processor, as under plain transformers or vLLM.
        patch_size, merge_size: of the image processor; sides become multiples of their product.
        processor_min_pixels, processor_max_pixels: the image processor's `size["shortest_edge"]` and
            `size["longest_edge"]`, which are areas; the defaults are transformers' own.

    Returns:
        (width, height), multiples of `patch_size * merge_size`.

    Raises:
        UserError: no size exists, because LlamaFactory's shrinking leaves a side of 0 pixels, or because the image
            goes straight to the processor with one side more than 200 times the other.
    """
    if width < 1 or height < 1:
        raise UserError(f"an image of {width}×{height} pixels has no size for the model; expected at least 1×1")
    if image_max_pixels is not None or image_min_pixels is not None:
        width, height = _llamafactory_size(width, height, image_max_pixels, image_min_pixels)
    return _processor_size(
        width, height, patch_size * merge_size, min_pixels=processor_min_pixels, max_pixels=processor_max_pixels
    )


def size_for_processor(size: Size, image_processor, *, image_max_pixels: int, image_min_pixels: int) -> Size:
    """`model_image_size` of an upright image's (width, height), by a Qwen2-VL image processor's own settings."""
    return model_image_size(
        *size,
        image_max_pixels=image_max_pixels,
        image_min_pixels=image_min_pixels,
        patch_size=image_processor.patch_size,
        merge_size=image_processor.merge_size,
        processor_min_pixels=image_processor.size["shortest_edge"],
        processor_max_pixels=image_processor.size["longest_edge"],
    )


def _llamafactory_size(width: int, height: int, max_pixels: int | None, min_pixels: int | None) -> Size:
    """What `Qwen2VLPlugin._preprocess_image` of LlamaFactory 0.9.5 makes of an image.

    Bring the area between the bounds (sides rounded down), then each side to 28 at least, then the ratio to 200.
    """
    original = f"{width}×{height}"
    for bound, outside in ((max_pixels, int.__gt__), (min_pixels, int.__lt__)):
        if bound is not None and outside(width * height, bound):
            factor = math.sqrt(bound / (width * height))
            width, height = int(width * factor), int(height * factor)
        if width < 1 or height < 1:
            raise UserError(
                f"an image of {original} pixels vanishes when shrunk to {max_pixels} pixels; crop it first"
            )
    width, height = max(width, 28), max(height, 28)
    if width / height > 200:
        width = height * 180
    if height / width > 200:
        height = width * 180
    return width, height


def _processor_size(width: int, height: int, unit: int, *, min_pixels: int, max_pixels: int) -> Size:
    """What Qwen2-VL's image processor (transformers 4.57 to 5.6, `smart_resize`) makes of an image.

    Each side goes to its nearest multiple of `unit` (ties to even); if the area then leaves the bounds, the sides of
    the unrounded image are scaled to the bound and rounded towards it instead.
    """
    if max(width, height) / min(width, height) > 200:
        raise UserError(
            f"an image of {width}×{height} pixels is more than 200 times as long as wide, which Qwen2.5-VL's image "
            "processor refuses; crop it first"
        )
    rounded = (round(width / unit) * unit, round(height / unit) * unit)
    area = rounded[0] * rounded[1]
    if area > max_pixels:
        shrink = math.sqrt((height * width) / max_pixels)
        return (
            max(unit, math.floor(width / shrink / unit) * unit),
            max(unit, math.floor(height / shrink / unit) * unit),
        )
    if area < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        return math.ceil(width * grow / unit) * unit, math.ceil(height * grow / unit) * unit
    return rounded


def image_tokens(size: Size, *, patch_size: int = 14, merge_size: int = 2) -> int:
    """Number of an image's own tokens (comparison tokens not counted), from its size in model space."""
    unit = patch_size * merge_size
    return (size[0] // unit) * (size[1] // unit)


def scale_box(box: Sequence[float], from_size: Size, to_size: Size) -> list[int]:
    """Map a box between two sizes of the same image; it serves both directions.

    Args:
        box: x1, y1, x2, y2 in pixels of `from_size`.
        from_size, to_size: (width, height).

    Returns:
        Four integers inside `to_size`. A box that had an area keeps one: it is at least one pixel wide and high.
    """
    x1, x2 = _scale_span(box[0], box[2], from_size[0], to_size[0])
    y1, y2 = _scale_span(box[1], box[3], from_size[1], to_size[1])
    return [x1, y1, x2, y2]


def _scale_span(low: float, high: float, from_length: int, to_length: int) -> tuple[int, int]:
    def scaled(value: float) -> int:
        # Clip first: a text may hold numbers too large for floor().
        return math.floor(min(max(value, 0), from_length) * to_length / from_length + 0.5)

    new_low, new_high = scaled(low), scaled(high)
    if new_low == new_high and low < high:
        new_low = min(new_low, to_length - 1)
        new_high = new_low + 1
    return new_low, new_high


#: Syntaxes of `boxes.notations` that are read out of answers; the first row of which there is a box counts alone. A
#: model that answers `"bbox"` nearly always means corners, whatever that key means in a data file.
_ANSWERS = (("bbox_2d", "box_2d"), ("qwen2-vl", "internvl", "seed", "deepseek"), ("bbox",))
_READ = frozenset(syntax for row in _ANSWERS for syntax in row)

#: A box in pixels of which no number is larger is none: its numbers are shares of the sides, some a hair too large.
SHARE_LIMIT = 1.1

#: No image is wider; beyond lie also infinities.
_LARGEST = 1e15


def map_text_boxes(text: str, from_size: Size, to_size: Size) -> str:
    """Rewrite each box of a text from one size of the image to another: `"bbox_2d": [x1, y1, x2, y2]` and the other
    notations that `parse_boxes` reads, each in its own order.

    The text around the numbers, spaces included, stays as it is; numbers may be integers or decimals and become
    integers. Boxes that are shares of the sides (`boxes_that_count`) become pixels of `to_size`.

    Args:
        text: prose, JSON, or JSON within prose.
        from_size, to_size: (width, height) in pixels.
    """
    found = list(_text_boxes(text))
    shares = _are_shares([box for box, _, _ in found])
    changes = []
    for box, numbers, y_first in found:
        if _within_one(box) and not shares:
            continue
        mapped = scale_box(box, (1, 1) if shares else from_size, to_size)
        mapped = _swapped(mapped) if y_first else mapped
        changes += [(number.start, number.stop, value) for number, value in zip(numbers, mapped, strict=True)]
    pieces, at = [], 0
    for start, stop, value in changes:
        pieces += [text[at:start], str(value)]
        at = stop
    return "".join([*pieces, text[at:]])


def text_boxes(text: str) -> list[list[float]]:
    """The boxes of a text that `map_text_boxes` looks at, in order, [x1, y1, x2, y2] as it stands there."""
    return [box for box, _, _ in _text_boxes(text)]


def _text_boxes(text: str) -> Iterator[tuple[list[float], tuple[Number, ...], bool]]:
    """([x1, y1, x2, y2], its numbers in the order of the text, whether y comes first there) of each box."""
    for expression in scan_boxes(text):
        if expression.syntax in _READ:
            for numbers in expression.boxes:
                y_first = expression.syntax == "box_2d"
                box = [number.value for number in numbers]
                yield _swapped(box) if y_first else box, numbers, y_first


def parse_boxes(text: str) -> list[dict]:
    """Read the boxes of an answer, as forgivingly as can be done without guessing.

    JSON, alone or with prose and code fences around it, cut off at its end, or written with Python's quotes; numbers
    as strings; two corner pairs `[[x1, y1], [x2, y2]]`; `"box_2d": [y1, x1, y2, x2]`; where there is none of these,
    the tags of Qwen2-VL, InternVL, Seed-VL and DeepSeek-VL2, unclosed ones too, and then `"bbox"`, taken for corners.
    A list counts once its bracket is closed, a tag once four numbers stand behind it.

    Returns:
        `{"bbox_2d": [x1, y1, x2, y2], "label": "…"}` in order of appearance; numbers as written (they may lie outside
        the image or be inverted, and `boxes_that_count` says what they are pixels of), the label "" if there is none.
        Entries without four finite numbers are left out.
    """
    expressions = [expression for expression in scan_boxes(text) if expression.syntax in _READ]
    for syntaxes in _ANSWERS:
        found = []
        for expression in expressions:
            if expression.syntax in syntaxes:
                found += _boxes(expression, y_first=expression.syntax == "box_2d")
        if found:
            return found
    return []


def parse_bare_boxes(text: str, *, y_first: bool = False) -> list[dict]:
    """`parse_boxes` for an answer in which no notation is found: its bare lists of four numbers, or of two corners.

    Args:
        text: the answer.
        y_first: whether they are y1, x1, y2, x2.
    """
    return [box for expression in bare_lists(text) for box in _boxes(expression, y_first=y_first)]


def _boxes(expression: Expression, *, y_first: bool) -> Iterator[dict]:
    for numbers in expression.boxes:
        box = [number.value for number in numbers]
        if all(abs(value) < _LARGEST for value in box):
            yield {"bbox_2d": _swapped(box) if y_first else box, "label": expression.label}


def boxes_that_count(found: Sequence[dict], space: Size) -> tuple[list[dict], Size]:
    """Which boxes of an answer say something, and in which space they are.

    Where all numbers of all boxes lie between 0 and 1 and some of them are no integers, they are shares of the
    image's sides. Any other box between 0 and 1 is left out: in pixels or thousandths it would be a speck in the upper
    left corner, which no model means, and `[0, 0, 1, 1]` may mean the whole image as well.

    Args:
        found: from `parse_boxes`.
        space: (width, height) of what the model writes boxes in.

    Returns:
        The boxes, and `space`, or (1, 1) for shares.
    """
    boxes = [box["bbox_2d"] for box in found]
    if _are_shares(boxes):
        return list(found), (1, 1)
    return [box for box in found if not _within_one(box["bbox_2d"])], space


def boxes_in_image(text: str, model_size: Size, size: Size) -> list[dict]:
    """The boxes of an answer in pixels of the original image, clipped to it.

    A box with its corners in the wrong order is put right; one without any part inside the image is left out, and so
    is one that `boxes_that_count` leaves out.
    """
    boxes = []
    counted, space = boxes_that_count(parse_boxes(text), model_size)
    for found in counted:
        x1, y1, x2, y2 = found["bbox_2d"]
        box = [min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)]
        clipped = [max(box[0], 0), max(box[1], 0), min(box[2], space[0]), min(box[3], space[1])]
        if clipped[0] < clipped[2] and clipped[1] < clipped[3]:
            boxes.append({"bbox_2d": scale_box(clipped, space, size), "label": found["label"]})
    return boxes


def _are_shares(boxes: Sequence[Sequence[float]]) -> bool:
    return all(map(_within_one, boxes)) and any(value not in (0, 1) for box in boxes for value in box)


def _within_one(box: Sequence[float]) -> bool:
    return all(0 <= value <= 1 for value in box)


def _swapped(box: Sequence[float]) -> list[float]:
    a, b, c, d = box
    return [b, a, d, c]
