"""References: how a table names an image or a mask inside a dataset that nobody copies or changes.

    test/broken_large/000.png                      a file, relative to the dataset's root, `/` between the parts
    capsule/test/crack/a.png#view=2/5              the third of five equal parts of a strip (counted from 0)
    train/bolt.h5#h5=Images/Normal_0&index=7       the eighth image of an HDF5 array

Masks may also say

    ground_truth/logical_anomalies/000#folder=1    a folder: the union of all images in it
    Data/Masks/Anomaly/000.png#value=3             only the pixels of one class of an index mask
    ground_truth/crack/a.png#view=2/5&over=half    brighter than half of the full scale
    train/_annotations.coco.json#coco=17           the polygons and run lengths of one image of a COCO file

Without `over` and `value` a pixel belongs to a mask when it is not 0; in a lossy file (JPEG), whose background is
never quite 0, when it is brighter than half. What stands after the last `#` is the fragment, so a file whose own name
has a `#` in it ends its reference with `#`. `%`, `&`, `=` and `#` in a fragment's values are percent-encoded.

A reference that is absolute, climbs by `..`, or leads out of the root through a symbolic link is refused.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np
from PIL import Image

from .. import images
from ..errors import UserError
from . import arrays, coco_file

__all__ = [
    "Component",
    "Reference",
    "content_sha256",
    "format_reference",
    "image_size",
    "mask_components",
    "open_image",
    "open_mask",
    "parse_reference",
    "read_bytes",
    "resolve",
]

_IMAGE_KEYS = frozenset({"view", "h5", "index"})
_MASK_KEYS = _IMAGE_KEYS | {"over", "value", "folder", "coco"}
_VIEW = re.compile(r"(\d{1,4})/(\d{1,4})", re.ASCII)
_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})


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


@dataclass(frozen=True, kw_only=True)
class Component:
    """A connected region of a mask: its box (x1, y1, x2, y2), x2 and y2 exclusive, and its area in pixels."""

    box: tuple[int, int, int, int]
    area: int


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
        UserError: it leads out of the root.
    """
    parsed = parse_reference(reference) if isinstance(reference, str) else reference
    path = os.path.join(root, parsed.path)
    try:
        real, base = os.path.realpath(path), os.path.realpath(root)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    if real != base and not real.startswith(base.rstrip(os.sep) + os.sep):
        raise UserError(f"{path}: a link that leads out of {os.fspath(root)} (to {real}); copy the file into it")
    return Path(path)


def open_image(root: str | os.PathLike, reference: str) -> Image.Image:
    """The image upright, in mode RGB, 8 bits a channel (`adcopilot.images.open_image`), cut to its view.

    Raises:
        UserError: the reference leads out of the root, or the image is missing, damaged or unusable.
    """
    parsed = _parse_image(reference)
    path = resolve(root, parsed)
    if "h5" in parsed.fragment:
        return images.open_image(arrays.read_image(path, *_array(parsed)), name=reference)
    image = images.open_image(path)
    if parsed.view:
        left, right = _columns(image.width, parsed.view, reference)
        return image.crop((left, 0, right, image.height))
    return image


def image_size(root: str | os.PathLike, reference: str) -> tuple[int, int]:
    """(width, height) of the upright image in pixels, from the file's header.

    Raises:
        UserError: as `open_image`, without looking at the pixels.
    """
    parsed = _parse_image(reference)
    path = resolve(root, parsed)
    if "h5" in parsed.fragment:
        return arrays.image_size(path, *_array(parsed))
    width, height = images.image_size(path)
    if parsed.view:
        left, right = _columns(width, parsed.view, reference)
        return right - left, height
    return width, height


def open_mask(root: str | os.PathLike, reference: str, *, size: tuple[int, int]) -> np.ndarray:
    """A mask as a boolean array (height, width): True where the defect is.

    Args:
        root: of the dataset.
        reference: of the mask.
        size: (width, height) of its image in pixels, which must be the mask's own.

    Raises:
        UserError: the mask is missing, unreadable or outside the root, or its size is another than the image's.
    """
    parsed = parse_reference(reference)
    path = resolve(root, parsed)
    if "coco" in parsed.fragment:
        return coco_file.image_mask(path, parsed.fragment["coco"], size=size)
    if "h5" in parsed.fragment:
        mask = _select(arrays.read_mask(path, *_array(parsed)), parsed, full=1, lossy=False)
    elif "folder" in parsed.fragment:
        mask = _folder_mask(path, parsed)
    else:
        mask = _file_mask(path, parsed)
    if parsed.view:
        left, right = _columns(mask.shape[1], parsed.view, reference)
        mask = mask[:, left:right]
    if mask.shape != (size[1], size[0]):
        raise UserError(
            f"{os.path.join(root, parsed.path)}: the mask has {mask.shape[1]}×{mask.shape[0]} pixels but its image "
            f"{size[0]}×{size[1]}; expected the same size"
        )
    return mask


