"""References: how a table names an image or a mask inside a dataset that nobody copies or changes.

    test/broken_large/000.png                      a file, relative to the dataset's root, `/` between the parts
    capsule/test/crack/a.png#view=2/5              the third of five equal parts of a strip (counted from 0)
    train/bolt.h5#h5=Images/Normal_0&index=7       the eighth image of an HDF5 array
    train/good/000.png#bits=12                     16 bits a channel, of which its dataset uses 12
    a/01_test.jpg#window=8/0/120/112               that part, x1/y1/x2/y2 in pixels, corner to corner
    a/01_test.jpg#repair=9/9/20/20&by=01_temp.jpg  with pixels of the image beside it in these boxes (`windows`)

Masks may also say

    ground_truth/logical_anomalies/000#folder=1    a folder: the union of all images in it
    Data/Masks/Anomaly/000.png#value=3             only the pixels of one class of an index mask
    ground_truth/crack/a.png#over=0.3              of a mask of many values, above this share of its range
    ground_truth/crack/a.png#inverted=1            the background is the defect
    train/_annotations.coco.json#coco=17           the polygons and run lengths of one image of a COCO file
    labels/train/a.txt#labels=yolo&only=1,3        the polygons and boxes of an image's file of labels (`label_files`)

`adcopilot.masks` says what a mask marks. What stands after the last `#` is the fragment, so a file whose own name has
a `#` in it ends its reference with `#`. `%`, `&`, `=` and `#` in a fragment's values are percent-encoded.

A reference that is absolute, climbs by `..`, or leads out of the root through a symbolic link is refused.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
from PIL import Image

from ... import images
from ...errors import UserError
from ...masks import Marked, MaskSizeError, check_size, marked, read_mask, read_mask_folder, share_of_range
from ...masks.components import Component, mask_components
from .. import arrays, label_files
from ..windows import repair
from . import coco_file

__all__ = [
    "Component",
    "MaskSizeError",
    "OutsideRootError",
    "Reference",
    "content_sha256",
    "format_reference",
    "mask_components",
    "mask_values",
    "open_mask",
    "open_reference",
    "parse_reference",
    "reference_size",
    "resolve",
]

_IMAGE_KEYS = frozenset({"bits", "view", "window", "repair", "by", "h5", "index"})
_MASK_KEYS = _IMAGE_KEYS | {"over", "inverted", "value", "folder", "coco", "labels", "only"}
_VIEW = re.compile(r"(\d{1,4})/(\d{1,4})", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A parsed reference.

    Attributes:
        path: relative to the root, with `/`.
        fragment: its keys and values, decoded.
    """

    path: str
    fragment: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return format_reference(self.path, **self.fragment)

    @property
    def view(self) -> tuple[int, int] | None:
        """(which, of how many) of a strip's equal parts, counted from 0."""
        if "view" not in self.fragment:
            return None
        found = _VIEW.fullmatch(self.fragment["view"])
        if not found or int(found[1]) >= int(found[2]):
            raise UserError(f"{self}: view is {self.fragment['view']!r}, expected K/N with K from 0 to N - 1")
        return int(found[1]), int(found[2])

    @property
    def window(self) -> tuple[int, int, int, int] | None:
        """The part that is shown, in pixels."""
        found = self._boxes("window")
        return found[0] if found else None

    @property
    def repaired(self) -> tuple[list[tuple[int, int, int, int]], Reference] | None:
        """The boxes that are overwritten, and the image beside this one by which they are."""
        boxes = self._boxes("repair")
        if not boxes:
            return None
        beside = parse_reference(self.path.rpartition("/")[0] + "/" + self.fragment.get("by", ""))
        return boxes, beside

    def _boxes(self, key: str) -> list[tuple[int, int, int, int]]:
        if key not in self.fragment:
            return []
        numbers = self.fragment[key].split("/")
        if len(numbers) % 4 or not all(re.fullmatch(r"[0-9]{1,6}", number) for number in numbers):
            raise UserError(f"{self}: {key} is {self.fragment[key]!r}, expected x1/y1/x2/y2 in pixels")
        return [tuple(map(int, numbers[place : place + 4])) for place in range(0, len(numbers), 4)]


class OutsideRootError(UserError):
    """A symbolic link leads out of the dataset's root."""


def format_reference(path: str, **fragment: str | int) -> str:
    """The reference of a file (relative, `/` between the parts) and a part of it."""
    text = "&".join(f"{key}={quote(str(value), safe='/ ')}" for key, value in fragment.items())
    return f"{path}#{text}" if text or "#" in path else path


