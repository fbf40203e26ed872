"""What a user's folder holds, and which of its photographs are held out.

Any layout that `adcopilot data build` reads. Pictures are held out by their content, so that the same folder is split
in the same way wherever it lies, and all pictures of one photographed part (its views) stay together.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adcopilot.errors import UserError
from adcopilot.jsonl import content_key, file_digest
from adcopilot.line.pictures import LabelledPicture, the_others

from ..readers import GUESSES, READERS, Problem, make_source, measure, scan
from ..sources.references import parse_reference

__all__ = ["Photo", "Split", "copy_held_out", "read_folder", "reader_options", "split"]

#: Photographs that training needs, and how many of them must be defective; and the shares that are held out.
LEAST_PHOTOS, LEAST_BAD = 40, 8
HELD_GOOD, HELD_BAD = 0.4, 0.5


@dataclass(frozen=True, kw_only=True)
class Photo(LabelledPicture):
    """A photograph of the folder.

    Attributes:
        group: what belongs together: views of one part have one.
    """

    group: str


@dataclass(frozen=True, kw_only=True)
class Split:
    """Which photographs train, and which are held out.

    Attributes:
        train, held_out: photographs; `train` is empty where there is too little to train with.
        why: why nothing is trained, "" where something is.
    """

    train: tuple[Photo, ...]
    held_out: tuple[Photo, ...]
    why: str = ""


def read_folder(folder: Path) -> tuple[str, list[Photo]]:
    """The reader that fits the folder, and its photographs.

    Raises:
        UserError: no layout fits, pictures are not files of their own, or a picture or its mask cannot be used, as one
            of another size.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give one with good/ and a folder for each kind of defect in it")
    name = next((name for name in (*GUESSES, "folder") if _fits(folder, name)), "folder")
    source = make_source(name, folder, options=reader_options(name), recipe="")
    photos, products, unusable = [], {}, {}
    for item in scan(source):
        products.setdefault(item.category, item.image)
        reference = parse_reference(item.image)
        if item.views > 1 or set(reference.fragment) - {"bits"}:
            raise UserError(
                f"{folder}: {item.image} is no picture of its own (layout {name}); write the pictures into good/ and "
                "a folder for each kind of defect"
            )
        found = measure(item, root=folder, dataset=name, licence="")
        if isinstance(found, Problem):  # a build leaves it out; here nobody would see that
            remedy = "; mend it, or take the mask away: none is needed" if item.mask else "; mend it, or take it away"
            unusable.setdefault(source.path(found.file), f"{found.reason}{remedy}")
            continue
        file = Path(source.path(reference.path))
        photos.append(Photo(file=file, bad=item.anomalous, kind=item.defect, group=item.group or reference.path))
    if unusable:
        file, *others = unusable
        raise UserError(f"{file}: {unusable[file]}{the_others(others)}")
    if len(products) > 1:
        names = ", ".join(sorted(products)[:5])
        raise UserError(
            f"{folder}: holds {len(products)} products ({names}); a line is of one: give {folder / min(products)}"
        )
    for problem in source.problems:
        if problem.blocking:
            place = source.root if problem.file == "." else source.path(problem.file)
            raise UserError(f"{place}: {problem.reason}")
    return name, photos


def reader_options(name: str) -> dict[str, str]:
    """Options of a reader: a defective picture without a mask is one all the same."""
    return {"masks": "optional"} if "masks" in READERS[name].module.OPTIONS else {}


def _fits(folder: Path, name: str) -> bool:
    return READERS[name].module.looks_like(make_source(name, folder))


def split(photos: Sequence[Photo], *, may_train: bool, forced: bool = False) -> Split:
    """Hold photographs out.

    Args:
        photos: of the folder.
        may_train: whether anything is to be trained at all.
        forced: train however few they are.
    """
    bad = sum(one.bad for one in photos)
    why = ""
    if not may_train:
        why = "nothing is trained, as asked"
    elif not forced and (len(photos) < LEAST_PHOTOS or bad < LEAST_BAD):
        why = (
            f"{len(photos) - bad} good and {bad} defective pictures are too few to train with (about {LEAST_PHOTOS} "
            f"are needed, {LEAST_BAD} of them defective): all are for the threshold"
        )
    elif forced and (len(photos) - bad < 4 or bad < 4):
        why = f"{len(photos) - bad} good and {bad} defective pictures are too few to train with, 4 of each the least"
    if why:
        return Split(train=(), held_out=tuple(photos), why=why)
    held: set[str] = set()
    for kind in sorted({(one.bad, one.kind) for one in photos}):
        groups = sorted(
            {one.group for one in photos if (one.bad, one.kind) == kind},
            key=lambda group: content_key(*sorted(file_digest(p.file) for p in photos if p.group == group)),
        )
        count = math.ceil(len(groups) * (HELD_BAD if kind[0] else HELD_GOOD))
        held.update(groups[: min(count, len(groups) - 1) if not kind[0] else count])
    return Split(
        train=tuple(one for one in photos if one.group not in held),
        held_out=tuple(one for one in photos if one.group in held),
    )


def copy_held_out(files: Sequence[Path], folder: Path) -> None:
    """Put held-out pictures, and no others, into a folder of their own, which the recipe's `against` keeps out of
    training."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file in files:
        shutil.copyfile(file, folder / f"{file_digest(file)[:20]}{file.suffix.lower()}")
