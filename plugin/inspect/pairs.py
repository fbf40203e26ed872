"""Which query is compared with which template: files, folders, names by a pattern, or an MVTec-style tree.

A template is chosen, for each query,

1. by pattern, where one says which names belong together (`NamePattern`);
2. by equal names, where they mean something: the template with the query's path below its folder, or else the only
   one with its file name, if it has the query's shape (`images.SHAPE`) and is among the nearest quarter of the
   templates;
3. by likeness: the nearest (`descriptor`) of those with the query's shape, or of all where none has it.

A picture is never its own template (`is_same_picture`).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np
from PIL import Image

from ..errors import UserError
from ..images import (
    ASPECT_SLACK,
    IMAGE_SUFFIXES,
    UNREAD,
    UNREAD_SUFFIXES,
    ImageSource,
    aspect,
    open_image,
    photograph_names,
)
from ..kinds import is_good, labels_of
from ..threads import side_by_side
from .result import source_name
from .same_picture import is_same_picture, pixel_counts

__all__ = [
    "NamePattern",
    "Pair",
    "TemplatePool",
    "check_all_good",
    "check_readable",
    "find_images",
    "find_pairs",
    "masks_below",
    "mvtec_queries",
    "spread",
]

T = TypeVar("T")

#: Folders that hold no photographs, whatever lies beside them: what public sets call the masks of their defects. (Not
#: `mask`, which can be a part's name.)
MASK_FOLDERS = frozenset({"ground_truth", "ground-truth", "groundtruth", "gt", "masks"})

#: Side in pixels of the thumbnails that templates are chosen by.
DESCRIPTOR_SIDE = 16


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A query and the template it is compared with.

    Attributes:
        query, template: files, or from Python pictures of any kind. The template is None if there is none, and `error`
            says why.
        more: further templates, next nearest, for the anomaly map alone.
        name: the query's path below the folder it was found in; names it in results and pictures.
        extra: further fields of the result's line.
    """

    query: ImageSource
    template: ImageSource | None
    name: str = ""
    extra: dict[str, str] = field(default_factory=dict)
    error: str | None = None
    more: tuple[ImageSource, ...] = ()


def find_images(folder: Path) -> list[Path]:
    """All image files below a folder, by suffix (`images.photograph_names`), sorted; what is hidden, and
    `MASK_FOLDERS`, is passed over.

    Links are followed, each folder once. What has an image's name and is none (a pipe, a dangling link, a folder
    without images) is among them, and so is a folder that cannot be read: to open it is the error.

    Raises:
        UserError: no such folder, it cannot be read, or no image in it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; check the path")
    unreadable: list[OSError] = []
    found, empty, seen = [], [], set()
    for root, folders, files in os.walk(folder, followlinks=True, onerror=unreadable.append):
        masks = [name for name in folders if name.lower() in MASK_FOLDERS]
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in masks)
        try:
            here = os.stat(root)
        except OSError as error:
            error.filename = root
            unreadable.append(error)
            continue
        if (here.st_dev, here.st_ino) in seen:  # a link back to a folder above would go round and round
            folders.clear()
            continue
        seen.add((here.st_dev, here.st_ino))
        names = photograph_names(sorted(name for name in files if not name.startswith(".")))
        files = [Path(root, name) for name in names]
        found += files
        nothing = not files and not folders and not masks
        if nothing and Path(root) != folder and Path(root).suffix.lower() in IMAGE_SUFFIXES:
            empty.append(Path(root))
    for error in unreadable:
        if Path(error.filename) == folder:
            raise UserError(f"{folder}: cannot be read ({error.strerror}); check its permissions")
        empty.append(Path(error.filename))
    if not found and not empty:
        if masks_below(folder):
            raise UserError(f"{folder}: only masks in it ({masks_below(folder)[0]}); give the folder of photographs")
        raise UserError(f"{folder}: no images in it, expected {', '.join(sorted(IMAGE_SUFFIXES))}")
    if not empty and all(file.suffix.lower() in UNREAD_SUFFIXES for file in found):
        raise UserError(f"{found[0]}: {UNREAD}; there is no other in {folder}")
    return sorted([*found, *empty], key=lambda path: (path.parent, path.name)) if empty else found


def masks_below(folder: Path) -> list[Path]:
    """The folders of masks below a folder, which `find_images` passes over."""
    return sorted(path for path in folder.rglob("*") if path.name.lower() in MASK_FOLDERS and path.is_dir())


def mvtec_queries(root: Path) -> list[tuple[str, Path, list[Path]]]:
    """`(category, folder of normal images, queries)` of a tree like MVTec AD's.

    That is `root/<category>/train/good/*` (or another name that says good, `kinds.is_good`) and
    `root/<category>/test/<defect>/*`; `root` may also be one category.

    Raises:
        UserError: there is no such category, one has no images, or none of its `train`'s folders says good.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; check --mvtec")
    folders = [root] if (root / "test").is_dir() else sorted(path for path in root.iterdir() if path.is_dir())
    categories = [folder for folder in folders if (folder / "train").is_dir() and (folder / "test").is_dir()]
    if not categories:
        raise UserError(f"{root}: not an MVTec-style tree, expected <category>/train/good and <category>/test in it")
    return [(path.resolve().name, _good_folder(path / "train"), find_images(path / "test")) for path in categories]


