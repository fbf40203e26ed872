"""Images and masks inside HDF5 files, which hold many images of one size as an array (ReinAD).

An array is (count, height, width, channels), (count, height, width) or, for a single image, (height, width, channels)
with 1, 3 or 4 channels. Files are opened for reading only. Links to other files are not followed.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import UserError

__all__ = ["attributes", "dataset_names", "image_size", "length", "read_image", "read_mask", "sha256"]

# HDF5 decompresses whole chunks. The last ones are kept in memory, so that neighbours do not cost a chunk each.
_CHUNK_CACHE = 400 * 2**20
# Two chunks never share a slot; with too few, small chunks push each other out. A prime, as HDF5 asks.
_CHUNK_SLOTS = 1_000_003


def dataset_names(path: Path) -> list[str]:
    """The names of all arrays in a file, sorted with numbers by value ("Normal_2" before "Normal_10").

    Raises:
        UserError: the file is missing, damaged or not HDF5.
    """
    import h5py

    names: list[str] = []

    def collect(group: Any, prefix: str) -> None:
        for key in group:
            link = group.get(key, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise UserError(f"{path}: {prefix}{key} is a link, expected an array in the file itself")
            if isinstance(group[key], h5py.Group):
                collect(group[key], f"{prefix}{key}/")
            else:
                names.append(prefix + key)

    with _errors(path):
        collect(_file(path), "")
    return sorted(names, key=_natural)


def attributes(path: Path) -> dict[str, str]:
    """The texts among a file's own attributes.

    Raises:
        UserError: the file is missing, damaged or not HDF5.
    """
    with _errors(path):
        found = {name: value for name, value in _file(path).attrs.items() if isinstance(value, (str, bytes))}
    return {
        name: value.decode("utf-8", "replace") if isinstance(value, bytes) else value for name, value in found.items()
    }


def length(path: Path, name: str) -> int | None:
    """How many images an array holds, None for one that is a single image.

    Raises:
        UserError: there is no such array, or its shape is none of those above.
    """
    with _errors(path):
        return _layout(path, name)[0]


def image_size(path: Path, name: str, index: int | None) -> tuple[int, int]:
    """(width, height) in pixels, without reading any.

    Raises:
        UserError: as `length`, or the index is out of range.
    """
    with _errors(path):
        count, height, width = _layout(path, name)
        _check_index(path, name, count, index)
        return width, height


def read_image(path: Path, name: str, index: int | None) -> Image.Image:
    """An image of an 8-bit array, channels as stored (grey, RGB or RGBA).

    Raises:
        UserError: as `image_size`, or the array is not 8-bit.
    """
    values = _read(path, name, index)
    if values.dtype != np.uint8:
        raise UserError(f"{path}: {name} holds {values.dtype}, expected 8-bit images (uint8)")
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    return Image.fromarray(np.ascontiguousarray(values))


def read_mask(path: Path, name: str, index: int | None) -> np.ndarray:
    """A mask as stored, (height, width).

    Raises:
        UserError: as `image_size`, or it has several channels.
    """
    values = _read(path, name, index)
    if values.ndim == 3 and values.shape[2] == 1:
        return values[..., 0]
    if values.ndim != 2:
        raise UserError(f"{path}: a mask of {name} has shape {values.shape}, expected height × width")
    return values


def sha256(path: Path, name: str, index: int | None) -> str:
    """SHA-256 (hexadecimal) of an image's shape and pixels.

    Raises:
        UserError: as `image_size`.
    """
    values = _read(path, name, index)
    header = f"{values.shape} {values.dtype.str}\n".encode()
    return hashlib.sha256(header + np.ascontiguousarray(values).tobytes()).hexdigest()


def _read(path: Path, name: str, index: int | None) -> np.ndarray:
    with _errors(path):
        count, _, _ = _layout(path, name)
        _check_index(path, name, count, index)
        dataset = _dataset(path, name)
        return dataset[()] if index is None else dataset[index]


def _layout(path: Path, name: str) -> tuple[int | None, int, int]:
    """(count or None, height, width)"""
    shape = _dataset(path, name).shape
    if len(shape) == 4 and shape[3] in (1, 3, 4):
        return shape[0], shape[1], shape[2]
    if len(shape) == 3:
        # A stack of grey images three or four pixels wide is not to be expected.
        return (None, shape[0], shape[1]) if shape[2] in (1, 3, 4) else shape
    raise UserError(
        f"{path}: {name} has shape {shape}, expected images as count × height × width [× 1, 3 or 4 channels]"
    )


def _check_index(path: Path, name: str, count: int | None, index: int | None) -> None:
    if (count is None) != (index is None) or (count is not None and not 0 <= index < count):
        held = "a single image" if count is None else f"{count} images"
        raise UserError(f"{path}: {name} holds {held}, there is none of index {index}")


def _dataset(path: Path, name: str) -> Any:
    return _opened_dataset(*_state(path), name)


# An image and its mask, of a query and its template. A chunk cache lives as long as its array is open.
@functools.lru_cache(maxsize=4)
def _opened_dataset(path: str, mtime: int, size: int, process: int, name: str) -> Any:
    import h5py

    node: Any = _opened(path, mtime, size, process)
    for part in name.split("/"):
        link = node.get(part, getlink=True) if part and isinstance(node, h5py.Group) else None
        if not isinstance(link, h5py.HardLink):
            raise UserError(f"{path}: has no array {name!r} of its own; start the build again")
        node = node[part]
    if not isinstance(node, h5py.Dataset) or node.external or node.is_virtual or node.dtype.kind not in "uibf":
        raise UserError(f"{path}: {name} is not an array of numbers in the file itself")
    return node


def _file(path: Path) -> Any:
    return _opened(*_state(path))


def _state(path: Path) -> tuple[str, int, int, int]:
    """What an open file is known by: one that has changed since is another, and no process uses its parent's."""
    stat = os.stat(path)
    return str(path), stat.st_mtime_ns, stat.st_size, os.getpid()


@functools.lru_cache(maxsize=2)
def _opened(path: str, _mtime: int, _size: int, _process: int) -> Any:
    import h5py

    return h5py.File(path, "r", rdcc_nbytes=_CHUNK_CACHE, rdcc_nslots=_CHUNK_SLOTS, locking=False)


@contextlib.contextmanager
def _errors(path: Path) -> Iterator[None]:
    """Say in one line what HDF5 stumbles on."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except (OSError, RuntimeError, KeyError) as error:
        raise UserError(f"{path}: damaged or not an HDF5 file ({' '.join(str(error).split())[:160]})") from error


def _natural(name: str) -> list[tuple[int, str | int]]:
    parts = name.replace("/", "_").split("_")
    return [(1, int(part)) if part.isdigit() and part.isascii() else (0, part) for part in parts]
