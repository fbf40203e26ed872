"""A picture file's own list of its parts, looked through before Pillow believes it.

Pillow reads these lists when it opens a file, and keeps what they point to. A few bytes can name the same megabytes a
thousand times, or a million parts of nothing: such files are no pictures of parts. Pixels are not looked at here.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ...errors import UserError

__all__ = ["check_layout"]

#: Pages of a TIFF, frames of a GIF, scans of a JPEG; the largest published ones have some hundreds.
MOST_PAGES = 1000
#: Segments of a JPEG before its pixels, strips or tiles of a TIFF, blocks of the others for each KiB of the file.
MOST_SEGMENTS, MOST_STRIPS, MOST_BLOCKS = 2048, 65536, 8
#: Blocks of a GIF, of at most 255 bytes.
MOST_GIF_BLOCKS = 500_000
#: Bytes between two segments of a JPEG that belong to none.
MOST_JUNK = 4096
#: Bytes of metadata (EXIF) in a PNG or WebP; a JPEG cannot hold more.
MOST_EXIF = 64 << 10
#: Bytes of each of TIFF's types of values.
TIFF_TYPES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
STRIPS, TILES = 273, 324


def check_layout(path: Path, *, name: str) -> None:
    """Look through a file's list of parts. What is no such file, or ends early, is left to the decoder to refuse.

    Args:
        path: an existing file.
        name: what to call it.

    Raises:
        UserError: it has more parts than a picture needs, or they hold more than the file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        file.seek(0)
        try:
            if head[:2] == b"\xff\xd8":
                _jpeg(file)
            elif head[:8] == b"\x89PNG\r\n\x1a\n":
                _blocks(file, start=8, tail=4, order=">", size_first=True, size=size)
            elif head[:4] == b"RIFF" and head[8:] == b"WEBP":
                _blocks(file, start=12, tail=0, order="<", size_first=False, size=size)
            elif head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
                _tiff(file, size)
            elif head[:3] == b"GIF":
                _gif(file)
        except struct.error:  # it ends early
            return
        except _TooMuchError as error:
            raise UserError(f"{name}: has {error}; open it and save it again as a PNG") from None


class _TooMuchError(Exception):
    """What there is too much of."""


def _unpack(file: BinaryIO, form: str) -> tuple:
    return struct.unpack(form, file.read(struct.calcsize(form)))


def _jpeg(file: BinaryIO) -> None:
    scans, rest = 0, b""
    while data := file.read(1 << 20):
        scans += (rest + data).count(b"\xff\xda")
        rest = data[-1:]
    if scans > MOST_PAGES:
        raise _TooMuchError(f"{scans} scans, expected at most {MOST_PAGES}")
    file.seek(2)
    for _ in range(MOST_SEGMENTS):
        if _marker(file) == 0xDA:  # the pixels
            return
        file.seek(max(_unpack(file, ">H")[0] - 2, 0), io.SEEK_CUR)
    raise _TooMuchError(f"more than {MOST_SEGMENTS} segments before its pixels")


def _marker(file: BinaryIO) -> int:
    """The next marker that a length follows. As Pillow, it passes over what is none."""
    before = 0
    for _ in range(MOST_JUNK):
        (byte,) = _unpack(file, "B")
        if before == 0xFF and byte not in (0x00, 0x01, 0xFF) and not 0xD0 <= byte <= 0xD9:
            return byte
        before = byte
    raise _TooMuchError(f"{MOST_JUNK:,} bytes between two segments")


def _blocks(file: BinaryIO, *, start: int, tail: int, order: str, size_first: bool, size: int) -> None:
    most = 4096 + MOST_BLOCKS * (size >> 10)
    at = start
    for _ in range(most):
        file.seek(at)
        length, kind = _unpack(file, f"{order}I4s") if size_first else _unpack(file, f"{order}4sI")[::-1]
        if kind in (b"eXIf", b"EXIF") and length > MOST_EXIF:
            raise _TooMuchError(f"{length:,} bytes of EXIF, expected at most {MOST_EXIF:,}")
        at += 8 + length + (tail or length & 1)
    raise _TooMuchError(f"more than {most:,} blocks")


def _tiff(file: BinaryIO, size: int) -> None:
    head = file.read(4)
    order = "<" if head[:2] == b"II" else ">"
    big = b"+" in head
    if big:
        _, at = _unpack(file, f"{order}IQ")
    else:
        (at,) = _unpack(file, f"{order}I")
    seen: set[int] = set()
    while at and at not in seen:
        seen.add(at)
        if len(seen) > MOST_PAGES:
            raise _TooMuchError(f"more than {MOST_PAGES} pages")
        file.seek(min(at, size))  # a place of 64 bits may be further away than files go
        total = 0
        for tag, kind, count in _entries(file, order, big=big):
            total += TIFF_TYPES.get(kind, 1) * count
            if tag in (STRIPS, TILES) and count > MOST_STRIPS:
                raise _TooMuchError(f"{count:,} strips or tiles, expected at most {MOST_STRIPS:,}")
        if total > size + (1 << 16):
            raise _TooMuchError(f"a list of {total:,} bytes of values in {size:,} bytes")
        (at,) = _unpack(file, f"{order}Q" if big else f"{order}I")


def _entries(file: BinaryIO, order: str, *, big: bool) -> Iterator[tuple[int, int, int]]:
    """(tag, type, number of values) of each entry of a directory; afterwards the file stands behind them."""
    (number,) = _unpack(file, f"{order}Q" if big else f"{order}H")
    for _ in range(number):
        yield _unpack(file, f"{order}HHQ8x" if big else f"{order}HHI4x")


def _gif(file: BinaryIO) -> None:
    file.seek(10)
    _skip_colours(file, _unpack(file, "<Bxx")[0])
    images, kind = 0, 0
    for _ in range(MOST_GIF_BLOCKS):
        if kind:  # the blocks of an image or an extension
            length = _unpack(file, "<B")[0]
            file.seek(length, io.SEEK_CUR)
            kind = kind if length else 0
            continue
        (kind,) = _unpack(file, "<B")
        if kind == 0x3B:
            return
        if kind == 0x2C:
            images += 1
            _skip_colours(file, _unpack(file, "<8xB")[0])
        if images > MOST_PAGES:
            raise _TooMuchError(f"more than {MOST_PAGES} frames")
        if kind in (0x2C, 0x21):
            file.seek(1, io.SEEK_CUR)  # how the pixels are packed, or the kind of extension
        else:
            kind = 0
    raise _TooMuchError(f"more than {MOST_GIF_BLOCKS:,} blocks")


def _skip_colours(file: BinaryIO, flags: int) -> None:
    if flags & 0x80:
        file.seek(3 << (flags & 7) + 1, io.SEEK_CUR)