def _good_folder(train: Path) -> Path:
    """The folder of good parts: `good`, or the only one that is called as such.

    Raises:
        UserError: there is none, or several.
    """
    inside = sorted(path for path in train.iterdir() if path.is_dir() and not path.name.startswith("."))
    good = [path for path in inside if path.name == "good"] or [path for path in inside if is_good(path.name)]
    if len(good) == 1:
        return good[0]
    names = ", ".join(repr(path.name) for path in (good or inside)[:5])
    told = f"{names} all say good" if good else f"no folder of good parts in it, only {names or 'files'}"
    raise UserError(f"{train}: {told}; expected one folder called good")


@dataclass(frozen=True, kw_only=True)
class NamePattern:
    """Which names belong together: `{}_test.jpg` is compared with `{}_temp.jpg` of the same folder, `{}` being any
    text. With a `/` in it a pattern is of the whole path below the folder: `test/{}.png`, `good/{}.png`.

    Attributes:
        query, template: with one `{}` each.
    """

    query: str
    template: str

    @classmethod
    def parse(cls, text: str) -> NamePattern:
        """Read `{}_test.jpg={}_temp.jpg`.

        Raises:
            UserError: not of this form.
        """
        query, equals, template = text.partition("=")
        if not equals or query.count("{}") != 1 or template.count("{}") != 1:
            raise UserError(
                f"--pair-pattern is {text!r}, expected two names with one {{}} in each, such as "
                "'{}_test.jpg={}_temp.jpg'"
            )
        return cls(query=query, template=template)

    def template_for(self, name: str) -> str | None:
        """The path of a query's template below its folder; None if the name is no query's.

        Args:
            name: the query's path below its folder, with `/`.
        """
        whole = "/" in self.query or "/" in self.template
        folder, file = ("", name) if whole else (str(PurePosixPath(name).parent), PurePosixPath(name).name)
        before, after = self.query.split("{}")
        if not (file.startswith(before) and file.endswith(after) and len(file) > len(before) + len(after)):
            return None
        found = self.template.replace("{}", file[len(before) : len(file) - len(after)])
        return found if whole else str(PurePosixPath(folder, found))


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
        by_name: whether equal names may decide.
        bits: the depth that all pictures of the run use (`images.used_bits`).
        pattern: which names belong together; then nothing else decides.
        without: a folder whose files are no templates, though they lie in `folder`: that of the queries.
        files: the templates themselves, wherever they are; then `folder` only names them.

    Attributes:
        chosen: how many templates were chosen in which way: "equal names", "likeness", "pattern".
        unusable: messages about templates that cannot be opened.

    Raises:
        UserError: no such folder, or no images in it but those of `without`.
    """

    def __init__(
        self,
        *,
        folder: Path,
        by_name: bool,
        bits: int | None = None,
        pattern: NamePattern | None = None,
        without: Path | None = None,
        files: Sequence[Path] | None = None,
    ) -> None:
        self.folder, self.by_name, self.bits, self.pattern = folder, by_name, bits, pattern
        self.files = find_images(folder) if files is None else list(files)
        if files is None and pattern is None and without is None:
            check_all_good(self.files, folder)
        if without is not None:
            without = without.resolve()
            self.files = [file for file in self.files if not file.resolve().is_relative_to(without)]
            if not self.files:
                raise UserError(
                    f"{folder}: all of its images are among those to inspect in {without}, so none is known to be "
                    "good; give a --template-dir of good parts, or say which names belong together, such as "
                    "--pair-pattern '{}_test.jpg={}_temp.jpg'"
                )
        self.unusable: list[str] = []
        self.chosen: Counter[str] = Counter()
        self._descriptors: np.ndarray | None = None
        self._shapes: np.ndarray | None = None  # `images.aspect`
        self._counts: list[int] = []
        self._failure: str | None = None
        self._index()

    def choose(self, query: ImageSource, *, name: str, count: int = 1) -> list[Path]:
        """The template for a query, as this module says, and those that would come next.

        Args:
            query: its file, or the picture.
            name: its path below its folder.
            count: how many at most; by a pattern there is one.

        Raises:
            UserError: the query cannot be opened, no template can, or all of them are the query itself.
        """
        if self.pattern is not None:
            return [self._by_pattern(query, name)]
        image = open_image(query, bits=self.bits)
        if self._descriptors is None and self._failure is None:
            self._read()
        if self._failure is not None:
            raise UserError(self._failure)
        counts = pixel_counts(image)
        distances = ((self._descriptors - descriptor(image)) ** 2).sum(1)
        like = abs(self._shapes - aspect(image.size)) <= ASPECT_SLACK
        # The nearest first; those of another shape last. Of equals the first in sorted order.
        order = sorted(range(len(self.files)), key=lambda index: (not like[index], distances[index]))
        namesake = self._namesake(name)
        if namesake is not None and like[namesake] and namesake in order[: max(1, len(order) // 4)]:
            order.insert(0, namesake)
        found: list[int] = []
        for index in dict.fromkeys(order):
            may_be_same = self._counts[index] == counts
            if not (may_be_same and is_same_picture(image, open_image(self.files[index], bits=self.bits))):
                found.append(index)
            if len(found) == count:
                break
        if not found:
            asked = source_name(query, "query")
            raise UserError(f"{asked}: every template is this picture itself; give other pictures of good parts")
        self.chosen["equal names" if found[0] == namesake else "likeness"] += 1
        return [self.files[index] for index in found]

    def _by_pattern(self, query: Path, name: str) -> Path:
        wanted = self.pattern.template_for(PurePosixPath(Path(name)).as_posix())
        file = self._by_path.get(wanted)
        if file is None:
            raise UserError(f"{query}: its template {wanted} is not in {self.folder}, which --pair-pattern names")
        self.chosen["pattern"] += 1
        return file

    def _index(self) -> None:
        below = [file for file in self.files if file.is_relative_to(self.folder)]
        self._by_path = {file.relative_to(self.folder).as_posix(): file for file in below}
        self._places = {file: index for index, file in enumerate(self.files)}
        self._by_name: dict[str, list[Path]] = {}
        for file in self.files:
            self._by_name.setdefault(file.name, []).append(file)

    def _namesake(self, name: str) -> int | None:
        if not self.by_name:
            return None
        file = self._by_path.get(Path(name).as_posix())
        same = self._by_name.get(Path(name).name, [])
        if file is None and len(same) == 1:
            file = same[0]
        return None if file is None else self._places[file]

    def _read(self) -> None:
        def read(file: Path) -> tuple[np.ndarray, float, int] | UserError:
            try:
                image = open_image(file, bits=self.bits)
            except UserError as error:
                return error
            return descriptor(image), aspect(image.size), pixel_counts(image)

        found = side_by_side(read, self.files, desc="templates", unit="image")
        self.unusable = [str(value) for value in found if isinstance(value, UserError)]
        good = [(f, v) for f, v in zip(self.files, found, strict=True) if not isinstance(v, UserError)]
        if not good:
            self._failure = f"{self.folder}: none of its {len(self.files)} images can be used; {self.unusable[0]}"
            return
        self.files = [file for file, _ in good]
        self._descriptors = np.stack([value for _, (value, _, _) in good])
        self._shapes = np.array([shape for _, (_, shape, _) in good])
        self._counts = [counts for _, (_, _, counts) in good]
        self._index()


def spread(files: Sequence[T], count: int) -> list[T]:
    """At most so many, spread over all."""
    return list(files[:: -(-len(files) // count)]) if files else []


def check_all_good(files: Sequence[Path], folder: Path) -> None:
    """Refuse a folder of good parts whose folders say that some are not.

    Raises:
        UserError: it names one, and the folder of good ones.
    """
    names = {file.relative_to(folder).as_posix(): file for file in files}
    labels = labels_of(names)
    bad = next((names[name] for name, (is_bad, _) in labels.items() if is_bad), None)
    if bad is not None:
        good = next((names[name].parent for name, (is_bad, _) in labels.items() if not is_bad), "the good one")
        raise UserError(
            f"{folder}: holds {bad.parent.name!r} beside folders of good parts, and all of it would count as good; "
            f"give {good}"
        )


def check_readable(query: Path) -> None:
    """Refuse a folder that `find_images` found unreadable, with the reason.

    Raises:
        UserError: it cannot be read.
    """
    if query.is_dir():
        try:
            os.listdir(query)
        except OSError as error:
            raise UserError(f"{query}: the folder cannot be read ({error.strerror})") from None


def find_pairs(
    queries: Iterable[tuple[Path, str]], pool: TemplatePool, *, templates: int = 1, **extra: str
) -> Iterator[Pair]:
    """Pair each (query, name) with its template, lazily; where one cannot be opened, the pair has an `error`.

    Args:
        templates: how many a pair has at most, the further ones in `more`.
    """
    for query, name in queries:
        try:
            check_readable(query)
            template, *more = pool.choose(query, name=name, count=templates)
            yield Pair(query=query, template=template, name=name, extra=extra, more=tuple(more))
        except UserError as error:
            yield Pair(query=query, template=None, name=name, extra=extra, error=str(error))