def parse_reference(reference: str) -> Reference:
    """Take a reference apart.

    Raises:
        UserError: it is absolute, climbs by `..`, or has a malformed or unknown fragment.
    """
    path, mark, text = reference.rpartition("#")
    if not mark:
        path, text = reference, ""
    parts = path.split("/")
    if not path or path.startswith(("/", "\\")) or ".." in parts or "\0" in path or re.match(r"[A-Za-z]:[\\/]", path):
        raise UserError(f"{reference!r}: expected a path inside the dataset's root, without `..`")
    fragment = {}
    for pair in text.split("&") if text else ():
        key, equals, value = pair.partition("=")
        if not equals or key not in _MASK_KEYS or key in fragment:
            raise UserError(
                f"{reference!r}: {pair!r} after the `#`, expected KEY=VALUE with one of "
                f"{', '.join(sorted(_MASK_KEYS))}; "
                "a file name that has a `#` in it must be followed by one more"
            )
        fragment[key] = unquote(value)
    return Reference(path=path, fragment=fragment)


def resolve(root: str | os.PathLike, reference: str | Reference) -> Path:
    """The file or folder of a reference, which need not exist.

    Raises:
        OutsideRootError: it leads out of the root.
    """
    parsed = parse_reference(reference) if isinstance(reference, str) else reference
    path = os.path.join(root, parsed.path)
    try:
        real, base = os.path.realpath(path), os.path.realpath(root)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    if real != base and not real.startswith(base.rstrip(os.sep) + os.sep):
        raise OutsideRootError(
            f"{path}: a link that leads out of {os.fspath(root)} (to {real}); copy the file into it"
        )
    return Path(path)


def open_reference(root: str | os.PathLike, reference: str) -> Image.Image:
    """The image upright, in mode RGB, 8 bits a channel (`adcopilot.images.open_image`), cut to its view.

    Raises:
        UserError: the reference leads out of the root, or the image is missing, damaged or unusable.
    """
    parsed = _parse_image(reference)
    path = resolve(root, parsed)
    if "h5" in parsed.fragment:
        return images.open_image(arrays.read_image(path, *_array(parsed)), name=reference)
    image = images.open_image(path, bits=_bits(parsed))
    if parsed.view:
        left, right = _columns(image.width, parsed.view, reference)
        return image.crop((left, 0, right, image.height))
    if parsed.repaired:
        boxes, beside = parsed.repaired
        image = _repaired(image, images.open_image(resolve(root, beside)), boxes, reference)
    if parsed.window:
        return image.crop(_inside(parsed.window, image.size, reference))
    return image


def reference_size(root: str | os.PathLike, reference: str) -> tuple[int, int]:
    """(width, height) of the upright image in pixels, from the file's header.

    Raises:
        UserError: as `open_reference`, without looking at the pixels.
    """
    parsed = _parse_image(reference)
    path = resolve(root, parsed)
    if "h5" in parsed.fragment:
        return arrays.image_size(path, *_array(parsed))
    width, height = images.image_size(path)
    if parsed.view:
        left, right = _columns(width, parsed.view, reference)
        return right - left, height
    if parsed.window:
        x1, y1, x2, y2 = _inside(parsed.window, (width, height), reference)
        return x2 - x1, y2 - y1
    return width, height


def open_mask(root: str | os.PathLike, reference: str, *, size: tuple[int, int]) -> np.ndarray:
    """A mask as a boolean array (height, width): True where the defect is.

    Args:
        root: of the dataset.
        reference: of the mask.
        size: (width, height) of its image in pixels, which must be the mask's own.

    Raises:
        MaskSizeError: its size is another than the image's.
        UserError: the mask is missing, unreadable or outside the root.
    """
    return mask_values(root, reference, size=size).values > 0


