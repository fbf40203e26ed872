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

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .. import images
from ..errors import UserError, one_line, reason_of
from .numbers import array_numbers, image_numbers, is_lossy
from .rule import Marked, marked

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
MASK_SUFFIXES = images.IMAGE_SUFFIXES | {".npy"}

#: Which masks are taken as inverted: none, all, or those that mark more than `MaskOptions.most`.
INVERSIONS = ("none", "all", "large")

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
        values, full, lossy = array_numbers(path), None, False
    else:
        # Sizes before pixels: a mask is bounded like any image.
        images.image_size(path, name=name)
        try:
            with Image.open(path, formats=images.FORMATS) as image:
                if told := images.frames_left_out(image, name=name):
                    raise UserError(f"{told.partition(';')[0]}, expected one; save each as a mask of its own")
                turn = images.orientation(image)
                lossy = is_lossy(image, path)
                values, full = image_numbers(image, indices=value is not None)
        except UserError:
            raise
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
        found = sorted(one for one in path.iterdir() if not one.name.startswith("."))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({reason_of(error)}), expected a folder of masks") from None
    files = [one for one in found if one.suffix.lower() in MASK_SUFFIXES]
    if folder := next((one for one in found if one.is_dir()), None):
        raise UserError(f"{folder}: a folder among the masks of one image; move its masks up, or remove it")
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
