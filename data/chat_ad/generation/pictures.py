"""Images as endpoints take them: data URLs, not larger than asked for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ...data_urls import file_url, image_url, own_kind
from ...errors import UserError
from ...images import image_size, open_image

__all__ = ["Picture", "data_url", "picture"]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image file and the SHA-256 (hexadecimal) of its bytes."""

    path: Path
    sha256: str


def picture(path: Path) -> Picture:
    """Read a file for its digest only.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return Picture(path=path, sha256=hashlib.file_digest(file, "sha256").hexdigest())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check the path") from None


def data_url(path: Path, *, side: int | None) -> tuple[str, int]:
    """(`data:image/…;base64,…`, its area in pixels).

    A PNG or JPEG that needs no change (`data_urls.own_kind`) goes as it is; others are turned upright, shrunk until
    the longer side has `side` pixels, and encoded as JPEG (PNG where the image is small).

    Raises:
        UserError: the image cannot be read.
    """
    kind, size = own_kind(path), image_size(path)
    if kind in ("PNG", "JPEG") and (side is None or max(size) <= side):
        return file_url(path, kind), size[0] * size[1]
    image = open_image(path)
    if side is not None and max(image.size) > side:
        scale = side / max(image.size)
        image = image.resize(
            (max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.LANCZOS
        )
    return image_url(image, "PNG" if max(image.size) <= 256 else "JPEG"), image.width * image.height
