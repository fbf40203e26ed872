"""LabelMe folders: polygons, rectangles and circles in pixels, a JSON file an image, mostly beside it.

    NAME.jpg         NAME.json
    images/NAME.jpg  annotations/NAME.json

A file says which image it is about (`imagePath`), if the names differ. The copy of the image in it is not read.
"""

from __future__ import annotations

from ..label_files import labelme
from .labelled import OPTIONS, Form, reader

__all__ = ["OPTIONS", "looks_like", "scan"]

looks_like, scan = reader(
    Form(
        name="labelme",
        suffix=".json",
        folders=("annotations", "labels", "json", "jsons", "label"),
        file_name=labelme.file_name,
    )
)
