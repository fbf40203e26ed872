"""Images of 16 and more bits a channel, as 8 bits: scaled by one depth, a few rows at a time.

Pillow has modes for wide grey (`I;16`, `I`, `F`) and none for wide colour, of which it keeps the upper byte. Cameras
write 10, 12 or 14 bits into 16-bit files, so neither is what was photographed. `images.used_bits` finds the depth that
a set of images uses, `images.open_image` scales by it.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import Image

from .errors import UserError

__all__ = ["bands", "bits_of", "is_wide", "scaled", "stated_bits"]

#: Depths that cameras and their files have.
_DEPTHS = (8, 10, 12, 14, 16)

# Bytes that are scaled at a time.
_BAND = 8 << 20


def is_wide(image: Image.Image) -> bool:
    """Whether a file has more than 8 bits a channel, decoded or not."""
    return image.mode in ("F", "I") or image.mode.startswith("I;16") or _raw_mode(image) is not None


def _raw_mode(image: Image.Image) -> str | None:
    """How an undecoded file stores 16 bits a channel of several (`RGB;16B`), None where it does not.

    Pillow has no mode for those: it decodes them into 8 bits and drops the lower byte.
    """
    if image.mode not in ("RGB", "RGBA", "LA") or not getattr(image, "tile", None):
        return None
    args = image.tile[0][3]
    raw = args if isinstance(args, str) else args[0] if isinstance(args, tuple) and args else None
    return raw if isinstance(raw, str) and ";16" in raw else None


def stated_bits(image: Image.Image) -> int | None:
    """10, 12 or 14 where a TIFF states so: Pillow unpacks those without scaling them."""
    if image.format != "TIFF" or not image.mode.startswith("I;16"):
        return None
    bits = image.tag_v2.get(258, (16,))[0]
    return bits if bits in (10, 12, 14) else None


def bits_of(value: int) -> int:
    """The least depth that holds a value up to 65535."""
    return next(bits for bits in _DEPTHS if value >> bits == 0)


def bands(image: Image.Image, name: str) -> Iterator[tuple[np.ndarray, Image.Image | None]]:
    """A wide image from top to bottom, a few rows at a time: pixels (rows, width[, 3]), uint16 or float, and alpha.

    Alpha is of 8 bits: it is a matter of the file's full range, never of the camera's depth.

    Raises:
        UserError: numbers outside of what an image can have.
    """
    raw = _raw_mode(image)
    low = None if raw is None else _low_bytes(image, raw)
    image.load()
    width, height = image.size
    rows = max(1, _BAND // (width * 8))
    for top in range(0, height, rows):
        box = (0, top, width, min(top + rows, height))
        part = image.crop(box)
        alpha = part.getchannel("A") if part.mode == "RGBA" else None
        values = np.asarray(part)
        if low is not None:
            values = values[..., :3].astype(np.uint16) << 8
            values |= np.asarray(low.crop(box))[..., :3]
        elif image.mode == "F":
            least, most = values.min(), values.max()
            if not (least >= 0 and most <= 1):  # not a number, too
                raise UserError(
                    f"{name}: float pixels from {least:g} to {most:g}, expected 0 to 1; save it as 8 or 16 bit"
                )
        elif image.mode == "I":
            least, most = values.min(), values.max()
            if least < 0 or most > 65535:
                raise UserError(
                    f"{name}: 32-bit pixels from {least} to {most}, expected 0 to 65535; save it as 8 or 16 bit"
                )
            values = values.astype(np.uint16)
        yield values, alpha


def _low_bytes(image: Image.Image, raw: str) -> Image.Image:
    """The lower byte of each channel of an image that is not decoded yet.

    The file is decoded once more with its bytes taken in the other order, so that what Pillow drops is what it keeps.
    """
    twin = Image.open(image.fp, formats=[image.format])
    big = raw.endswith("B") or (raw.endswith("N") and sys.byteorder == "big")
    other = raw[:-1] + ("L" if big else "B")
    if raw == "LA;16B":  # no such order exists: its two times two bytes are taken as four channels
        other = "RGBA"
    twin.tile = [
        tile._replace(args=other if isinstance(tile.args, str) else (other, *tile.args[1:])) for tile in twin.tile
    ]
    twin.load()
    return Image.merge("RGB", [twin.getchannel(1)] * 3) if raw == "LA;16B" else twin


def scaled(image: Image.Image, name: str, bits: int | None) -> Image.Image:
    """A wide image as RGB, scaled by its file's stated depth, else by `bits`, else by 16 bits; transparency on white.

    Raises:
        UserError: values that no image has, or above what `bits` holds.
    """
    bits = stated_bits(image) or bits or 16
    full = (1 << bits) - 1
    table = ((np.arange(full + 1, dtype=np.uint32) * 255 + full // 2) // full).astype(np.uint8)
    stated = stated_bits(image) is not None
    result, top, most = Image.new("RGB", image.size), 0, 0
    for values, alpha in bands(image, name):
        if image.mode == "F":
            band = np.rint(values * 255).astype(np.uint8)
        else:
            most = max(most, int(values.max()))
            if most > full and not stated:
                raise UserError(
                    f"{name}: holds {most}, more than the {bits} bits that the other images of its set use; inspect "
                    "or build all of them together, or convert them to 8 bits"
                )
            band = table[np.minimum(values, full) if most > full else values]
        part = Image.fromarray(band).convert("RGB")
        if alpha is not None:
            part = Image.composite(part, Image.new("RGB", part.size, "white"), alpha)
        result.paste(part, (0, top))
        top += part.height
    if image.mode != "F" and bits == 16 and most > 0:
        _warn_of_depth(bits_of(most), name)
    return result


_told: set[int] = set()


def _warn_of_depth(used: int, name: str) -> None:
    """Say once in a process that images are darker than they were meant."""
    if used < 16 and used not in _told:
        _told.add(used)
        warnings.warn(
            f"{name}: uses {used} of 16 bits and is scaled by all 16, so it is seen nearly black; `adcopilot inspect` "
            "and `adcopilot data build` scale a whole set by the bits that it uses; for anything else convert the "
            "files to 8 bits",
            UserWarning,
            stacklevel=2,
        )
