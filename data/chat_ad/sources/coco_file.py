"""Read COCO annotation files: which images, which classes, and each image's polygons or run lengths as a mask.

Every number in the file is checked before it reaches pycocotools, whose C code trusts what it is given.
"""

from __future__ import annotations

import functools
import json
import math
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adcopilot.kinds import is_good

from ...boxes import SHARE_LIMIT
from ...errors import UserError

__all__ = [
    "CocoFile",
    "NotCocoError",
    "annotation_box",
    "annotation_mask",
    "image_values",
    "load",
    "stated_size",
    "storable",
]


class NotCocoError(UserError):
    """A JSON file that is something else than COCO annotations."""


@dataclass(frozen=True, kw_only=True)
class CocoFile:
    """A parsed annotation file.

    Attributes:
        path: the file.
        images: its image objects by id (as text).
        classes: names by category id; id 0 is an ordinary one.
        annotations: of each image id (as text), in the file's order; images without any are absent.
        faults: annotations that belong to no image or class or are to be ignored, and images listed twice or without a
            name, in words.
        incomplete: ids (as text) of images that have such an annotation: what is left of theirs is not the truth.
    """

    path: Path
    images: Mapping[str, dict]
    classes: Mapping[Any, str]
    annotations: Mapping[str, list[dict]]
    faults: tuple[str, ...]
    incomplete: frozenset[str]


def load(path: Path) -> CocoFile:
    """Parse a file; the last two are remembered for as long as they do not change.

    Raises:
        NotCocoError: the file is JSON, but not of COCO's form.
        UserError: the file is missing, not JSON, or its categories are malformed.
    """
    try:
        stat = os.stat(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check the path") from None
    return _load(str(path), stat.st_mtime_ns, stat.st_size)


def image_values(path: Path, image_id: str, *, size: tuple[int, int]) -> np.ndarray:
    """All defects of an image painted in the file's order, (height, width), unsigned 16 bits.

    Annotations of a category that says good (`kinds.is_good`) are no defects.

    Args:
        path: the annotation file.
        image_id: as in the file, as text.
        size: (width, height) of the image in pixels.

    Returns:
        0 outside, elsewhere 1 + the position of the category in `CocoFile.classes`.

    Raises:
        UserError: the image is not in the file, or an annotation is malformed.
    """
    coco = load(path)
    if image_id not in coco.images:
        raise UserError(f"{path}: has no image of id {image_id}; start the build again")
    values = np.zeros((size[1], size[0]), np.uint16)
    positions = {category: position for position, category in enumerate(coco.classes, 1)}
    for annotation in coco.annotations.get(image_id, ()):
        if is_good(coco.classes[annotation["category_id"]]):
            continue
        mask = annotation_mask(annotation, size=size, name=f"{path}: image {image_id}")
        values[mask] = positions[annotation["category_id"]]
    return values


def annotation_mask(annotation: dict, *, size: tuple[int, int], name: str) -> np.ndarray:
    """The mask of one annotation, boolean (height, width): polygons, run lengths, or its box where it has neither.

    Raises:
        UserError: it is malformed or reaches far outside the image.
    """
    from pycocotools import mask as runs

    width, height = size
    name = f"{name}, annotation {annotation.get('id')}"
    segmentation = annotation.get("segmentation")
    if not segmentation:
        x1, y1, x2, y2 = annotation_box(annotation, size=size, name=name)
        mask = np.zeros((height, width), bool)
        mask[y1:y2, x1:x2] = True
        return mask
    if isinstance(segmentation, list):
        polygons = segmentation if isinstance(segmentation[0], list) else [segmentation]
        for polygon in polygons:
            _check_polygon(polygon, size, name)
        encoded = runs.merge(runs.frPyObjects(polygons, height, width))
        return _painted(_run_lengths(encoded["counts"].decode()), size)
    if not isinstance(segmentation, dict) or list(segmentation.get("size", ())) != [height, width]:
        found = segmentation.get("size") if isinstance(segmentation, dict) else type(segmentation).__name__
        raise UserError(f"{name}: segmentation of size {found}, expected [{height}, {width}] (height, width)")
    counts = segmentation.get("counts")
    lengths = _run_lengths(counts) if isinstance(counts, str) else counts
    if (
        not isinstance(lengths, list)
        or not all(isinstance(run, int) and run >= 0 for run in lengths)
        or sum(lengths) != width * height
    ):
        raise UserError(f"{name}: run lengths that do not add up to {width}×{height} pixels; export the file again")
    return _painted(lengths, size)


def annotation_box(annotation: dict, *, size: tuple[int, int], name: str) -> tuple[int, int, int, int]:
    """An annotation's `bbox` [x, y, width, height] as whole pixels (x1, y1, x2, y2), rounded outwards and clipped.

    Raises:
        UserError: it is not four numbers, empty, outside the image, or in shares of its sides.
    """
    values = annotation.get("bbox")
    if not isinstance(values, list) or len(values) != 4 or not all(map(_is_number, values)):
        raise UserError(f"{name}: neither a segmentation nor a bbox of four numbers, expected [x, y, width, height]")
    x, y, w, h = values
    if max(map(abs, values)) <= SHARE_LIMIT:
        raise UserError(
            f"{name}: bbox {values} has no number above 1, so its numbers look like shares of the image's sides; "
            "COCO's are pixels [x, y, width, height]: export the file with those"
        )
    area = annotation.get("area")
    if _is_number(area) and w > x >= 0 and h > y >= 0 and w * h != area == (w - x) * (h - y):
        raise UserError(f"{name}: bbox {values} has the area {area} as corners, expected [x, y, width, height]")
    # Half a pixel of rounding beyond the border is common, more is a mistake.
    if w <= 0 or h <= 0 or x < -1 or y < -1 or x + w > size[0] + 1 or y + h > size[1] + 1:
        raise UserError(
            f"{name}: bbox {values} is empty or outside its image of {size[0]}×{size[1]} pixels, as [x, y, w, h]"
        )
    x1, y1 = max(0, math.floor(x)), max(0, math.floor(y))
    x2, y2 = min(size[0], math.ceil(x + w)), min(size[1], math.ceil(y + h))
    if x1 >= x2 or y1 >= y2:
        raise UserError(f"{name}: bbox {values} is empty or outside its image of {size[0]}×{size[1]} pixels")
    return x1, y1, x2, y2


@functools.lru_cache(maxsize=2)
def _load(text: str, _mtime: int, _size: int) -> CocoFile:
    path = Path(text)
    try:
        data = json.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check the path") from None
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: not JSON ({' '.join(str(error).split())[:120]}); download or export it again"
        ) from None
    lists = isinstance(data, dict) and all(
        isinstance(data.get(name) or [], list) for name in ("images", "annotations")
    )
    if not lists or not isinstance(data.get("images"), list):
        raise NotCocoError(f"{path}: not a COCO file, expected an object with images, annotations and categories")
    faults: list[str] = []
    classes = _classes(data.get("categories") or [], path)
    images: dict[str, dict] = {}
    incomplete: set[str] = set()
    for number, image in enumerate(data["images"]):
        if not isinstance(image, dict) or not isinstance(image.get("file_name"), str) or "id" not in image:
            faults.append(f"images[{number}] has no file_name or id")
        elif str(image["id"]) in images:
            both = f"{images[str(image['id'])]['file_name']} and {image['file_name']}"
            faults.append(f"image id {image['id']} is listed twice, for {both}; both are left out")
            incomplete.add(str(image["id"]))
        else:
            images[str(image["id"])] = image
    listed = Counter(image["file_name"] for image in images.values())
    for name in (name for name, count in listed.items() if count > 1):
        faults.append(f"{name} has {listed[name]} ids; it is left out")
        incomplete.update(one for one, image in images.items() if image["file_name"] == name)
    annotations: dict[str, list[dict]] = {}
    for number, annotation in enumerate(data.get("annotations") or []):
        if not isinstance(annotation, dict) or str(annotation.get("image_id")) not in images:
            faults.append(f"annotations[{number}] belongs to no image of the file")
            continue
        image_id, category = str(annotation["image_id"]), annotation.get("category_id")
        if not isinstance(category, (int, str)) or category not in classes:
            name = images[image_id]["file_name"]
            faults.append(f"annotations[{number}] has category_id {category!r}, which has no name; {name} is left out")
            incomplete.add(image_id)
        elif annotation.get("ignore"):  # neither a defect nor none, as its file says
            name = images[image_id]["file_name"]
            faults.append(f"annotations[{number}] is to be ignored; {name} is left out")
            incomplete.add(image_id)
        else:
            annotations.setdefault(image_id, []).append(annotation)
    return CocoFile(
        path=path,
        images=images,
        classes=classes,
        annotations=annotations,
        faults=tuple(faults),
        incomplete=frozenset(incomplete),
    )


