"""How much a visitor may bring, and images that are too much told from their headers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ..errors import UserError
from ..images import FORMATS, MAX_PIXELS, image_size
from .door.layout import check_layout

__all__ = ["MIB", "Limits", "check_pixels"]

MIB = 1 << 20
#: Bytes of a request: without files (the pictures that a browser's history keeps are small), and for each file.
REQUEST_BYTES, FILE_BYTES = 512 << 10, 1 << 10


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is taken from a visitor.

    Attributes:
        upload_bytes: of one uploaded file.
        pixels: of one picture.
        files: pictures in one folder or zip.
        unpacked_bytes: of all files of one zip together, and of one upload of several files.
        stored_bytes: of all visitors' files together.
        question: letters of a question.
        seconds: a file that nobody used for so long is deleted.

    Raises:
        UserError: a value is below 1, or there are more pixels than any part of this package takes.
    """

    upload_bytes: int = 64 * MIB
    pixels: int = 50_000_000
    files: int = 2000
    unpacked_bytes: int = 2048 * MIB
    stored_bytes: int = 8192 * MIB
    question: int = 2000
    seconds: int = 3600

    @property
    def request_bytes(self) -> int:
        """Of a request that is no upload: addresses of files, questions, what a browser keeps."""
        return REQUEST_BYTES + FILE_BYTES * self.files

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise UserError(f"the limit of {name.replace('_', ' ')} is {value}, expected 1 or more")
        if self.pixels > MAX_PIXELS:
            raise UserError(f"--max-megapixels: {self.pixels:,} pixels, expected at most {MAX_PIXELS:,}")


#: Bytes of memory for each pixel while a picture is decoded and made RGB: of most, and of one that lets its ground
#: through, which is laid on white (measured at 50 million pixels: 5 to 8, and 17 to 20).
USUAL_BYTES, CLEAR_BYTES = 8, 20


def check_pixels(path: Path, *, name: str, limits: Limits) -> tuple[int, int]:
    """Width and height of a picture, by its header: nothing is decoded.

    Raises:
        UserError: it is no image, too small, takes more memory to decode than a visitor may bring (`limits.pixels` of
            an ordinary picture), or has more parts than a picture needs.
    """
    if path.is_file():
        check_layout(path, name=name)
    width, height = image_size(path, name=name)
    if width * height > limits.pixels:
        raise UserError(
            f"{name}: {width}×{height} pixels are more than the {limits.pixels / 1e6:g} million that this page "
            "takes; shrink or crop the picture first"
        )
    most = limits.pixels * USUAL_BYTES // CLEAR_BYTES
    if width * height > most:
        with Image.open(path, formats=FORMATS) as image:
            if image.has_transparency_data:
                raise UserError(
                    f"{name}: {width}×{height} pixels with transparency are more than the {most / 1e6:g} million that "
                    "this page takes; save it without transparency, or shrink it first"
                )
    return width, height
