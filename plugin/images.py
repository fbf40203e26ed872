"""Open an image file as 8-bit RGB, upright, or say in one line why it cannot be used.

Everything in the package opens images here (LlamaFactory's plugin, the converters, `inspect`), because boxes are
pixels of the upright image: a place that ignored the EXIF orientation would put them elsewhere.

What is done to each kind of file:

- Only the formats of `FORMATS` are read, whatever a file's name says: others start foreign programs (EPS) or have
  parsers that nobody here looks after.
- EXIF (or XMP, or TIFF) orientation is applied. A PNG's orientation is read only if it stands before the pixels.
- 16 bits a channel, grey or colour: scaled by one depth, never clipped and never stretched per image, so that a
  template and its query stay comparable. Cameras write 10, 12 or 14 bits into 16-bit files: whoever owns a set of
  images finds the depth that all of them use (`used_bits`) and opens each with it (`bits`). An image opened alone is
  scaled by its full range (65535 → 255), with one warning where it uses fewer bits. TIFF may state 10, 12 or 14 bits.
- 32-bit integers within 0..65535 are read as 16-bit, floats within 0..1 are scaled by 255; others are refused.
- Alpha (RGBA, LA, palette or PNG transparency) is composited on white. CMYK, YCbCr, LAB, palettes are converted by
  Pillow; colour profiles are not applied.
- Animated and multi-page files: the first frame, with one warning a file.
- Sides below `MIN_SIDE` and areas above `MAX_PIXELS` are refused; of 16 bits a channel half as many pixels, of 32 a
  quarter.
"""

from __future__ import annotations

import io
import math
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image, UnidentifiedImageError

from .errors import UserError, one_line
from .files import not_a_file
from .image_depth import bands, bits_of, is_wide, scaled, stated_bits

__all__ = [
    "ASPECT_SLACK",
    "FORMATS",
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "MIN_SIDE",
    "SHAPE",
    "UNREAD",
    "UNREAD_SUFFIXES",
    "ImageSource",
    "aspect",
    "frames_left_out",
    "has_depth",
    "image_size",
    "is_like_shape",
    "normalise_image",
    "open_image",
    "orientation",
    "photograph_names",
    "resize_for_training",
    "used_bits",
]

#: What is read, as `PIL.Image.open` calls it: for its `formats`, wherever this package opens a file (JPEG's
#: includes MPO).
FORMATS = ("PNG", "JPEG", "BMP", "DIB", "TIFF", "WEBP", "GIF", "PPM")

# Below 8 pixels a side there is nothing to inspect, only interpolation: LlamaFactory enlarges such an image to 28
# pixels, and a 1×1 file is nearly always a placeholder left by a failed download.
MIN_SIDE = 8

# 2× Pillow's own threshold, where Pillow too refuses. The largest published industrial images are about 118 million.
MAX_PIXELS = 178_956_970

#: What the files of pictures end in, in lower case, wherever a folder is looked through: photographs and masks.
IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".pbm", ".pgm", ".pnm", ".ppm"}
)

