"""The labelled pictures that a line is made from, and whether they can be one line's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..images import ASPECT_SLACK, aspect, image_size, open_image, used_bits
from ..inspect.pairs import check_all_good, descriptor, find_images
from ..jsonl import file_digest
from ..kinds import defect_name, is_good
from ..threads import side_by_side
from .aligning import ALIGNED, likeness
from .marks import find_marked, read_marks

__all__ = ["LabelledPicture", "check_good", "check_whole", "labelled", "the_others", "with_marks"]

#: Of thumbnails (0 to 1): what two groups of good pictures are apart at least, in all and by how much more than the
#: pictures of a group among each other.
LEAST_APART = 0.1
TIMES_WITHIN = 4
#: Damaged pictures that are named beside the first.
MOST_NAMED = 20


@dataclass(frozen=True, kw_only=True)
class LabelledPicture:
    """A labelled picture.

    Attributes:
        file: where it is.
        bad: whether the part is defective.
        kind: of defect, "" if it is not said.
        marked: whether the label comes from a mark: then it is measured on nothing.
    """

    file: Path
    bad: bool
    kind: str = ""
    marked: bool = False


def labelled(good: Path, bad: Path | None, marks: Path | None) -> list[LabelledPicture]:
    """The pictures of two folders with their labels, corrected by marks.

    Raises:
        UserError: a folder or a file is missing or empty, or a picture is good and defective.
    """
    if bad is not None and bad.resolve().is_relative_to(good.resolve()):
        raise UserError(
            f"--bad {bad}: lies inside --good {good}, where all pictures are of good parts; give two folders"
        )
    files = find_images(good)
    check_all_good(files, good)
    found = [LabelledPicture(file=file, bad=False) for file in files]
    if bad is not None:
        for file in find_images(bad):
            folder = file.parent.name if file.parent != bad else ""
            if is_good(folder):
                raise UserError(f"{file}: lies in a folder called {folder!r} below --bad {bad}; give it by --good")
            found.append(LabelledPicture(file=file, bad=True, kind=defect_name(folder)))
    return with_marks(found, marks, [folder for folder in (good, bad) if folder])


def with_marks(
    pictures: Sequence[LabelledPicture], marks: Path | None, folders: Sequence[Path]
) -> list[LabelledPicture]:
    """The pictures, each content once, with the marks' labels before their own; marked pictures from elsewhere too.

    Args:
        marks: a file of marks; None for none.
        folders: where marked pictures are looked for that are not where they were.

    Raises:
        UserError: a marked picture is nowhere, or one picture is good and defective.
    """
    digests: dict[str, LabelledPicture] = {}
    for one in pictures:
        twin = digests.setdefault(file_digest(one.file), one)
        if twin.bad != one.bad:
            raise UserError(
                f"{one.file} and {twin.file} are the same picture, once good and once defective; remove one of them"
            )
    for file, mark in find_marked(read_marks(marks), folders) if marks is not None else ():
        known = digests.get(mark.digest)
        file = known.file if known else file
        digests[mark.digest] = LabelledPicture(file=file, bad=not mark.good, kind=mark.kind, marked=True)
    return list(digests.values())


def check_whole(files: Sequence[Path]) -> None:
    """Decode every picture once, so that all that are damaged are named before the long work and not one at its turn.

    Raises:
        UserError: some cannot be opened; it says why of the first, and names the others.
    """

    def damage(file: Path) -> str:
        try:
            open_image(file)
        except UserError as error:
            return str(error)
        return ""

    reasons = side_by_side(damage, files, desc="opening", unit="picture")
    found = {file: reason for file, reason in zip(files, reasons, strict=True) if reason}
    if not found:
        return
    file, *others = found
    raise UserError(f"{found[file]}; take it out of the folder, or mend it{the_others(others)}")


def the_others(files: Sequence[Path | str]) -> str:
    """What is said behind the error of one file about others that cannot be used either."""
    if not files:
        return ""
    names = ", ".join(map(str, files[:MOST_NAMED])) + ", …" * (len(files) > MOST_NAMED)
    return f"; {len(files)} more cannot be used: {names}"


def check_good(files: Sequence[Path], folder: Path, *, mixed: bool = False, textures: bool = True) -> None:
    """Whether good pictures can be compared with each other.

    Args:
        files: the pictures.
        folder: where they are, for messages.
        mixed: whether groups of another shape or look are taken.
        textures: whether shapes may differ where nothing can be laid over anything (a map of textures takes any).

    Raises:
        UserError: there are fewer than two, or they show different views or parts.
    """
    if len(files) < 2:
        raise UserError(
            f"{folder}: {len(files) or 'no'} good picture{'s' * (not files)} in it, expected 2 or more, to compare "
            "them with each other (20 make a threshold steady)"
        )
    others = [] if mixed else _other_shapes(files)
    if others and not (textures and (likeness(files) or 0) < ALIGNED):
        raise UserError(
            f"{others[0]}: has another shape than most good pictures ({len(others)} of {len(files)} have), so it "
            "shows another part or view; give each part and view a folder and a line of its own, or --mixed where one "
            "line shows both"
        )
    groups = None if mixed else _groups(files)
    if groups:
        one, other = groups
        raise UserError(
            f"{folder}: the good pictures fall into groups of another look ({len(one)} like {one[0].name}, "
            f"{len(other)} like {other[0].name}); give each part a folder of its own, or --mixed where one line shows "
            "both"
        )


def _other_shapes(files: Sequence[Path]) -> list[Path]:
    """Pictures whose shape is apart from that of most. Cut as each tile happened to be, shapes lie close together, and
    each picture is compared with those of its own."""
    ordered = sorted((aspect(image_size(file)), file) for file in files)
    groups = [[ordered[0]]]
    for one in ordered[1:]:
        if one[0] - groups[-1][-1][0] > ASPECT_SLACK:
            groups.append([])
        groups[-1].append(one)
    most = max(groups, key=len)
    return sorted(file for group in groups if group is not most for _, file in group)


def _groups(files: Sequence[Path]) -> tuple[list[Path], list[Path]] | None:
    """Two groups of pictures that are far apart, compared with how alike those within each are; None otherwise."""
    if len(files) < 4:
        return None
    bits = used_bits(files)
    values = np.stack([descriptor(open_image(file, bits=bits)) for file in files])
    apart = np.sqrt(((values[:, None] - values[None]) ** 2).mean(-1))
    seeds = np.unravel_index(apart.argmax(), apart.shape)
    for _ in range(10):
        side = apart[:, seeds[0]] > apart[:, seeds[1]]
        medoids = tuple(
            int(np.flatnonzero(side == which)[apart[np.ix_(side == which, side == which)].sum(1).argmin()])
            for which in (False, True)
            if (side == which).any()
        )
        if len(medoids) < 2 or medoids == seeds:
            break
        seeds = medoids
    if min(side.sum(), (~side).sum()) < 2:
        return None
    within = max(np.median(apart[np.ix_(part, part)][np.triu_indices(part.sum(), 1)]) for part in (side, ~side))
    between = np.median(apart[np.ix_(side, ~side)])
    if between < LEAST_APART or between < TIMES_WITHIN * within:
        return None
    parts = [[file for file, one in zip(files, side, strict=True) if one == which] for which in (False, True)]
    return tuple(sorted(parts, key=len, reverse=True))
