"""What the quality filter and the leak report know about a picture: how sharp and light it is, and what it looks like.

A picture is measured once, at most 512 pixels long, whatever its size: limits must mean the same for a 256-pixel crop
and a 3000-pixel photograph.

    laplacian   variance of the Laplacian of the grey values (0 to 255): how much fine contrast there is
    sharpness   that variance over the mean squared gradient: how steep the edges are, whatever their number and
                contrast. A nearly empty picture with sharp edges has a low `laplacian` and a high `sharpness`
    low, high   the grey values that 0.02 % of the pixels are below, and above
    pixels      digest of the decoded pixels: equal for a PNG and the BMP made from it
    phash       64-bit perceptual hash (ImageHash)
    thumb       32×32 grey values, by which two files are recognised as one photograph
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import warnings
from collections.abc import Iterable
from pathlib import Path

import imagehash
import numpy as np
import pyarrow as pa
from PIL import Image

from ...errors import UserError
from ..sources.references import content_sha256, open_reference

__all__ = ["COARSE", "MEASURES", "MEASURE_SIDE", "THUMB", "VERSION", "Fingerprints", "measure", "measure_table"]

#: Raised when the same picture gives other numbers.
VERSION = 1

MEASURE_SIDE = 512
THUMB = 32
#: Side of the thumbnail's own thumbnail, by which candidates are searched.
COARSE = 8

# Share of pixels (in percent) that may be darker than `low` or lighter than `high`: dust and hot pixels.
_TAIL = 0.02

MEASURES = pa.schema(
    [
        ("image", pa.string()),
        ("sha256", pa.string()),
        ("problem", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("laplacian", pa.float64()),
        ("sharpness", pa.float64()),
        ("low", pa.int32()),
        ("high", pa.int32()),
        ("pixels", pa.binary(16)),
        ("phash", pa.binary(8)),
        ("thumb", pa.binary(THUMB * THUMB)),
    ]
)

_NUMBERS = {
    "laplacian": np.float64,
    "sharpness": np.float64,
    "low": np.int32,
    "high": np.int32,
    "width": np.int32,
    "height": np.int32,
}
_BYTES = {"sha256": 16, "pixels": 16, "phash": 8}


def measure(image: Image.Image) -> dict:
    """The measures of an upright RGB image, without `image`, `sha256` and `problem`."""
    grey = image.convert("L")
    small = grey
    scale = MEASURE_SIDE / max(grey.size)
    if scale < 1:
        size = (max(3, round(grey.width * scale)), max(3, round(grey.height * scale)))
        small = grey.resize(size, Image.Resampling.HAMMING)
    laplacian, sharpness = _sharpness(np.asarray(small, dtype=np.float32))
    low, high = np.percentile(np.asarray(small), (_TAIL, 100 - _TAIL), method="nearest")
    content = hashlib.sha256(f"{image.width}x{image.height}:".encode())
    content.update(image.tobytes())
    # BILINEAR averages over overlapping areas, so a copy of another size has nearly the same thumbnail.
    thumb = np.asarray(grey.resize((THUMB, THUMB), Image.Resampling.BILINEAR))
    return {
        "width": image.width,
        "height": image.height,
        "laplacian": laplacian,
        "sharpness": sharpness,
        "low": int(low),
        "high": int(high),
        "pixels": content.digest()[:16],
        "phash": np.packbits(imagehash.phash(small).hash.ravel()).tobytes(),
        "thumb": thumb.tobytes(),
    }


def measure_table(rows: pa.Table, root: str | os.PathLike) -> pa.Table:
    """Measure the images of a shard, one in memory at a time.

    Args:
        rows: with the columns `image` and `sha256`; an empty `sha256` is computed.
        root: what the references are relative to.

    Returns:
        A table of `MEASURES`, a row for each row. `problem` says why an image cannot be used; its measures are null.
    """

    def one(row: dict) -> dict:
        reference = row["image"]
        result = dict.fromkeys(MEASURES.names)
        result.update(image=reference, sha256=row["sha256"] or "")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of animations and odd metadata: said when the image is used
                result["sha256"] = row["sha256"] or content_sha256(root, reference)
                result.update(measure(open_reference(root, reference)))
        except UserError as error:
            result["problem"] = str(error)
        return result

    found = [one(row) for row in rows.select(["image", "sha256"]).to_pylist()]
    return pa.Table.from_pylist(found, schema=MEASURES)


class Fingerprints:
    """The measures of many images, as arrays: some 150 bytes an image in memory, thumbnails on disk if so wished.

    Args:
        tables: of `MEASURES`, in order.
        thumbs_file: where the thumbnails (1 KiB an image) are put; in memory without it.

    Attributes:
        problems: row → why that image cannot be used; its numbers are 0.
        laplacian, sharpness, low, high, width, height: (n,) as in `MEASURES`.
        sha256, pixels: (n, 16) uint8; half a SHA-256 is more than enough to tell files apart.
        phash: (n, 8) uint8.
        coarse: (n, 64) uint8, the means of the thumbnail's blocks.
        thumbs: (n, 1024) uint8.
    """

    def __init__(self, tables: Iterable[pa.Table], *, thumbs_file: Path | None = None) -> None:
        self.problems: dict[int, str] = {}
        parts: dict[str, list[np.ndarray]] = {name: [] for name in (*_NUMBERS, *_BYTES, "coarse", "thumbs")}
        count = 0
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(open(thumbs_file, "wb")) if thumbs_file else None
            for table in tables:
                problems = enumerate(table["problem"].to_pylist(), count)
                self.problems.update((row, problem) for row, problem in problems if problem is not None)
                count += table.num_rows
                for name, kind in _NUMBERS.items():
                    parts[name].append(table[name].fill_null(0).to_numpy().astype(kind))
                digests = [bytes.fromhex(value)[:16] for value in table["sha256"].to_pylist()]
                parts["sha256"].append(_fixed(digests, 16))
                for name in ("pixels", "phash"):
                    parts[name].append(_fixed(table[name].to_pylist(), _BYTES[name]))
                thumbs = _fixed(table["thumb"].to_pylist(), THUMB * THUMB)
                parts["coarse"].append(_coarse(thumbs))
                if file:
                    file.write(thumbs.tobytes())
                else:
                    parts["thumbs"].append(thumbs)
        for name, kind in _NUMBERS.items():
            setattr(self, name, np.concatenate([np.zeros(0, kind), *parts[name]]))
        for name, width in {**_BYTES, "coarse": COARSE * COARSE, "thumbs": THUMB * THUMB}.items():
            setattr(self, name, np.concatenate([np.zeros((0, width), np.uint8), *parts[name]]))
        if file and count:  # an empty file cannot be mapped
            self.thumbs = np.memmap(thumbs_file, np.uint8, "r", shape=(count, THUMB * THUMB))

    def __len__(self) -> int:
        return len(self.width)


def _sharpness(grey: np.ndarray) -> tuple[float, float]:
    centre = grey[1:-1, 1:-1]
    left, right, above, below = grey[1:-1, :-2], grey[1:-1, 2:], grey[:-2, 1:-1], grey[2:, 1:-1]
    laplacian = float(np.var(left + right + above + below - 4 * centre, dtype=np.float64))
    gradient = float(np.mean((right - left) ** 2 + (below - above) ** 2, dtype=np.float64)) / 4
    return laplacian, laplacian / gradient if gradient > 0 else 0.0


def _fixed(values: list[bytes | None], size: int) -> np.ndarray:
    """(n, size) uint8; zeros where there is nothing."""
    joined = b"".join((value or b"").ljust(size, b"\0") for value in values)
    return np.frombuffer(joined, np.uint8).reshape(len(values), size)


def _coarse(thumbs: np.ndarray) -> np.ndarray:
    block = THUMB // COARSE
    blocks = thumbs.reshape(-1, COARSE, block, COARSE, block).astype(np.float32)
    return np.rint(blocks.mean(axis=(2, 4))).reshape(-1, COARSE * COARSE).astype(np.uint8)