#: What photographs end in that are not read, telephones' and cameras' own formats: they are named wherever a folder is
#: looked through, so that no part is missed in silence.
UNREAD_SUFFIXES = frozenset(
    {".heic", ".heif", ".avif", ".jp2", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2"}
)
#: Why such a photograph is no image here.
UNREAD = "a photograph in a format that is not read; convert it to PNG or JPEG"

_NOT_READ = "{}; expected PNG, JPEG, BMP, TIFF, WebP, GIF or PPM"

#: By how much the aspect ratios of two images of one shape differ at most, as a share of the smaller one.
SHAPE = 0.1

#: The same for `aspect`, with what rounding may add: 1100×1000 beside 1000×1000 is of one shape.
ASPECT_SLACK = math.log(1 + SHAPE) + 1e-9

ImageSource = str | os.PathLike | bytes | BinaryIO | dict | Image.Image

_ORIENTATION_TAG = 0x0112
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def photograph_names(names: Iterable[str]) -> list[str]:
    """The files of a folder that are photographs by their suffixes, in order. One that is not read is left out where
    one of its name that is lies beside it, as cameras write `a.nef` and `a.jpg`."""
    parted = [(name, *os.path.splitext(name)) for name in names]
    read = {stem for _, stem, suffix in parted if suffix.lower() in IMAGE_SUFFIXES}
    return [
        name
        for name, stem, suffix in parted
        if suffix.lower() in IMAGE_SUFFIXES or (suffix.lower() in UNREAD_SUFFIXES and stem not in read)
    ]


def open_image(source: ImageSource, *, name: str | None = None, bits: int | None = None) -> Image.Image:
    """Decode an image completely and return it upright, in mode RGB, 8 bits a channel.

    Args:
        source: path, encoded bytes, binary file, an already opened PIL image, or the `{"bytes", "path"}` dictionary
            of the `datasets` library.
        name: what to call the image in messages; the path by default.
        bits: the depth of the set that the image belongs to (`used_bits`), for files of 16 bits a channel; None scales
            by the file's full range.

    Returns:
        A PIL image of mode "RGB" whose `size` equals `image_size(source)`.

    Raises:
        UserError: missing, empty, truncated, not an image, too small, too large, or of unusable pixel values (above
            what `bits` can hold, too).
    """
    image, name = _open(source, name)
    try:
        return normalise_image(image, name=name, bits=bits)
    finally:
        if not isinstance(source, Image.Image):
            image.close()


def image_size(source: ImageSource, *, name: str | None = None) -> tuple[int, int]:
    """Width and height in pixels after orientation, from the file's header only (a truncated file passes).

    Raises:
        UserError: missing, empty, not an image, too small or too large.
    """
    image, name = _open(source, name)
    try:
        _check_size(image, name)
        width, height = image.size
        return (height, width) if orientation(image) >= 5 else (width, height)
    finally:
        if not isinstance(source, Image.Image):
            image.close()


def used_bits(sources: Iterable[ImageSource]) -> int | None:
    """The depth that a set of images uses: the least of 8, 10, 12, 14 and 16 bits that holds every one of them.

    Only files of 16 bits a channel are decoded; of the others the header is read. What cannot be read has no say: it
    is refused where it is opened.

    Returns:
        Bits a channel for `open_image`, None where no image has more than 8.
    """
    found = None
    for source in sources:
        try:
            image, name = _open(source, None)
        except UserError:
            continue
        try:
            if not is_wide(image):
                continue
            if image is source and getattr(image, "fp", None) is not None:
                # Who opened it will decode it: the same file once more.
                image = Image.open(image.fp, formats=FORMATS)
            _check_size(image, name)
            needed = stated_bits(image) or max(
                (bits_of(int(values.max())) for values, _ in bands(image, name)), default=8
            )
            found = max(found or 8, needed)
        except Exception:  # damaged, or values that no depth holds
            continue
        finally:
            if image is not source and not isinstance(source, Image.Image):
                image.close()
        if found == 16:
            break
    return found


def has_depth(source: ImageSource) -> bool:
    """Whether an image has 16 bits a channel or more, by its header; False where that cannot be read."""
    try:
        image, _ = _open(source, None)
    except UserError:
        return False
    try:
        return is_wide(image)
    finally:
        if not isinstance(source, Image.Image):
            image.close()


def aspect(size: tuple[int, int]) -> float:
    """The logarithm of a (width, height)'s aspect ratio: differences are alike for wide and high images."""
    return math.log(size[0] / size[1])


def is_like_shape(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two (width, height) have one shape, as `SHAPE` says."""
    return abs(aspect(size) - aspect(other)) <= ASPECT_SLACK


def normalise_image(image: Image.Image, *, name: str = "image", bits: int | None = None) -> Image.Image:
    """`open_image` for an image that PIL has already opened (not necessarily decoded).

    Raises:
        UserError: as `open_image`.
    """
    if image.format not in (None, "MPO", *FORMATS):
        raise UserError(f"{name}: {_NOT_READ.format(f'is {image.format}')}")
    _check_size(image, name)
    try:
        if told := _frames(image, name):
            warnings.warn(told, UserWarning, stacklevel=3)
            image.seek(0)
        turn = orientation(image)
        if is_wide(image):
            rgb = scaled(image, name, bits)
        else:
            image.load()
            rgb = _to_rgb(image)
        if turn in _TRANSPOSE:
            rgb = rgb.transpose(_TRANSPOSE[turn])
    except UserError:
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, zlib.error, EOFError…
        raise UserError(
            f"{name}: the image is truncated or corrupt ({one_line(error)}); copy or export the file again"
        ) from error
    # A decoder leaves EXIF and transparency in `info`; what is returned is upright and opaque, and must say so.
    rgb.info = {}
    return rgb


def resize_for_training(image: Image.Image, *, image_max_pixels: int, image_min_pixels: int) -> Image.Image:
    """The resize that LlamaFactory 0.9.5 does before Qwen2.5-VL's processor, pixel for pixel.

    Inference must feed the processor the same image as training did, so this repeats LlamaFactory's arithmetic:
    shrink to at most `image_max_pixels`, then grow to at least `image_min_pixels` (areas, aspect ratio kept, sides
    rounded down), then sides of at least 28 pixels and aspect ratios of at most 200.
    """
    for too_far, bound in ((int.__gt__, image_max_pixels), (int.__lt__, image_min_pixels)):
        area = image.width * image.height
        if too_far(area, bound):
            factor = math.sqrt(bound / area)
            image = image.resize((int(image.width * factor), int(image.height * factor)))
    if min(image.size) < 28:
        image = image.resize((max(image.width, 28), max(image.height, 28)))
    if image.width / image.height > 200:
        image = image.resize((image.height * 180, image.height))
    if image.height / image.width > 200:
        image = image.resize((image.width, image.width * 180))
    return image


def frames_left_out(source: ImageSource, *, name: str | None = None) -> str | None:
    """That an image is animated or has pages, of which only the first counts, in words; None of any other.

    Raises:
        UserError: missing, empty or not an image.
    """
    image, name = _open(source, name)
    try:
        return _frames(image, name)
    except Exception:  # damaged: it is said when the image is decoded
        return None
    finally:
        if not isinstance(source, Image.Image):
            image.close()


def _frames(image: Image.Image, name: str) -> str | None:
    # A phone's MPO is a JPEG with a second view appended: not an animation to warn about.
    frames = getattr(image, "n_frames", 1) if image.format != "MPO" else 1
    return f"{name}: {frames} frames or pages; only the first is used" if frames > 1 else None


def _open(source: Any, name: str | None) -> tuple[Image.Image, str]:
    """Read the header. Returns the lazy PIL image and the name for messages."""
    if isinstance(source, dict):
        name = name or source.get("path")
        source = source["bytes"] if source.get("bytes") is not None else source.get("path")
    if isinstance(source, Image.Image):
        return source, name or getattr(source, "filename", "") or "image"
    if isinstance(source, (str, os.PathLike)):
        name = name or os.fspath(source)
        path = Path(source)
        try:
            info = path.stat()
            if kind := not_a_file(info):
                raise UserError(f"{name}: is {kind}, expected an image file")
            size = info.st_size
        except FileNotFoundError:
            raise UserError(f"{name}: no such image file; check the path (of training data media_dir too)") from None
        except UserError:
            raise
        except (OSError, ValueError) as error:  # ValueError: a null character in the path
            raise UserError(f"{name}: cannot be read ({one_line(error)})") from None
        if size == 0:
            raise UserError(f"{name}: the image file is empty (0 bytes); copy or export it again")
    elif isinstance(source, (bytes, bytearray)):
        name = name or "image"
        if not source:
            raise UserError(f"{name}: the image is empty (0 bytes)")
        source = io.BytesIO(source)
    elif hasattr(source, "read"):
        name = name or str(getattr(source, "name", "image"))
    else:
        kind = type(source).__name__
        raise UserError(f"{name or 'image'}: expected a path, bytes, a binary file or a PIL image, got {kind}")
    is_unread = os.path.splitext(name)[1].lower() in UNREAD_SUFFIXES
    try:
        image = Image.open(source, formats=FORMATS)
    except UnidentifiedImageError:
        if is_unread:
            raise UserError(f"{name}: {UNREAD}") from None
        raise UserError(f"{name}: {_NOT_READ.format('damaged at its start, or not an image')}") from None
    except Image.DecompressionBombError:
        raise UserError(f"{name}: more than {MAX_PIXELS:,} pixels; crop or shrink the image first") from None
    except PermissionError as error:
        raise UserError(f"{name}: cannot be read ({one_line(error)})") from None
    except Exception as error:  # a damaged header raises whatever its parser stumbles on
        raise UserError(
            f"{name}: the image is truncated or corrupt ({one_line(error)}); copy or export the file again"
        ) from error
    # Cameras' raw files are TIFFs whose first page is a thumbnail.
    if is_unread and image.format == "TIFF":
        raise UserError(f"{name}: {UNREAD}")
    return image, name


def _check_size(image: Image.Image, name: str) -> None:
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        raise UserError(f"{name}: {width}×{height} pixels is too small; expected at least {MIN_SIDE} a side")
    # What decoding takes grows with the depth.
    most, of = MAX_PIXELS, ""
    if is_wide(image):
        depth = 32 if image.mode in ("I", "F") else 16
        most, of = MAX_PIXELS * 8 // depth, f" of {depth} bits"
    if width * height > most:
        raise UserError(f"{name}: {width}×{height} is more than {most:,} pixels{of}; crop or shrink the image first")


def orientation(image: Image.Image) -> int:
    """EXIF orientation 1–8 that is still to be applied, without decoding the pixels; 1 when absent or nonsense.

    1 of a TIFF too: Pillow gives its size after orientation, and applies it when it decodes.
    """
    if image.format == "TIFF":
        return 1
    try:
        # The base class's getexif: PNG's own decodes the whole image to look for a trailing chunk.
        value = Image.Image.getexif(image).get(_ORIENTATION_TAG, 1)
    except Exception:  # a damaged EXIF block is no reason to refuse a picture that decodes
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    mode = image.mode
    if mode == "RGB" and "transparency" not in image.info:
        return image.copy()
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    if mode == "LAB":
        from PIL import ImageCms  # Image.convert cannot; the white point is Pillow's D50 default

        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.applyTransform(image, ImageCms.buildTransform(lab, srgb, "LAB", "RGB"))
    return image.convert("RGB")
