"""Masks in image files: what Pillow decodes, as one number a pixel, upright, 0 for what is no defect."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
from PIL import Image

from .. import images
from ..errors import UserError

__all__ = ["file_values", "folder_values", "selected"]

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".bmp", ".tif", ".tiff", ".webp"})
# Others, such as CMYK, have no number that means black.
_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "I", "I;16", "I;16B", "F"})

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


def folder_values(path: Path, **select: str | None) -> np.ndarray:
    """The union of all images in a folder; where they overlap the larger number stays.

    Raises:
        UserError: the folder is missing or empty, or a file is unreadable, of another size or a link out of it.
    """
    try:
        files = sorted(one for one in path.iterdir() if one.suffix.lower() in _SUFFIXES)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}), expected a folder of masks") from None
    if not files:
        raise UserError(f"{path}: holds no image, expected a folder of masks")
    union = None
    for file in files:
        if file.is_symlink() and os.path.dirname(os.path.realpath(file)) != os.path.realpath(path):
            raise UserError(f"{file}: a link that leads out of its folder; copy the file into it")
        mask = file_values(file, **select)
        if union is not None and union.shape != mask.shape:
            raise UserError(
                f"{file}: {mask.shape[1]}×{mask.shape[0]} pixels, expected {union.shape[1]}×{union.shape[0]} like the "
                "other masks in its folder"
            )
        union = mask if union is None else np.maximum(union, mask)
    return union


def file_values(path: Path, **select: str | None) -> np.ndarray:
    """A mask file's numbers, upright, (height, width).

    Args:
        path: the file.
        select: `over` and `value`, as `selected`.

    Raises:
        UserError: the file is missing, damaged, too small or too large.
    """
    name = str(path)
    # Sizes before pixels: a mask is bounded like any image.
    images.image_size(path, name=name)
    try:
        with Image.open(path) as opened:
            image = opened
            lossy = image.format in ("JPEG", "MPO")
            # Pillow turns a TIFF upright as it decodes it.
            orientation = 1 if image.format == "TIFF" else image.getexif().get(0x0112, 1)
            # A palette's numbers are classes, unless brightness is asked for.
            if image.mode not in _MODES or (select.get("over") and image.mode in ("P", "PA")):
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
    mask = selected(values, full=full, lossy=lossy, **select)
    return np.asarray(_TURN[orientation](mask)) if orientation in _TURN else mask


def selected(
    values: np.ndarray, *, full: float, lossy: bool = False, over: str | None = None, value: str | None = None
) -> np.ndarray:
    """What of a mask's numbers is meant, as unsigned integers, 0 elsewhere.

    Args:
        values: (height, width).
        full: the number that stands for white.
        lossy: the background is never quite 0.
        over: `half` for what is brighter than half of `full`.
        value: only this number, as text.

    Raises:
        UserError: `over` or `value` is malformed.
    """
    if over not in (None, "half"):
        raise UserError(f"over is {over!r}, expected `half`")
    if value is not None:
        if not re.fullmatch(r"[0-9]{1,5}", value):
            raise UserError(f"value is {value!r}, expected the number of a class")
        return (values == int(value)).astype(np.uint8)
    if over or lossy:
        return (values > full / 2).astype(np.uint8)
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        return values
    # Truth values, 32 bits, floats: no classes are written like that.
    return (values != 0).astype(np.uint8)