def read_bytes(root: str | os.PathLike, reference: str) -> bytes:
    """An image as an encoded file: the file's own bytes, or a PNG of the part that a fragment names.

    Raises:
        UserError: as `open_image`; a whole file's pixels are not looked at.
    """
    if _parse_image(reference).fragment:
        buffer = io.BytesIO()
        open_image(root, reference).save(buffer, "PNG")
        return buffer.getvalue()
    path = resolve(root, reference)
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check the path") from None


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
    if parsed.fragment:
        digest.update(str(parsed)[len(parsed.path) :].encode())
    return digest.hexdigest()


def mask_components(mask: np.ndarray, *, min_area: int = 1) -> list[Component]:
    """The connected regions of a boolean mask (height, width), eight neighbours a pixel, in reading order.

    Args:
        mask: True where the defect is.
        min_area: smaller regions, in pixels, are left out.
    """
    from scipy import ndimage

    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return []
    # Defects are small: labelling only where there is something is most of the speed.
    top, left = int(rows[0]), int(columns[0])
    labelled, count = ndimage.label(mask[top : rows[-1] + 1, left : columns[-1] + 1], np.ones((3, 3), bool))
    areas = np.bincount(labelled.ravel(), minlength=count + 1)
    found = []
    for index, (ys, xs) in enumerate(ndimage.find_objects(labelled), 1):
        box = (xs.start + left, ys.start + top, xs.stop + left, ys.stop + top)
        if areas[index] >= min_area:
            found.append(Component(box=box, area=int(areas[index])))
    return sorted(found, key=lambda one: (one.box[1], one.box[0], one.box[3], one.box[2], one.area))


def _parse_image(reference: str) -> Reference:
    parsed = parse_reference(reference)
    wrong = sorted(parsed.fragment.keys() - _IMAGE_KEYS)
    if wrong:
        raise UserError(f"{reference!r}: {wrong[0]!r} is for masks, expected the reference of an image")
    return parsed


def _array(parsed: Reference) -> tuple[str, int | None]:
    """(name of the array, index in it or None where the array is a single image)"""
    index = parsed.fragment.get("index")
    if index is None:
        return parsed.fragment["h5"], None
    if not re.fullmatch(r"[0-9]{1,9}", index):
        raise UserError(f"{parsed}: index is {index!r}, expected the image's number in the array, from 0")
    return parsed.fragment["h5"], int(index)


def _columns(width: int, view: tuple[int, int], reference: str) -> tuple[int, int]:
    """First and last (exclusive) column of a view; a remainder at the right end belongs to none."""
    which, count = view
    part = width // count
    if part < 1:
        raise UserError(f"{reference}: {width} pixels wide, expected at least {count} for {count} views")
    return which * part, (which + 1) * part


def _folder_mask(path: Path, parsed: Reference) -> np.ndarray:
    try:
        files = sorted(one for one in path.iterdir() if one.suffix.lower() in _SUFFIXES)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}), expected a folder of masks") from None
    if not files:
        raise UserError(f"{path}: holds no image, expected a folder of masks")
    union = None
    for file in files:
        # A link inside the folder is checked like any other reference.
        mask = _file_mask(resolve(path, Reference(path=file.name)), parsed)
        if union is not None and union.shape != mask.shape:
            raise UserError(
                f"{file}: {mask.shape[1]}×{mask.shape[0]} pixels, expected {union.shape[1]}×{union.shape[0]} like the "
                "other masks in its folder"
            )
        union = mask if union is None else union | mask
    return union


def _file_mask(path: Path, parsed: Reference) -> np.ndarray:
    name = str(path)
    # Sizes before pixels: a mask is bounded like any image.
    images.image_size(path, name=name)
    try:
        with Image.open(path) as opened:
            image = opened
            lossy = image.format in ("JPEG", "MPO")
            # Pillow turns a TIFF upright as it decodes it.
            orientation = 1 if image.format == "TIFF" else image.getexif().get(0x0112, 1)
            if "over" in parsed.fragment and image.mode in ("P", "PA"):
                image = image.convert("L")
            values = np.asarray(image)
            mode = image.mode
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, zlib.error, EOFError…
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise UserError(f"{name}: the mask is truncated or corrupt ({reason}); copy it again") from error
    if values.ndim == 3:
        colours = values[..., : len(mode.rstrip("Aa")) or None]
        if mode in ("RGBA", "LA", "PA"):
            colours = colours * (values[..., -1:] > 0)  # what is fully transparent is background
        values = colours.max(axis=2)
    full = {"1": 1, "F": 1.0}.get(mode, 65535 if mode.startswith("I") else 255)
    mask = _select(values, parsed, full=full, lossy=lossy)
    return np.asarray(_TURN[orientation](mask)) if orientation in _TURN else mask


def _select(values: np.ndarray, parsed: Reference, *, full: float, lossy: bool) -> np.ndarray:
    over, value = parsed.fragment.get("over"), parsed.fragment.get("value")
    if over not in (None, "half"):
        raise UserError(f"{parsed}: over is {over!r}, expected `half`")
    if value is not None:
        if not re.fullmatch(r"[0-9]{1,5}", value):
            raise UserError(f"{parsed}: value is {value!r}, expected the number of a class")
        return values == int(value)
    return values > full / 2 if over or lossy else values != 0


# EXIF orientation → the same turn of an array (rows first).
_TURN = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: a.T[:, ::-1],
    7: lambda a: a[::-1, ::-1].T,
    8: lambda a: a.T[::-1],
}
