"""Pictures as Python programs have them: an array becomes a PIL image, or one line says why it cannot."""

from __future__ import annotations

import os
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

from ..errors import UserError
from ..images import ImageSource
from .result import source_name

__all__ = ["CHANNELS", "Channels", "as_source"]

#: The order of an array's three channels: Pillow's and most libraries', or OpenCV's.
Channels = Literal["rgb", "bgr"]
CHANNELS = get_args(Channels)


def as_source(picture: Any, *, role: str, channels: Channels = "rgb") -> ImageSource:
    """What `images.open_image` reads, of what a program has.

    Args:
        picture: a path, encoded bytes, a binary file, a PIL image, or an array: (H, W, 3) uint8, (H, W) or (H, W, 1)
            uint8, or uint16 of a camera, which is scaled as a file of 16 bits is.
        role: `template` or `query`, for messages.
        channels: one of `CHANNELS`: `bgr` for what `cv2.imread` and `cv2.VideoCapture` return. Of arrays alone: files
            and PIL images say theirs.

    Returns:
        The picture itself, or a PIL image that shares no memory with the array, which may be written over.

    Raises:
        UserError: it is no picture, or an array of another shape, type or range.
    """
    if isinstance(picture, np.ndarray):
        return _image_of(picture, role, channels)
    if isinstance(picture, (str, os.PathLike, bytes, bytearray, dict, Image.Image)):
        return picture
    if hasattr(picture, "read"):  # looked at more than once, and it may be closed or have no way back
        content = picture.read()
        if not isinstance(content, bytes):
            raise UserError(f"the {role} is a file of text, expected a binary one; open it with 'rb'")
        return {"bytes": content, "path": source_name(picture, role)}
    if picture is None:
        raise UserError(
            f"the {role} is None (as cv2.imread returns for a file that it cannot read), expected a picture; only a "
            "template may be left out, with a line's folder or template_dir"
        )
    kind = f"{type(picture).__module__.partition('.')[0]}.{type(picture).__name__}"
    remedy = ""
    if kind == "torch.Tensor":
        remedy = "; give tensor.cpu().numpy() as (H, W, 3) uint8"
    elif isinstance(picture, (list, tuple)):
        remedy = "; for several queries use inspect_many([(template, query), …])"
    raise UserError(
        f"the {role} is {kind.removeprefix('builtins.')}, expected a path, bytes, a file, a PIL image or a NumPy "
        f"array{remedy}"
    )


def _image_of(array: np.ndarray, role: str, channels: Channels) -> Image.Image:
    shape = "×".join(map(str, array.shape)) or "no dimension"
    given = f"the {role} is an array of {shape} {array.dtype}"
    if array.size == 0:
        raise UserError(f"{given}: expected a picture, this has no pixels; check how it was cut out")
    if array.ndim == 4:
        raise UserError(f"{given}: expected one picture; give a batch to inspect_many, a pair for each")
    if array.ndim not in (2, 3):
        raise UserError(f"{given}: expected (H, W, 3) or (H, W)")
    if array.ndim == 3 and array.shape[2] not in (1, 3):
        if array.shape[0] in (1, 3):
            raise UserError(f"{given}: channels come first; give array.transpose(1, 2, 0)")
        if array.shape[2] == 4:
            raise UserError(
                f"{given}: what the fourth channel means is not known; give array[..., :3], or for transparency "
                "PIL.Image.fromarray(array)"
            )
        raise UserError(f"{given}: expected 3 channels, or (H, W) for grey")
    wide = array.dtype == np.uint16
    if array.dtype != np.uint8 and not (wide and (array.ndim == 2 or array.shape[2] == 1)):
        raise UserError(f"{given}: expected uint8; {_to_uint8(array)}")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim == 3 and channels == "bgr":
        array = array[..., ::-1]
    return Image.fromarray(np.array(array, order="C"))


def _to_uint8(array: np.ndarray) -> str:
    """How to make one of another type."""
    if array.dtype == bool:
        return "give array.astype('uint8') * 255"
    if array.dtype == np.uint16:
        return "give (array >> 8).astype('uint8') for 16 bits, >> 4 for 12"
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            return "it holds values that are not finite"
        low, high = float(array.min()), float(array.max())
        if low >= 0 and high <= 1:
            return "give (array * 255).round().astype('uint8') for values from 0 to 1"
        if low >= 0 and high <= 255:
            return "give array.round().astype('uint8') for values from 0 to 255"
        return f"its values are from {low:g} to {high:g}: undo the normalisation, then scale to 0 to 255"
    if array.dtype.kind in "iu":
        low, high = int(array.min()), int(array.max())
        if low >= 0 and high <= 255:
            return "give array.astype('uint8')"
        return f"its values are from {low} to {high}: scale them to 0 to 255"
    return "give numbers from 0 to 255"
