"""Boxes, and the two spaces they live in.

Annotations are pixels of the original image, upright (EXIF orientation applied, see `adcopilot.images`). What the
model reads and writes are pixels of the image as it sees it: after LlamaFactory's `image_max_pixels` resize and then
Qwen2.5-VL's own resize to multiples of 28. Both are plain stretches of the whole image, so one pair of sizes says
everything about the mapping. `model_image_size` computes that size; `map_text_boxes` rewrites the boxes of a text.

A box refers to the last image before it in its conversation. In a pair that is the query, never the template.

Nothing here needs torch, and nothing from a text is ever evaluated.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence

from .errors import UserError

__all__ = ["image_tokens", "map_text_boxes", "model_image_size", "parse_boxes", "scale_box", "text_boxes"]

# Their module needs numpy; reading and mapping boxes, as command lines and data checks do, needs nothing.
_AREAS = ("MaskTruth", "bbox_mask_iou")


def __getattr__(name: str):
    if name in _AREAS:
        from . import box_areas

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


_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_FOUR = re.compile(rf"\[\s*{_NUMBER}(?:\s*,\s*{_NUMBER}){{3}}\s*,?\s*\]")
# The key in either kind of quotes, possibly escaped (JSON inside a JSON string), then a list that holds nothing but
# numbers: `[x1, y1, x2, y2]` of a prompt that explains the format is left alone.
_KEYED_LIST = re.compile(r"""(["']bbox_2d\\*["']\s*:\s*)(\[[-+.,\d\seE\[\]]*\])""")


def map_text_boxes(text: str, from_size: Size, to_size: Size) -> str:
    """Rewrite each `"bbox_2d": [x1, y1, x2, y2]` of a text from one size of the image to another.

    The text around the numbers, spaces included, stays as it is; numbers may be integers or decimals and become
    integers. A list of several boxes under one key is mapped too.

    Args:
        text: prose, JSON, or JSON within prose.
        from_size, to_size: (width, height) in pixels.
    """

    def map_box(match: re.Match) -> str:
        numbers = iter(scale_box(_numbers(match[0]), from_size, to_size))
        return re.sub(_NUMBER, lambda _: str(next(numbers)), match[0])

    return _KEYED_LIST.sub(lambda match: match[1] + _FOUR.sub(map_box, match[2]), text)


def text_boxes(text: str) -> list[list[float]]:
    """The boxes that `map_text_boxes` would rewrite, in order, as they stand in the text."""
    return [_numbers(box) for match in _KEYED_LIST.finditer(text) for box in _FOUR.findall(match[2])]


def _numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(_NUMBER, text)]


_LABEL = re.compile(r"""["']label["']\s*:\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)')""")


def parse_boxes(text: str) -> list[dict]:
    """Read the boxes of an answer, as forgivingly as can be done without guessing.

    Strict JSON is tried first. Otherwise every JSON object in the text counts (prose, code fences around it), and then
    every complete `"bbox_2d": [x1, y1, x2, y2]` outside of those: in an answer cut off at its end, or written with
    Python's quotes.

    Returns:
        `{"bbox_2d": [x1, y1, x2, y2], "label": "…"}` in order of appearance; numbers as written (they may lie outside
        the image or be inverted), the label "" if there is none. Entries without four finite numbers are left out.
    """
    try:
        return [box for _, box in _walk(json.loads(text), 0)]
    except (ValueError, RecursionError):
        pass

    found: list[tuple[int, dict]] = []
    consumed = 0  # everything before is inside a JSON value already read
    pieces: list[tuple[int, int]] = []  # stretches of text that no JSON value covers
    decoder = json.JSONDecoder()
    for opening in re.finditer("{", text):  # a list of boxes is a sequence of objects
        if opening.start() < consumed:
            continue
        try:
            value, end = decoder.raw_decode(text, opening.start())
        except (ValueError, RecursionError):
            continue
        found += _walk(value, opening.start())
        pieces.append((consumed, opening.start()))
        consumed = end
    pieces.append((consumed, len(text)))

    for start, end in pieces:
        piece = text[start:end]
        matches = list(_KEYED_LIST.finditer(piece))
        for index, match in enumerate(matches):
            # The label stands in the same object, before or after the box, but not beyond the next one.
            stop = matches[index + 1].start() if index + 1 < len(matches) else len(piece)
            after = piece[match.end() : stop].partition("}")[0]
            before = piece[matches[index - 1].end() if index else 0 : match.start()].rpartition("{")[2]
            label = _LABEL.search(after) or _LABEL.search(before)
            name = (label[1] or label[2] or "") if label else ""
            for box in _FOUR.findall(match[2]):
                numbers = [int(number) if number.is_integer() else number for number in _numbers(box)]
                found += _walk({"bbox_2d": numbers, "label": name}, start + match.start())
    return [box for _, box in sorted(found, key=lambda item: item[0])]


def _walk(value: object, position: int) -> Iterator[tuple[int, dict]]:
    """(position, box) for each box in a decoded JSON value, in order."""
    if isinstance(value, dict):
        boxes = value.get("bbox_2d")
        if isinstance(boxes, list):
            for box in boxes if boxes and all(isinstance(item, list) for item in boxes) else [boxes]:
                if len(box) == 4 and all(_is_finite(number) for number in box):
                    label = value.get("label", "")
                    yield position, {"bbox_2d": list(box), "label": label if isinstance(label, str) else str(label)}
        for key, item in value.items():
            if key != "bbox_2d":
                yield from _walk(item, position)
    elif isinstance(value, list):
        for item in value:
            yield from _walk(item, position)


def _is_finite(number: object) -> bool:
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        return False
    return abs(number) < 1e15  # no image is wider; also false for NaN and infinities
