"""Which query is compared with which template: two files, two folders, or an MVTec-style tree."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..errors import UserError
from ..images import open_image

__all__ = ["IMAGE_SUFFIXES", "Pair", "TemplatePool", "find_images", "find_pairs", "mvtec_queries"]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm"})

#: Side in pixels of the thumbnails that templates are chosen by.
DESCRIPTOR_SIDE = 16


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A query and the template it is compared with.

    Attributes:
        query, template: files. The template is None if there is none, and `error` says why.
        name: the query's path below the folder it was found in; names it in results and pictures.
        extra: further fields of the result's line.
    """

    query: Path
    template: Path | None
    name: str
    extra: dict[str, str] = field(default_factory=dict)
    error: str | None = None


def find_images(folder: Path) -> list[Path]:
    """All image files below a folder, by suffix, sorted; hidden files and folders are passed over.

    Raises:
        UserError: no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; check the path")
    found = []
    for root, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(root, name) for name in sorted(files) if not name.startswith(".")]
    found = [file for file in found if file.suffix.lower() in IMAGE_SUFFIXES]
    if not found:
        raise UserError(f"{folder}: no images in it, expected {', '.join(sorted(IMAGE_SUFFIXES))}")
    return found


def mvtec_queries(root: Path) -> list[tuple[str, Path, list[Path]]]:
    """`(category, folder of normal images, queries)` of a tree like MVTec AD's.

    That is `root/<category>/train/good/*` and `root/<category>/test/<defect>/*`; `root` may also be one category.

    Raises:
        UserError: there is no such category, or one has no images.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; check --mvtec")
    folders = [root] if (root / "test").is_dir() else sorted(path for path in root.iterdir() if path.is_dir())
    categories = [folder for folder in folders if (folder / "train/good").is_dir() and (folder / "test").is_dir()]
    if not categories:
        raise UserError(f"{root}: not an MVTec-style tree, expected <category>/train/good and <category>/test in it")
    return [(path.resolve().name, path / "train/good", find_images(path / "test")) for path in categories]


def descriptor(image: Image.Image) -> np.ndarray:
    """What templates are chosen by: the image shrunk to 16×16 pixels by averaging, as 768 numbers from 0 to 1.

    Enough to tell products, their positions and the light apart, which is what a template has to agree in; a defect
    hardly moves it.
    """
    small = image.resize((DESCRIPTOR_SIDE, DESCRIPTOR_SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32).ravel() / 255


class TemplatePool:
    """The templates of a folder, ready to be chosen from.

    Args:
        folder: with the templates; folders in it are searched too.
        by_name: whether a template with the query's own name is preferred.
        bits: the depth that all pictures of the run use (`images.used_bits`).

    Raises:
        UserError: no such folder, or no images in it.
    """

    def __init__(self, *, folder: Path, by_name: bool, bits: int | None = None) -> None:
        self.folder, self.by_name, self.bits = folder, by_name, bits
        self.files = find_images(folder)
        self.unusable: list[str] = []
        self._by_path = {str(file.relative_to(folder)): file for file in self.files}
        self._by_name: dict[str, list[Path]] = {}
        for file in self.files:
            self._by_name.setdefault(file.name, []).append(file)
        self._descriptors: np.ndarray | None = None
        self._failure: str | None = None

    def choose(self, query: Path, *, name: str) -> Path:
        """The template for a query.

        The file with the same path below its folder, else the only one with the same file name (both if `by_name`),
        else the nearest by `descriptor` (Euclidean distance; the first in sorted order of equals).

        Raises:
            UserError: the query cannot be opened, or no template can.
        """
        if self.by_name:
            if name in self._by_path:
                return self._by_path[name]
            same = self._by_name.get(Path(name).name, [])
            if len(same) == 1:
                return same[0]
        if len(self.files) == 1:
            return self.files[0]
        wanted = descriptor(open_image(query, bits=self.bits))
        if self._descriptors is None and self._failure is None:
            self._read()
        if self._failure is not None:
            raise UserError(self._failure)
        return self.files[int(((self._descriptors - wanted) ** 2).sum(1).argmin())]

    def _read(self) -> None:
        def read(file: Path) -> np.ndarray | UserError:
            try:
                return descriptor(open_image(file, bits=self.bits))
            except UserError as error:
                return error

        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of animations: said when the template is used
            found = list(
                tqdm(pool.map(read, self.files), total=len(self.files), desc="templates", unit="image", leave=False)
            )
        self.unusable = [str(value) for value in found if isinstance(value, UserError)]
        good = [(f, v) for f, v in zip(self.files, found, strict=True) if not isinstance(v, UserError)]
        if not good:
            self._failure = f"{self.folder}: none of its {len(self.files)} images can be used; {self.unusable[0]}"
            return
        self.files = [file for file, _ in good]
        self._descriptors = np.stack([value for _, value in good])


def find_pairs(queries: Iterable[tuple[Path, str]], pool: TemplatePool, **extra: str) -> Iterator[Pair]:
    """Pair each (query, name) with its template, lazily; where one cannot be opened, the pair has an `error`."""
    for query, name in queries:
        try:
            yield Pair(query=query, template=pool.choose(query, name=name), name=name, extra=extra)
        except UserError as error:
            yield Pair(query=query, template=None, name=name, extra=extra, error=str(error))
