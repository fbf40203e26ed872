"""What labelling tools write beside one's own photographs: a file an image, of YOLO, Pascal VOC or LabelMe.

    found = read(path, "labelme")                                annotations and the image's size
    values = image_values(path, "labelme", size=…, only="1")     painted, of the first of its labels

A file becomes annotations in COCO's form with a `label` (`bbox` [x, y, width, height] or `segmentation`), so that
checking, rounding and painting are those of `coco_file`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UserError
from ..sources import coco_file
from . import labelme, voc, yolo

__all__ = ["FORMS", "LabelFile", "image_values", "labels_of", "read", "read_bytes"]

# A file of labels is text about one image; LabelMe's may hold the image too.
_MOST_BYTES = {"yolo": 4 << 20, "voc": 4 << 20, "labelme": 128 << 20}

#: Form → what reads it: `parse(data, name)` to (annotations, the size that the file says its image has or None).
FORMS: Mapping[str, Callable[[bytes, str], tuple[list[dict[str, Any]], tuple[int, int] | None]]] = {
    "yolo": yolo.parse,
    "voc": voc.parse,
    "labelme": labelme.parse,
}


@dataclass(frozen=True, kw_only=True)
class LabelFile:
    """A file's content.

    Attributes:
        annotations: in COCO's form, each with a `label`; in pixels, but YOLO's in shares of the sides.
        size: (width, height) in pixels that the file says its image has, None where it says none.
    """

    annotations: Sequence[Mapping[str, Any]]
    size: tuple[int, int] | None


def read(path: str | os.PathLike, form: str) -> LabelFile:
    """Read a file.

    Args:
        path: the file.
        form: of `FORMS`.

    Raises:
        UserError: it cannot be read, or is none of that form.
    """
    annotations, size = FORMS[form](read_bytes(path, form), os.fspath(path))
    return LabelFile(annotations=annotations, size=size)


def read_bytes(path: str | os.PathLike, form: str) -> bytes:
    """A file's bytes, of which there may be only so many.

    Raises:
        UserError: it cannot be read, or is too large.
    """
    most = _MOST_BYTES[form]
    try:
        with open(path, "rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise UserError(f"{os.fspath(path)}: cannot be read ({error.strerror or error}); check the file") from None
    if len(data) > most:
        raise UserError(f"{os.fspath(path)}: more than {most >> 20} MiB, expected the labels of one image")
    return data


def labels_of(annotations: Sequence[Mapping[str, Any]]) -> list[str]:
    """The labels in a file, each once, in order: the numbers of `image_values` are 1 + their positions."""
    return sorted({one["label"] for one in annotations})


def in_pixels(annotation: Mapping[str, Any], form: str, size: tuple[int, int]) -> dict[str, Any]:
    """The annotation in pixels of an image of (width, height)."""
    if form != "yolo":
        return dict(annotation)
    return yolo.in_pixels(annotation, size)


def image_values(path: Path, form: str, *, size: tuple[int, int], only: str) -> np.ndarray:
    """Annotations painted in the file's order, (height, width), unsigned 16 bits: 0 outside, else a label's number.

    Args:
        path: the file.
        form: of `FORMS`.
        size: (width, height) of the image in pixels.
        only: the numbers of the labels that count, with commas: 1 + their positions in `labels_of`.

    Raises:
        UserError: the file cannot be read, is none of that form, or an annotation lies outside the image.
    """
    if form not in FORMS:
        raise UserError(f"{path}: labels of the form {form!r}, expected one of {', '.join(FORMS)}")
    found = read(path, form).annotations
    numbers = {label: number for number, label in enumerate(labels_of(found), 1)}
    counted = only.split(",")
    values = np.zeros((size[1], size[0]), np.uint16)
    for one in found:
        if str(numbers[one["label"]]) in counted:
            mask = coco_file.annotation_mask(in_pixels(one, form, size), size=size, name=os.fspath(path))
            values[mask] = numbers[one["label"]]
    return values
