"""LabelMe: a JSON file an image, `shapes` with a label and points in pixels: polygons, rectangles, circles.

A file without a shape says that there is nothing in the image. The copy of the image in it (`imageData`) is not read.
"""

from __future__ import annotations

import json
import math
from typing import Any

from adcopilot.kinds import is_good

from ...errors import UserError
from ..sources.coco_file import stated_size, storable

__all__ = ["file_name", "load", "parse"]

# Corners of a circle's polygon: at 64 it is off by a thousandth of the radius.
_CORNERS = 64

#: LabelMe's own names for what is no object.
_NOTHING = frozenset({"__ignore__", "_background_"})


def parse(data: bytes, name: str) -> tuple[list[dict[str, Any]], tuple[int, int] | None]:
    """The shapes as annotations, and the size that the file says.

    Raises:
        UserError: it is no JSON, no LabelMe file, a shape has no area, or a flag says more than the shapes.
    """
    content = load(data, name)
    found = []
    for number, shape in enumerate(content["shapes"], 1):
        where = f"{name}: shape {number}"
        if not isinstance(shape, dict) or not isinstance(shape.get("label"), str):
            raise UserError(f"{where}: {str(shape)[:60]}, expected an object with label and points")
        if shape["label"] not in _NOTHING:
            label = " ".join(storable(shape["label"]).split())
            found.append({"id": f"of shape {number}", "label": label, **_area(shape, where)})
    flags = content.get("flags")
    raised = (
        [flag for flag, said in flags.items() if said is True and not is_good(flag)] if isinstance(flags, dict) else []
    )
    if raised and not found:
        raise UserError(
            f"{name}: the flag {raised[0][:40]!r} is set but there is no shape; draw the defect, or clear it"
        )
    return found, stated_size(content.get("imageWidth"), content.get("imageHeight"))


def file_name(data: bytes, name: str) -> str:
    """The image that the file says it is about, relative to the file's folder, "" where it says none."""
    path = load(data, name).get("imagePath")
    return path if isinstance(path, str) else ""


def load(data: bytes, name: str) -> dict[str, Any]:
    """A file as JSON.

    Raises:
        UserError: it is no JSON, or no LabelMe file.
    """
    try:
        content = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name}: not JSON ({' '.join(str(error).split())[:120]}); export it again") from None
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise UserError(f"{name}: not a LabelMe file, expected an object with shapes and imagePath")
    return content


def _area(shape: dict[str, Any], where: str) -> dict[str, Any]:
    """`bbox` or `segmentation`."""
    kind = shape.get("shape_type") or "polygon"
    points = _points(shape.get("points"), where)
    if points and max(value for point in points for value in point) <= 1:
        raise UserError(f"{where}: all numbers of its points are at most 1, expected pixels, not shares of the sides")
    if kind == "rectangle" and len(points) >= 2:
        xs, ys = zip(*points, strict=True)
        return {"bbox": [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]}
    if kind == "circle" and len(points) == 2:
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        turns = [2 * math.pi * corner / _CORNERS for corner in range(_CORNERS)]
        circle = [(x + radius * math.cos(turn), y + radius * math.sin(turn)) for turn in turns]
        return {"segmentation": [[value for point in circle for value in point]]}
    if kind == "polygon" and len(points) >= 3:
        return {"segmentation": [[value for point in points for value in point]]}
    raise UserError(f"{where}: a {str(kind)[:20]} of {len(points)} points has no area, expected a polygon of 3 or "
                    "more, a rectangle of 2 or a circle of 2; draw it so")  # fmt: skip


def _points(value: Any, where: str) -> list[tuple[float, float]]:
    points = value if isinstance(value, list) else [None]
    for point in points:
        numbers = isinstance(point, list) and len(point) == 2 and all(type(one) in (int, float) for one in point)
        if not numbers or not all(abs(one) < 1e9 for one in point):
            raise UserError(f"{where}: the point {str(point)[:40]}, expected two numbers, x and y in pixels")
    return [(float(x), float(y)) for x, y in points]