def mask_values(root: str | os.PathLike, reference: str, *, size: tuple[int, int]) -> Marked:
    """A mask as numbers (height, width): 0 outside, elsewhere the class that the file gives each pixel.

    A mask of one class has whatever its file has there, 255 mostly; of an image in a COCO file the numbers are 1 + the
    position of the annotation's category in the file's list. Where files of a folder overlap the larger number stays.

    Returns:
        `adcopilot.masks.Marked`; `kind` is "annotated" of a COCO file.

    Raises:
        UserError: as `open_mask`.
    """
    parsed = parse_reference(reference)
    path = resolve(root, parsed)
    if "coco" in parsed.fragment:
        return Marked(values=coco_file.image_values(path, parsed.fragment["coco"], size=size), kind="annotated")
    if "labels" in parsed.fragment:
        only = parsed.fragment.get("only", "")
        values = label_files.image_values(path, parsed.fragment["labels"], size=size, only=only)
        return Marked(values=values, kind="annotated")
    options = _mask_options(parsed)
    if "h5" in parsed.fragment:
        values = arrays.read_mask(path, *_array(parsed))
        value = options.pop("value")
        found = marked(values if value is None else values == value, name=str(parsed), **options)
    elif "folder" in parsed.fragment:
        found = read_mask_folder(path, **options)
    else:
        found = read_mask(path, **options)
    mask = found.values
    if parsed.view:
        left, right = _columns(mask.shape[1], parsed.view, reference)
        mask = mask[:, left:right]
    check_size(mask, size, name=os.path.join(root, parsed.path))
    return Marked(values=mask, kind=found.kind)


def _mask_options(parsed: Reference) -> dict[str, Any]:
    """What `read_mask` is told about a mask."""
    over, value, inverted = (parsed.fragment.get(key) for key in ("over", "value", "inverted"))
    if value is not None and not re.fullmatch(r"[0-9]{1,5}", value):
        raise UserError(f"{parsed}: value is {value!r}, expected the number of a class")
    if inverted not in (None, "1"):
        raise UserError(f"{parsed}: inverted is {inverted!r}, expected 1")
    return {
        "threshold": None if over is None else share_of_range(over, name=str(parsed)),
        "inverted": inverted is not None,
        "value": None if value is None else int(value),
    }


def content_sha256(root: str | os.PathLike, reference: str) -> str:
    """SHA-256 (hexadecimal) of an image's content: the file's bytes, then `#` and the fragment where there is one.

    Of an image in an HDF5 file it is that of its pixels and shape, because such a file holds a whole category.

    Raises:
        UserError: the image cannot be read.
    """
    parsed = _parse_image(reference)
    path = resolve(root, parsed)
    if "h5" in parsed.fragment:
        return arrays.sha256(path, *_array(parsed))
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check the path") from None
    if parsed.repaired:
        digest.update(content_sha256(root, str(parsed.repaired[1])).encode())
    # The depth that a whole dataset uses says nothing about the content of one image.
    shown = str(Reference(path=parsed.path, fragment={k: v for k, v in parsed.fragment.items() if k != "bits"}))
    digest.update(shown[len(parsed.path) :].encode() if len(parsed.fragment.keys() - {"bits"}) else b"")
    return digest.hexdigest()


def _parse_image(reference: str) -> Reference:
    parsed = parse_reference(reference)
    wrong = sorted(parsed.fragment.keys() - _IMAGE_KEYS)
    if wrong:
        raise UserError(f"{reference!r}: {wrong[0]!r} is for masks, expected the reference of an image")
    return parsed


def _bits(parsed: Reference) -> int | None:
    text = parsed.fragment.get("bits")
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,2}", text) or not 1 <= int(text) <= 16:
        raise UserError(f"{parsed}: bits is {text!r}, expected the depth that the images use, 1 to 16")
    return int(text)


def _array(parsed: Reference) -> tuple[str, int | None]:
    """(name of the array, index in it or None where the array is a single image)"""
    index = parsed.fragment.get("index")
    if index is None:
        return parsed.fragment["h5"], None
    if not re.fullmatch(r"[0-9]{1,9}", index):
        raise UserError(f"{parsed}: index is {index!r}, expected the image's number in the array, from 0")
    return parsed.fragment["h5"], int(index)


def _inside(window, size: tuple[int, int], reference: str) -> tuple[int, int, int, int]:
    if not (window[0] < window[2] <= size[0] and window[1] < window[3] <= size[1]):
        raise UserError(f"{reference}: the window is not inside its {size[0]}×{size[1]} pixels")
    return window


def _repaired(image: Image.Image, template: Image.Image, boxes, reference: str) -> Image.Image:
    if image.size != template.size:
        raise UserError(f"{reference}: the image beside it has another size, expected an aligned pair")
    for box in boxes:
        _inside(box, image.size, reference)
    return Image.fromarray(repair(np.asarray(image), np.asarray(template), boxes))


def _columns(width: int, view: tuple[int, int], reference: str) -> tuple[int, int]:
    """First and last (exclusive) column of a view; a remainder at the right end belongs to none."""
    which, count = view
    part = width // count
    if part < 1:
        raise UserError(f"{reference}: {width} pixels wide, expected at least {count} for {count} views")
    return which * part, (which + 1) * part
