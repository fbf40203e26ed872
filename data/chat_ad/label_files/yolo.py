"""YOLO: a text file an image, `class cx cy w h` a line in shares of the image's sides, or `class x1 y1 x2 y2 x3 y3 …`.

The second form is a polygon. A file without a line says that there is nothing in the image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ...errors import UserError

__all__ = ["in_pixels", "parse"]

# Shares are printed with six digits; exporters round the border outwards.
_SLACK = 0.005

_MOST_LINES = 10_000


def parse(data: bytes, name: str) -> tuple[list[dict[str, Any]], None]:
    """The lines as annotations in shares of the sides; their labels are the numbers of classes.

    Raises:
        UserError: a line is something else.
    """
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{name}: not UTF-8 text, expected lines of YOLO: class cx cy w h") from None
    found = []
    for number, line in enumerate(lines[: _MOST_LINES + 1], 1):
        if line.strip():
            found.append(_annotation(line.split(), f"{name}:{number}", number))
    if len(lines) > _MOST_LINES:
        raise UserError(f"{name}: more than {_MOST_LINES:,} lines, expected the boxes of one image")
    return found, None


def _annotation(words: list[str], where: str, number: int) -> dict[str, Any]:
    shown = " ".join(words)[:60]
    try:
        values = [float(word) for word in words[1:]]
    except ValueError:
        values = []
    polygon = len(values) >= 6 and len(values) % 2 == 0
    if not words[0].isascii() or not words[0].isdigit() or len(words[0]) > 6 or not (len(values) == 4 or polygon):
        raise UserError(f"{where}: {shown!r}, expected class cx cy w h, or class x1 y1 x2 y2 x3 y3 …")
    if not all(math.isfinite(value) and -_SLACK <= value <= 1 + _SLACK for value in values):
        raise UserError(f"{where}: {shown!r} is not in shares of the image's sides, expected numbers from 0 to 1")
    label = str(int(words[0]))
    if polygon:
        return {"id": f"of line {number}", "label": label, "segmentation": [values]}
    cx, cy, width, height = values
    low, high = (cx - width / 2, cy - height / 2), (cx + width / 2, cy + height / 2)
    if width <= 0 or height <= 0 or min(low) < -_SLACK or max(high) > 1 + _SLACK:
        raise UserError(f"{where}: {shown!r} is empty or reaches out of the image, expected cx cy w h within 0 to 1")
    return {"id": f"of line {number}", "label": label, "bbox": [*low, width, height]}


def in_pixels(annotation: Mapping[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """The same in pixels of an image of (width, height)."""
    if "segmentation" in annotation:
        points = annotation["segmentation"][0]
        scaled = [min(max(value, 0.0), 1.0) * size[place % 2] for place, value in enumerate(points)]
        return {**annotation, "segmentation": [scaled]}
    x, y, width, height = annotation["bbox"]
    corners = [x, y, x + width, y + height]
    # What is a whole number of pixels stays one after the shares' six digits.
    x1, y1, x2, y2 = (_near(min(max(one, 0.0), 1.0) * size[place % 2]) for place, one in enumerate(corners))
    return {**annotation, "bbox": [x1, y1, x2 - x1, y2 - y1]}


def _near(value: float) -> float:
    return float(round(value)) if abs(value - round(value)) < 0.02 else value
