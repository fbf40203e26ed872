"""LabelMe folders: polygons, rectangles and circles in pixels, a JSON file an image, mostly beside it.

    NAME.jpg         NAME.json
    images/NAME.jpg  annotations/NAME.json

A file says which image it is about (`imagePath`), if the names differ. The copy of the image in it is not read.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..label_files import labelme
from . import labelled
from .base import ListedImage, Source
from .labelled import OPTIONS, Form

__all__ = ["OPTIONS", "looks_like", "scan"]

_FORM = Form(
    name="labelme",
    suffix=".json",
    folders=("annotations", "labels", "json", "jsons", "label"),
    file_name=labelme.file_name,
)


def looks_like(source: Source) -> bool:
    """Whether images have JSON files of LabelMe's form."""
    return labelled.looks_like(source, _FORM)


def scan(source: Source) -> Iterator[ListedImage]:
    """All images, in order.

    Raises:
        LayoutError: no image has a file of labels.
    """
    yield from labelled.scan(source, _FORM)
