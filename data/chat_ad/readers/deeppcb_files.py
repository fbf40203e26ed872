"""Read the public DeepPCB dataset in the layout that its authors publish, with every mistake named.

    PCBData/trainval.txt, test.txt                 `groupA/B/STEM.jpg groupA/B_not/STEM.txt`, one pair a line
    PCBData/groupA/B/STEM_temp.jpg, STEM_test.jpg  the defect-free template and the aligned test image, 640×640
    PCBData/groupA/B_not/STEM.txt                  `x1 y1 x2 y2 class`, one defect a line, pixels, corner to corner

The lists name `STEM.jpg`, which does not exist: the two images beside that name do. Some copies separate the numbers
by commas; both are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ...errors import UserError
from ...images import image_size
from ...records import check_box

__all__ = ["CLASSES", "LISTS", "DefectClass", "PcbDefect", "SourcePair", "find_root", "list_path", "read_split"]

Box = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class DefectClass:
    """One of DeepPCB's classes: the authors' name, and the words an answer uses."""

    name: str
    label: str


#: By the number in the annotation files.
CLASSES = {
    1: DefectClass(name="open", label="open circuit"),
    2: DefectClass(name="short", label="short circuit"),
    3: DefectClass(name="mousebite", label="mouse bite"),
    4: DefectClass(name="spur", label="spur"),
    5: DefectClass(name="copper", label="spurious copper"),
    6: DefectClass(name="pin-hole", label="pin hole"),
}

#: The split's name → the authors' list.
LISTS = {"train": "trainval.txt", "test": "test.txt"}


@dataclass(frozen=True, kw_only=True)
class PcbDefect:
    """An annotated defect: its box in pixels of the test image and its class number."""

    box: Box
    kind: int


@dataclass(frozen=True, kw_only=True)
class SourcePair:
    """A line of a list, checked.

    Attributes:
        name: the stem that its files share, unique in the dataset.
        source: the annotation file relative to the root, for the record.
        template, query: the two image files.
        size: (width, height) of both in pixels.
        defects: what is annotated; never empty.
    """

    name: str
    source: str
    template: Path
    query: Path
    size: tuple[int, int]
    defects: tuple[PcbDefect, ...]


def find_root(folder: Path) -> Path:
    """The folder of the lists: `folder` itself or its `PCBData`.

    Raises:
        UserError: neither holds `trainval.txt` or `test.txt`.
    """
    for root in (folder / "PCBData", folder):
        if any((root / name).is_file() for name in LISTS.values()):
            return root
    found = (
        "no such folder" if not folder.is_dir() else "there is neither trainval.txt nor test.txt in it or its PCBData"
    )
    raise UserError(f"{folder}: {found}, expected the folder of the DeepPCB repository that holds PCBData")


def list_path(root: Path, split: str) -> Path:
    """The authors' list of a split.

    Raises:
        UserError: it is missing.
    """
    path = root / LISTS[split]
    if not path.is_file():
        other = next(name for name in LISTS if name != split)
        raise UserError(
            f"{path}: missing, expected the list of DeepPCB's {split} pairs; copy it, or read the split {other} alone"
        )
    return path


def read_split(root: Path, split: str, *, faults: list[UserError]) -> list[SourcePair]:
    """All pairs of a split in the list's order. Images are opened as far as their headers.

    Args:
        root: from `find_root`.
        split: of `LISTS`.
        faults: where to put what is wrong with single lines, which are passed over.

    Raises:
        UserError: the list is missing, unreadable or empty.
    """
    path = list_path(root, split)
    pairs: dict[str, SourcePair] = {}
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            pair = _read_pair(root, line, where)
            if pair.name in pairs:
                raise UserError(
                    f"{where}: {pair.name} is listed a second time, expected each pair once; remove this line"
                )
        except UserError as error:
            faults.append(error)
        else:
            pairs[pair.name] = pair
    if not pairs and not faults:
        raise UserError(f"{path}: empty, expected a line for each pair; copy the list again")
    return list(pairs.values())


def _read_pair(root: Path, line: str, where: str) -> SourcePair:
    columns = line.split()
    if len(columns) != 2 or not columns[0].endswith(".jpg") or not columns[1].endswith(".txt"):
        raise UserError(f"{where}: {line.strip()[:80]!r}, expected `group…/NAME.jpg group…_not/NAME.txt`")
    for column in columns:
        # A list is data: it must not make us read files elsewhere.
        if PurePosixPath(column).is_absolute() or ".." in PurePosixPath(column).parts:
            raise UserError(f"{where}: {column} leads out of {root}, expected a path inside it")
    image = root / columns[0]
    template, query = (image.with_name(f"{image.stem}_{kind}.jpg") for kind in ("temp", "test"))
    sizes = []
    for path in (template, query):
        try:
            sizes.append(image_size(path))
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
    if sizes[0] != sizes[1]:
        found = " and ".join(f"{width}×{height}" for width, height in sizes)
        raise UserError(
            f"{where}: {template.name} and {query.name} have {found} pixels, expected an aligned pair of one size"
        )
    defects = tuple(_read_defects(root / columns[1], sizes[0], query.name, where))
    if not defects:
        raise UserError(
            f"{root / columns[1]}: empty, expected a line `x1 y1 x2 y2 class` for each defect of {query.name}"
        )
    return SourcePair(
        name=image.stem, source=columns[1], template=template, query=query, size=sizes[0], defects=defects
    )


def _read_defects(path: Path, size: tuple[int, int], image: str, where: str) -> Iterator[PcbDefect]:
    if not path.is_file():
        raise UserError(f"{where}: {path} is missing, expected the defects of {image}; copy it or remove this line")
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip():
            continue
        here = f"{path}:{number}"
        try:
            values = [int(value) for value in line.replace(",", " ").split()]
        except ValueError:
            values = []
        if len(values) != 5:
            raise UserError(f"{here}: {line.strip()[:60]!r}, expected five integers `x1 y1 x2 y2 class`")
        if values[4] not in CLASSES:
            names = ", ".join(f"{kind} {entry.name}" for kind, entry in CLASSES.items())
            raise UserError(f"{here}: class {values[4]}, expected one of {names}")
        check_box(values[:4], name=here, size=size, image=image)
        yield PcbDefect(box=tuple(values[:4]), kind=values[4])


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UserError(f"{path}: cannot be read ({reason}), expected a text file; copy it again") from None
