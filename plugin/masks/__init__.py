"""What a mask marks: one rule for every reader, whatever drew the mask.

A mask is one number a pixel. Of its numbers

- **two** are background and defect, whatever they are (0 and 1, 0 and 255, 38 and 75): 0 is the background, the lower
  one where there is no 0;
- **3 to 33, one of them 0, are classes** (each number that is not 0 is a defect) if none is above 32, or if each of
  them somewhere fills a square of 3×3 pixels, which the numbers on a soft edge do not. 255 beside numbers of 1 to 32
  that do is the thin outline that VOC's masks leave unlabelled: background, if it nowhere fills one;
- **other masks are many-valued**: resampled, drawn soft, JPEG. A pixel is a defect's when it is above the middle
  between the mask's own darkest and brightest pixel. Pieces that hang together through pixels above a quarter are one
  defect, and those pixels belong to it: else a thin line that was shrunk falls into dots. Regions that nowhere reach
  the middle are faint, and left out. In JPEG and floats, differences below an eighth of the scale are noise.
- **one**: 0 marks nothing, anything else marks everything.

The numbers of a file: grey as it is; colours by their distance from the background, which is black or white, whichever
there is more of, else the commonest colour; what is transparent is background, and where the rest is of one colour, or
nothing of it black or white, opacity is all that counts. Palettes of greys are greys, others number classes by their
indices. Numbers that are not finite are refused.

`threshold` sets another share of the range than the middle, for all masks of more than two numbers (0: all that is not
background), `inverted` takes the background for the defect. A mask that marks more than `most` of its image is refused
where training data is made: it is inverted far more often than it is true.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .. import images
from ..errors import UserError, one_line
from ..image_depth import bands, is_wide

__all__ = [
    "INVERSIONS",
    "MASK_SUFFIXES",
    "Marked",
    "MaskOptions",
    "MaskSizeError",
    "check_options",
    "check_size",
    "marked",
    "read_mask",
    "read_mask_folder",
    "share_of_range",
]

#: Files that can be masks: images, and arrays of NumPy.
MASK_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".bmp", ".tif", ".tiff", ".webp", ".npy"})

#: Which masks are taken as inverted: none, all, or those that mark more than `MaskOptions.most`.
INVERSIONS = ("none", "all", "large")

# Numbers beside 0, and the largest number, of what can only be classes.
_CLASSES = 32

# Below this share of the scale nothing is drawn in a JPEG or in floats.
_NOISE = 1 / 8

# EXIF orientation → the same turn of an array (rows first).
_TURN: Mapping[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: a.T[:, ::-1],
    7: lambda a: a[::-1, ::-1].T,
    8: lambda a: a.T[::-1],
}


class MaskSizeError(UserError):
    """A mask has another size than its image."""


@dataclass(frozen=True, kw_only=True)
class MaskOptions:
    """How the masks of a data set are read.

    Attributes:
        threshold: share of a many-valued mask's range above which a pixel is a defect's; None for the rule above.
        inverted: one of `INVERSIONS`.
        most: the largest share of its image that a mask may mark.
    """

    threshold: float | None = None
    inverted: str = "none"
    most: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Marked:
    """What a mask marks.

    Attributes:
        values: (height, width), unsigned: 0 outside, elsewhere the class (whatever number the file has, 1 of
            many-valued masks).
        kind: "two-level", "classes", "many-valued", "many-valued with faint regions", "one-level"; "inverted " before
            it where it was.
    """

    values: np.ndarray
    kind: str


def check_options(options: MaskOptions, *, threshold: str, most: str) -> None:
    """Refuse options that no mask can have; `threshold` and `most` are how they are typed.

    Raises:
        UserError: a share is outside of 0 to 1.
    """
    if options.threshold is not None and not 0 <= options.threshold < 1:  # not a number, too
        raise UserError(f"{threshold} is {options.threshold:g}, expected a share of the range, from 0 to below 1")
    if not 0 < options.most <= 1:
        raise UserError(f"{most} is {options.most:g}, expected a share of the image, above 0 and at most 1")


def read_mask(
    path: Path, *, threshold: float | None = None, inverted: bool = False, value: int | None = None
) -> Marked:
    """What a mask file marks, upright.

    Args:
        path: an image, or a `.npy` array.
        threshold: as `MaskOptions`.
        inverted: whether the background is the defect.
        value: only this class.

    Raises:
        UserError: missing, damaged, too small or too large, or numbers that are not finite.
    """
    name = str(path)
    turn = None
    if path.suffix.lower() == ".npy":
        values, full, lossy = _array_numbers(path), None, False
    else:
        # Sizes before pixels: a mask is bounded like any image.
        images.image_size(path, name=name)
        try:
            with Image.open(path, formats=images.FORMATS) as image:
                turn = images.orientation(image)
                lossy = _is_lossy(image, path)
                values, full = _numbers(image, indices=value is not None)
        except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, zlib.error…
            reason = one_line(error)
            raise UserError(f"{name}: the mask is truncated or corrupt ({reason}); copy it again") from error
    if value is not None:
        found = Marked(values=(values == value).astype(np.uint8), kind="two-level")
    else:
        found = marked(values, name=name, full=full, lossy=lossy, threshold=threshold, inverted=inverted)
    if turn in _TURN:
        return Marked(values=np.ascontiguousarray(_TURN[turn](found.values)), kind=found.kind)
    return found


def read_mask_folder(path: Path, **options) -> Marked:
    """The union of all masks in a folder (`read_mask` of each); where they overlap the larger number stays.

    Raises:
        UserError: the folder is missing or empty, or a file is unreadable, of another size or a link out of it.
    """
    try:
        files = sorted(one for one in path.iterdir() if one.suffix.lower() in MASK_SUFFIXES)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}), expected a folder of masks") from None
    if not files:
        raise UserError(f"{path}: holds no image, expected a folder of masks")
    union, kinds = None, set()
    for file in files:
        if file.is_symlink() and os.path.dirname(os.path.realpath(file)) != os.path.realpath(path):
            raise UserError(f"{file}: a link that leads out of its folder; copy the file into it")
        found = read_mask(file, **options)
        kinds.add(found.kind)
        if union is not None and union.shape != found.values.shape:
            raise UserError(
                f"{file}: {found.values.shape[1]}×{found.values.shape[0]} pixels, expected "
                f"{union.shape[1]}×{union.shape[0]} like the other masks in its folder"
            )
        union = found.values if union is None else np.maximum(union, found.values)
    return Marked(values=union, kind=max(kinds, key=lambda kind: ("many-valued" in kind, kind)))


def marked(
    values: np.ndarray,
    *,
    name: str = "mask",
    full: float | None = None,
    lossy: bool = False,
    threshold: float | None = None,
    inverted: bool = False,
) -> Marked:
    """What an array of numbers marks.

    Args:
        values: (height, width), boolean, integers or floats.
        name: for messages.
        full: the number that stands for white; by default that of the type, of floats 1, or 255 where one is above 1.
        lossy: the background is never quite 0.
        threshold, inverted: as `read_mask`.

    Raises:
        UserError: it has not two dimensions, or holds what is no finite number.
    """
    values = np.asarray(values)
    if values.ndim != 2 or values.dtype.kind not in "buif":
        raise UserError(f"{name}: a mask of shape {values.shape} and {values.dtype}, expected numbers (height, width)")
    if not values.size:
        return Marked(values=np.zeros(values.shape, np.uint8), kind="one-level")
    if values.dtype == bool:
        values = values.astype(np.uint8)
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            wrong = int(values.size - np.count_nonzero(np.isfinite(values)))
            raise UserError(
                f"{name}: {wrong} of {values.size} pixels of the mask are no finite numbers (NaN or infinite); "
                "write it again, with 0 where there is no defect"
            )
        full = (1.0 if values.max() <= 1 else 255.0) if full is None else full
    levels = _levels(values)
    least, most = levels[0], levels[-1]
    full = (np.iinfo(values.dtype).max if values.dtype.kind in "ui" else 1.0) if full is None else full
    prefix = "inverted " if inverted else ""
    wide = float(most) - float(least)  # of unsigned numbers, differences would wrap
    noise = _NOISE * full
    if len(levels) == 1 or (lossy and wide < noise):
        everything = most > (noise if lossy else 0) or least < 0
        return Marked(values=np.full(values.shape, everything != inverted, np.uint8), kind=f"{prefix}one-level")
    if len(levels) == 2 and not lossy:
        back = 0 if 0 in levels else least
        if inverted:
            return Marked(values=(values == back).astype(np.uint8), kind=f"{prefix}two-level")
        return Marked(values=_classes(values, back), kind="two-level")
    if threshold is None and not lossy and _has_outline(values, levels):
        values, levels = np.where(values == 255, 0, values), levels[:-1]
    if threshold is None and not lossy and _are_classes(values, levels):
        if inverted:
            return Marked(values=(values == 0).astype(np.uint8), kind=f"{prefix}classes")
        return Marked(values=_classes(values, 0), kind="classes")
    if values.dtype.kind == "f" and wide < noise:
        return Marked(values=np.full(values.shape, inverted, np.uint8), kind=f"{prefix}one-level")
    share = 0.5 if threshold is None else threshold
    high, faint = _cut(values, float(least), wide, share, inverted)
    return Marked(values=high.astype(np.uint8), kind=f"{prefix}many-valued{' with faint regions' if faint else ''}")


def check_size(mask: np.ndarray, size: tuple[int, int], *, name: str) -> None:
    """Refuse a mask (height, width) that is not of its image's (width, height).

    Raises:
        MaskSizeError: it is not; nothing is ever resized to fit.
    """
    if mask.shape == (size[1], size[0]):
        return
    turned = mask.shape == size
    raise MaskSizeError(
        f"{name}: the mask has {mask.shape[1]}×{mask.shape[0]} pixels but its image {size[0]}×{size[1]}; expected the "
        "same size"
        + (", turned alike: images are turned as their EXIF says, so save the mask upright too" if turned else "")
    )


def _cut(values: np.ndarray, least: float, wide: float, share: float, inverted: bool) -> tuple[np.ndarray, bool]:
    """(pixels above the share of the range, with what ties them together; whether faint regions were left out)"""
    from scipy import ndimage

    whole_numbers = values.dtype.kind != "f"

    def above(part: float) -> np.ndarray:
        # Integers are compared with integers, so that a large mask is not copied into floats.
        if inverted:
            limit = least + (1 - part) * wide
            return values < (math.ceil(limit) if whole_numbers else limit)
        limit = least + part * wide
        return values > (math.floor(limit) if whole_numbers else limit)

    high, low = above(share), above(share / 2)
    if not share:
        return high, False
    eight = np.ones((3, 3), bool)
    rows, columns = np.flatnonzero(low.any(axis=1)), np.flatnonzero(low.any(axis=0))
    if not rows.size:
        return high, False
    inner = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    regions, count = ndimage.label(low[inner], eight)
    pieces, found = ndimage.label(high[inner], eight)
    # Of each piece the region that it lies in: a region of several pieces is taken as a whole.
    first = np.full(found + 1, 0)
    first[pieces.ravel()] = regions.ravel()
    held = np.bincount(first[1:], minlength=count + 1)
    whole = held > 1
    whole[0] = False
    high[inner] |= whole[regions]
    return high, bool((held[1:] == 0).any())


def _levels(values: np.ndarray) -> list[int | float]:
    """The different numbers, in order; of integers quickly."""
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        found = np.zeros(65536, bool)
        for row in range(0, len(values), 256):
            found[values[row : row + 256].ravel()] = True
        return np.flatnonzero(found).tolist()
    return np.unique(values).tolist()


def _are_classes(values: np.ndarray, levels: list[int | float]) -> bool:
    if levels[0] != 0 or len(levels) > _CLASSES + 1 or any(level != int(level) for level in levels):
        return False
    if levels[-1] <= _CLASSES:
        return True
    return all(_fills_a_square(values == level) for level in levels[1:])


def _has_outline(values: np.ndarray, levels: list[int | float]) -> bool:
    classes = levels[1:-1]
    if not classes or levels[0] != 0 or levels[-1] != 255 or classes[-1] > _CLASSES:
        return False
    return all(_fills_a_square(values == one) for one in classes) and not _fills_a_square(values == 255)


def _fills_a_square(where: np.ndarray) -> bool:
    rows = where[:-2] & where[1:-1] & where[2:]
    return bool((rows[:, :-2] & rows[:, 1:-1] & rows[:, 2:]).any())


def _classes(values: np.ndarray, back: int | float) -> np.ndarray:
    """The numbers themselves where an unsigned type of 16 bits holds them, else 1; 0 for the background."""
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535:
        return (values != back).astype(np.uint8)
    kind = np.uint8 if values.max() < 256 else np.uint16
    return np.where(values == back, 0, values).astype(kind)


def _array_numbers(path: Path) -> np.ndarray:
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


def _is_lossy(image: Image.Image, path: Path) -> bool:
    if image.format == "WEBP":
        with open(path, "rb") as file:
            return b"VP8L" not in file.read(64)
    return image.format in ("JPEG", "MPO") or image.info.get("compression") in ("jpeg", "webp")


def _numbers(image: Image.Image, *, indices: bool) -> tuple[np.ndarray, float | None]:
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


def share_of_range(text: str, *, name: str) -> float:
    """The value of `over` in a reference: `half`, or a share from 0 to below 1.

    Raises:
        UserError: it is none.
    """
    if text == "half":
        return 0.5
    if re.fullmatch(r"0(\.[0-9]{1,6})?", text):
        return float(text)
    raise UserError(f"{name}: over is {text!r}, expected `half` or a share of the range from 0 to below 1")