def stated_size(width: Any, height: Any) -> tuple[int, int] | None:
    """A file's (width, height) of an image, None where they are no numbers of pixels."""
    try:
        size = (float(width), float(height))  # tools write 640, 640.0 and "640"
    except (TypeError, ValueError, OverflowError):
        return None
    return (int(size[0]), int(size[1])) if all(0 < side < 1 << 30 and side == int(side) for side in size) else None


def storable(text: str) -> str:
    """A text from a JSON file without lone surrogates, which no table can hold."""
    return text.encode("utf-8", "replace").decode()


def _classes(categories: Any, path: Path) -> dict[Any, str]:
    classes = {}
    for category in categories if isinstance(categories, list) else ():
        if not isinstance(category, dict) or not isinstance(category.get("id"), (int, str)):
            raise UserError(f"{path}: a category is {str(category)[:60]}, expected an object with id and name")
        name = storable(str(category.get("name", category["id"])))
        if classes.setdefault(category["id"], name) != name:
            both = f"{classes[category['id']]} and {name}"
            raise UserError(
                f"{path}: the id {category['id']!r} is that of two categories, {both}; export the file again"
            )
    return classes


def _check_polygon(polygon: Any, size: tuple[int, int], name: str) -> None:
    if (
        not isinstance(polygon, list)
        or len(polygon) < 6
        or len(polygon) % 2
        or not all(_is_number(value) for value in polygon)
    ):
        raise UserError(f"{name}: polygon {str(polygon)[:60]}, expected x, y, x, y, … of three corners or more")
    if max(map(abs, polygon)) <= SHARE_LIMIT:
        raise UserError(f"{name}: a polygon without any number above 1, so shares of the sides; COCO's are pixels")
    for values, length in ((polygon[::2], size[0]), (polygon[1::2], size[1])):
        if min(values) < -length or max(values) > 2 * length:
            raise UserError(f"{name}: a polygon far outside its image of {size[0]}×{size[1]} pixels")


def _painted(lengths: list[int], size: tuple[int, int]) -> np.ndarray:
    """Run lengths, of background first and column by column, as a mask (height, width)."""
    values = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return values.reshape(size).T


def _run_lengths(text: str) -> list[int] | None:
    """COCO's compressed run lengths: 5 bits a character from `0`, the lowest first, differences from the third on."""
    lengths: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 30:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        if len(lengths) > 2:
            value += lengths[-2]
        lengths.append(value)
        value = shift = 0
    return None if shift else lengths


def _is_number(value: Any) -> bool:
    # Also refuses what is not finite, and integers too long for a float.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -1e9 < value < 1e9
