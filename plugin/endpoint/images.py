"""Images as endpoints take them: data URLs, a file's own bytes where nothing needs to be changed."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import UserError, reason_of
from ..images import open_image, orientation

__all__ = ["JPEG_QUALITY", "data_url", "file_url", "image_part", "image_url", "own_kind"]

#: Of what is encoded again; its chroma is not subsampled, for thin coloured scratches would fade.
JPEG_QUALITY = 95

_KINDS = ("JPEG", "PNG", "WEBP")


def own_kind(path: Path) -> str | None:
    """`JPEG`, `PNG` or `WEBP` of a file that shows everybody what `images.open_image` makes of it; None of others.

    Such a file has one frame, RGB or grey of 8 bits, no transparency, and no orientation to be applied. Only its
    header is read: whether its pixels are whole is not known yet.
    """
    try:
        with Image.open(path, formats=_KINDS) as image:
            plain = image.mode in ("RGB", "L") and "transparency" not in image.info
            if not plain or getattr(image, "n_frames", 1) > 1 or orientation(image) != 1:
                return None
            if image.format == "PNG" and image.tile and "16" in str(image.tile[0][3]):
                return None  # Pillow hands 16-bit colours out with 8 bits
            return image.format
    except Exception:  # a damaged header raises whatever its parser stumbles on; `open_image` says what is wrong
        return None


def file_url(
    path: Path, *, resize: Callable[[Image.Image], Image.Image], lossless: Callable[[Image.Image], bool]
) -> tuple[str, tuple[int, int]]:
    """A picture as a data URL, and the size (width, height) that it has there.

    A file that shows the right picture as it stands (`own_kind`), and that `resize` leaves its size, is sent as it is.
    What has to be resized, turned or converted is encoded again.

    Args:
        path: of the file.
        resize: of the upright RGB image.
        lossless: whether what came of it is sent as PNG, or as JPEG.

    Raises:
        UserError: the image cannot be read.
    """
    kind, image = own_kind(path), open_image(path)
    sent = resize(image)
    if kind is None or sent.size != image.size:
        return image_url(sent, "PNG" if lossless(sent) else "JPEG"), sent.size
    try:
        return data_url(kind, path.read_bytes()), image.size
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({reason_of(error)}); check the file") from None


def image_part(url: str) -> dict[str, Any]:
    """A data URL as a part of a message."""
    return {"type": "image_url", "image_url": {"url": url}}


def image_url(image: Image.Image, kind: str = "PNG") -> str:
    """An image as PNG, without loss, or as JPEG of `JPEG_QUALITY`."""
    buffer = io.BytesIO()
    if kind == "JPEG":
        image.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    else:
        image.save(buffer, "PNG", compress_level=1)
    return data_url(kind, buffer.getvalue())


def data_url(kind: str, content: bytes) -> str:
    """A file's bytes as a data URL; `kind` is Pillow's name of its format."""
    return f"data:image/{kind.lower()};base64,{base64.b64encode(content).decode()}"
