"""Images as endpoints take them: data URLs, not larger than asked for."""

from __future__ import annotations

import base64
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ...errors import UserError
from ...images import FORMATS, open_image

__all__ = ["Picture", "data_url", "picture"]

_MIME = {"PNG": "image/png", "JPEG": "image/jpeg"}


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

    A PNG or JPEG that needs no change goes as it is; others are turned upright, shrunk until the longer side has
    `side` pixels, and encoded as JPEG of quality 95 (PNG where the image is small).

    Raises:
        UserError: the image cannot be read.
    """
    try:
        with Image.open(path, formats=FORMATS) as header:
            plain = header.format in _MIME and header.mode in ("RGB", "L") and header.getexif().get(0x0112, 1) == 1
            size, mime = header.size, _MIME.get(header.format or "")
    except Exception:  # open_image below says what is wrong with it
        plain, size, mime = False, (0, 0), None
    if plain and (side is None or max(size) <= side):
        image_bytes = path.read_bytes()
    else:
        image = open_image(path)
        if side is not None and max(image.size) > side:
            scale = side / max(image.size)
            image = image.resize(
                (max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.LANCZOS
            )
        kind = "PNG" if max(image.size) <= 256 else "JPEG"
        buffer = io.BytesIO()
        image.save(buffer, kind, **({"quality": 95} if kind == "JPEG" else {}))
        image_bytes, size, mime = buffer.getvalue(), image.size, _MIME[kind]
    return f"data:{mime};base64,{base64.b64encode(image_bytes).decode()}", size[0] * size[1]
