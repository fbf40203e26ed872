"""The numbers of a mask's file: an image of any kind, or an array of NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from .. import images
from ..errors import UserError, one_line
from ..image_depth import bands, is_wide

__all__ = ["array_numbers", "image_numbers", "is_lossy"]


def array_numbers(path: Path) -> np.ndarray:
    """(height, width) of a `.npy` file.

    Raises:
        UserError: it cannot be read, or is no mask.
    """
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        if found.ndim == 3 and 1 in (found.shape[0], found.shape[2]):
            found = found[0] if found.shape[0] == 1 else found[..., 0]
        if found.ndim != 2 or found.dtype.kind not in "buif":
            raise UserError(
                f"{path}: an array of shape {found.shape} and {found.dtype}, expected numbers (height, width)"
            )
        if found.size > images.MAX_PIXELS:
            raise UserError(f"{path}: {found.shape[1]}×{found.shape[0]} is more than {images.MAX_PIXELS:,} pixels")
        return np.array(found)
    except UserError:
        raise
    except Exception as error:  # OSError, ValueError, EOFError, MemoryError of a damaged header, SyntaxError…
        reason = one_line(error)
        raise UserError(f"{path}: cannot be read as an array of NumPy ({reason}); write it again") from error


def is_lossy(image: Image.Image, path: Path) -> bool:
    """Whether a file's kind changes numbers, so that its background is never quite 0."""
    if image.format == "WEBP":
        with open(path, "rb") as file:
            return b"VP8L" not in file.read(64)
    return image.format in ("JPEG", "MPO") or image.info.get("compression") in ("jpeg", "webp")


def image_numbers(image: Image.Image, *, indices: bool) -> tuple[np.ndarray, float | None]:
    """(height, width) and the number of white, None where the type says it.

    Args:
        image: not yet decoded.
        indices: of a palette the indices themselves.
    """
    mode = image.mode
    if mode == "P" and indices:
        return np.asarray(image), None
    if mode in ("1", "L", "I", "F") or mode.startswith("I;16"):
        values = np.asarray(image)
        white = 65535 if mode.startswith("I") else 255 if mode == "L" else None
        return (values.astype(values.dtype.newbyteorder("=")) if mode == "I;16B" else values), white
    if is_wide(image):  # of which Pillow would keep the upper byte
        wide = np.concatenate([part for part, _ in bands(image, "mask")])
        return (
            (wide[..., 0], 65535) if (wide[..., :1] == wide).all() else (_distance((wide >> 8).astype(np.uint8)), 255)
        )
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA"))
        opaque = rgba[..., 3]
        if (opaque < 255).any():
            return _seen(rgba[..., :3], opaque), 255
    if mode == "P":
        return _palette(image)
    return _distance(np.asarray(image.convert("RGB"))), 255


def _palette(image: Image.Image) -> tuple[np.ndarray, float | None]:
    used = [index for index, count in enumerate(image.histogram()) if count]
    colours = np.array(image.getpalette("RGB")).reshape(-1, 3)
    if used[-1] >= len(colours) or (np.ptp(colours[used], axis=1) == 0).all():
        return np.asarray(image.convert("L")), 255
    values = np.asarray(image)
    counts = np.array(image.histogram())[used]
    back = used[_background(colours[used], counts)]
    if back == 0:
        return values, None
    # Index 0 is a class of its own here.
    return np.where(values == back, 0, values.astype(np.uint16) + 1), None


def _distance(colours: np.ndarray) -> np.ndarray:
    """How far each pixel is from the background: (height, width), 8 bits, from (height, width, 3)."""
    if (colours[..., :1] == colours).all():
        return np.ascontiguousarray(colours[..., 0])
    packed = colours.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
    kinds, counts = np.unique(packed, return_counts=True)
    parts = np.stack([kinds >> 16, kinds >> 8 & 255, kinds & 255], axis=1)
    back = parts[_background(parts, counts)].astype(np.int16)
    far = np.zeros(colours.shape[:2], np.uint8)
    for channel in range(3):
        np.maximum(far, np.abs(colours[..., channel].astype(np.int16) - back[channel]).astype(np.uint8), out=far)
    return far


def _background(colours: np.ndarray, counts: np.ndarray) -> int:
    """Which of some colours (n, 3) with their pixels is the background's."""
    # JPEG's black is not quite black.
    black, white = (colours.max(axis=1) < 32), (colours.min(axis=1) > 223)
    either = black if counts[black].sum() >= counts[white].sum() else white
    if not counts[either].sum():
        either = np.ones(len(colours), bool)
    return int(np.flatnonzero(either)[counts[either].argmax()])


def _seen(colours: np.ndarray, opaque: np.ndarray) -> np.ndarray:
    """Of a picture with transparency: (height, width), 8 bits."""
    shown = colours[opaque > 127]
    dark, light = (shown.max(axis=-1) < 32), (shown.min(axis=-1) > 223)
    several = shown.size and np.ptp(shown.reshape(-1, 3).astype(np.int16), axis=0).max() > 32
    if not several or not (dark.any() or light.any()):
        return opaque
    # A mask with a transparent margin, or drawn on a white sheet that is cut out.
    far = _distance(np.where((opaque > 127)[..., None], colours, 0 if dark.sum() >= light.sum() else 255))
    return far
