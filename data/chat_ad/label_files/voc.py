"""Pascal VOC: an XML file an image, `object` elements with `name` and `bndbox`, pixels counted from 1, ends included.

A file without an object says that there is nothing in the image, and so does one whose objects are all `deleted`.
Document types, and with them entities, are refused.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from typing import Any
from xml.parsers import expat

from ...errors import UserError

__all__ = ["file_name", "parse"]

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


class _DocumentTypeError(Exception):
    """The file declares a document type."""


def parse(data: bytes, name: str) -> tuple[list[dict[str, Any]], tuple[int, int] | None]:
    """The objects as annotations, and the size that the file says.

    Raises:
        UserError: it is no XML, no VOC file, or a box is none.
    """
    root = _root(data, name)
    objects, found = root.findall("object"), []
    for number, one in enumerate(objects, 1):
        if (one.findtext("deleted") or "0").strip().lower() not in ("0", "false", "no"):
            continue  # tools that keep what was taken away say so here
        label = " ".join((one.findtext("name") or "").split())
        found.append({"id": f"of object {number}", "label": label, "bbox": _box(one, f"{name}: object {number}")})
    other = next((one.tag for one in root.iter() if re.search("(bndbox|xmin)$", one.tag, re.IGNORECASE)), None)
    if other and not objects:
        raise UserError(f"{name}: <{other[:40]}> in no <object> of <annotation>, expected Pascal VOC's; export it so")
    return found, _size(root)


def file_name(data: bytes, name: str) -> str:
    """The image that the file says it is about, "" where it says none."""
    return " ".join((_root(data, name).findtext("filename") or "").split())


def _root(data: bytes, name: str) -> ElementTree.Element:
    def refuse(*_: object) -> None:
        raise _DocumentTypeError

    try:
        # First without building anything: entities are declared in document types only.
        guard = expat.ParserCreate()
        guard.StartDoctypeDeclHandler = refuse
        guard.Parse(data, True)
        root = ElementTree.fromstring(data)
    except _DocumentTypeError:
        raise UserError(f"{name}: declares a document type, expected plain XML of Pascal VOC; remove it") from None
    except (expat.ExpatError, ElementTree.ParseError, ValueError, LookupError, RecursionError) as error:
        raise UserError(f"{name}: not XML ({' '.join(str(error).split())[:120]}); export it again") from None
    if root.tag != "annotation":
        raise UserError(f"{name}: begins with <{root.tag[:40]}>, expected Pascal VOC's <annotation>")
    return root


def _box(one: ElementTree.Element, where: str) -> list[float]:
    texts = [one.findtext(f"bndbox/{corner}") for corner in _CORNERS]
    try:
        x1, y1, x2, y2 = (float(text) for text in texts)
    except (TypeError, ValueError):
        x1 = math.nan
        y1 = x2 = y2 = x1
    if not all(map(math.isfinite, (x1, y1, x2, y2))) or x2 < x1 or y2 < y1:
        shown = dict(zip(_CORNERS, texts, strict=True))
        raise UserError(f"{where}: its bndbox is {str(shown)[:120]}, expected xmin, ymin, xmax, ymax in pixels")
    if max(x2, y2) <= 1:
        raise UserError(f"{where}: all numbers of its bndbox are at most 1, expected pixels, not shares of the sides")
    # Tools that count from 0 write 0 at the border, and no VOC file has it elsewhere.
    left, top = max(x1 - 1, 0.0), max(y1 - 1, 0.0)
    return [left, top, x2 - left, y2 - top]


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    try:
        width, height = (int(root.findtext(f"size/{side}") or 0) for side in ("width", "height"))
    except ValueError:
        return None
    return (width, height) if width > 0 and height > 0 else None  # tools write 0 for "unknown"
