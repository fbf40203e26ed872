"""Readers of public datasets' own layouts, and of users' folders: from what lies on disk to rows of the table.

    entries = index("mvtec", root)                   rows, one by one; the first problem is raised
    entries = index("mvtec", root, problems=found)   problems are collected, their images left out

In two steps, as a build takes them: `scan` reads names and annotation files and gives `ListedImage`s,
`measure` opens an item's image and mask and gives its rows. A reader is a module and its line in `READERS`.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...images import has_depth, used_bits
from ...masks import MaskOptions
from ...yaml_sections import short
from ..sources.references import format_reference, parse_reference
from ..table import Entry
from . import (
    coco,
    deeppcb,
    folder,
    labelme,
    loco,
    manta,
    mvtec_tree,
    real_iad,
    records,
    reinad,
    visa,
    vision,
    voc,
    yolo,
)
from .base import LayoutError, ListedImage, Problem, Reader, Source
from .contents import why_no_folder
from .measure import measure

__all__ = [
    "GUESSES",
    "READERS",
    "ListedImage",
    "Problem",
    "Source",
    "check_reader_options",
    "index",
    "make_source",
    "measure",
    "prescan",
    "scan",
    "why_no_folder",
]

#: A dataset's name in a recipe → how it is read.
READERS: Mapping[str, Reader] = {
    "mvtec": Reader(mvtec_tree, "CC BY-NC-SA 4.0"),
    "visa": Reader(visa, "CC BY 4.0"),
    "loco": Reader(loco, "CC BY-NC-SA 4.0"),
    "goodsad": Reader(mvtec_tree, "no data licence stated"),
    "mpdd": Reader(mvtec_tree, "CC BY-NC-SA 4.0"),
    "3cad": Reader(mvtec_tree, "no licence stated"),
    "viaduct": Reader(mvtec_tree, "unknown"),
    "manta": Reader(manta, "unknown"),
    "real-iad": Reader(real_iad, "CC BY-NC-SA 4.0"),
    "real-iad-variety": Reader(real_iad, "unknown"),
    "vision": Reader(vision, "CC BY-NC 4.0"),
    "reinad": Reader(reinad, "CC BY-NC-SA 4.0"),
    "deeppcb": Reader(deeppcb, "MIT"),
    "coco": Reader(coco),
    "yolo": Reader(yolo),
    "voc": Reader(voc),
    "labelme": Reader(labelme),
    "folder": Reader(folder),
    "records": Reader(records, built=True),
}

# Tried in this order when a root turns out to be something else; the least particular comes last.
GUESSES = ("deeppcb", "real-iad", "visa", "vision", "reinad", "coco", "voc", "labelme", "yolo", "mvtec")


def index(
    dataset: str,
    root: str | os.PathLike,
    *,
    options: Mapping[str, Any] | None = None,
    categories: Iterable[str] = (),
    min_area: int = 1,
    masks: MaskOptions = MaskOptions(),  # noqa: B008 - frozen
    problems: list[Problem] | None = None,
) -> Iterator[Entry]:
    """The rows of a dataset in a fixed order.

    Args:
        dataset: one of `READERS`.
        root: its folder; nothing in it is changed.
        options: of the reader, as in its `OPTIONS`.
        categories: only these, all when empty.
        min_area: connected regions of a mask of fewer pixels give no box.
        masks: how masks are read.
        problems: where to put what is wrong; the images concerned are left out. Without it, the first is raised.

    Raises:
        UserError: an unknown dataset, option or category, a root of another layout, or a problem.
    """
    source = make_source(dataset, root, options=options, categories=categories)
    first = make_source(dataset, root, options=options, categories=categories)
    prescan(first, scan(first))
    source.disputed, source.bits = first.disputed, first.bits
    for item in scan(source):
        _pass_on(source, problems)
        found = measure(
            item, root=source.root, dataset=dataset, licence=READERS[dataset].licence, min_area=min_area, masks=masks
        )
        if isinstance(found, Problem):
            source.problems.append(found)
        else:
            yield from found
        _pass_on(source, problems)
    _pass_on(source, problems)


def _pass_on(source: Source, problems: list[Problem] | None) -> None:
    """Move the source's problems to the caller's list, or raise the first that matters."""
    for problem in source.problems:
        if problems is not None:
            problems.append(problem)
        elif problem.blocking:
            raise UserError(f"{source.path(problem.file)}: {problem.reason}")
    source.problems.clear()


def make_source(
    dataset: str,
    root: str | os.PathLike,
    *,
    options: Mapping[str, Any] | None = None,
    categories: Iterable[str] = (),
    recipe: str = "datasets.SET",
) -> Source:
    """A dataset to `scan`, its options checked and completed.

    Args:
        dataset, root, options, categories: as `index`.
        recipe: the key of a build's recipe that says so; for messages.

    Raises:
        UserError: an unknown dataset or option, or the root is no folder.
    """
    if dataset not in READERS:
        close = get_close_matches(dataset, READERS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(READERS)}"
        raise UserError(f"dataset {dataset!r} has no reader; {hint}")
    given = {name: str(value) for name, value in (options or {}).items()}
    check_reader_options(dataset, given, where=f"{recipe}.options")
    complete = {name: option.default for name, option in READERS[dataset].module.OPTIONS.items()} | given
    root = Path(root)
    source = Source(root=root, dataset=dataset, options=complete, categories=frozenset(categories), recipe=recipe)
    if not root.is_dir():
        raise UserError(f"{source.say_root(root)}: {why_no_folder(root)}, expected the folder of the dataset")
    return source


def check_reader_options(dataset: str, options: Mapping[str, str], *, where: str) -> None:
    """Check a reader's settings.

    Args:
        dataset: one of `READERS`.
        options: of its reader, as in its `OPTIONS`.
        where: what they are called in messages.

    Raises:
        UserError: one is missing, does not exist, or has a value that it cannot have.
    """
    declared = READERS[dataset].module.OPTIONS
    for name, option in declared.items():
        if option.default is None and name not in options:
            raise UserError(f"{where}.{name} is missing, expected {option.help}")
    for name, value in options.items():
        if name not in declared:
            known = ", ".join(declared) or "none"
            raise UserError(f"{where}.{name}: the reader {dataset} has no such option; there are: {known}")
        choices = declared[name].choices
        if choices is not None and value not in choices:
            raise UserError(f"{where}.{name} is {short(value)}, expected one of {', '.join(filter(None, choices))}")


def scan(source: Source) -> Iterator[ListedImage]:
    """What a dataset's layout says, item by item in a fixed order, without opening images.

    Problems are put into `source.problems`; what they concern is left out.

    Raises:
        UserError: the root has another layout (with a guess at what was meant), or a category asked for is not there.
    """
    reader = READERS[source.dataset]
    items = reader.module.scan(source)
    try:
        yield from _with_depth(source, items if reader.built else undisputed(source, items))
    except LayoutError as error:
        # A link that is not followed, a folder that may not be read: what was looked for may be behind it.
        faults = "".join(f"; {one.file}: {one.reason}" for one in source.problems[:3] if one.blocking)
        raise UserError(f"{error}{faults}{_hint(source)}") from None
    unknown = sorted(source.categories - source.seen_categories)
    if unknown:
        close = get_close_matches(unknown[0], source.seen_categories, n=1)
        known = (
            f"did you mean {close[0]}?" if close else f"there are: {', '.join(sorted(source.seen_categories)[:20])}"
        )
        raise UserError(f"{source.root}: no category {unknown[0]!r} in it; {known}")


def prescan(source: Source, items: Iterable[ListedImage]) -> int:
    """Count the items of a first pass, and find what no item alone can tell: `source.bits` (and `disputed`).

    Only of files that can have 16 bits a channel the header is read, and only those that do are decoded.
    """
    total, deep = 0, []
    for item in items:
        total += 1
        if _may_be_deep(item.image):
            deep.append(source.path(parse_reference(item.image).path))
    bits = used_bits(deep)
    if bits is not None and bits < 16:
        source.bits = bits
        source.found[f"images of 16 bits a channel use {bits} of them and are scaled by {(1 << bits) - 1}"] += 0
    return total


def _with_depth(source: Source, items: Iterable[ListedImage]) -> Iterator[ListedImage]:
    """The items of a second pass, their images opened with the depth that the first has found."""
    for item in items:
        if source.bits is not None and _may_be_deep(item.image):
            parsed = parse_reference(item.image)
            if has_depth(source.path(parsed.path)):
                reference = format_reference(parsed.path, **parsed.fragment, bits=source.bits)
                item = dataclasses.replace(item, image=reference)
        yield item


def _may_be_deep(reference: str) -> bool:
    parsed = parse_reference(reference)
    return "h5" not in parsed.fragment and parsed.path.lower().endswith((".png", ".tif", ".tiff"))


def undisputed(source: Source, items: Iterable[ListedImage]) -> Iterator[ListedImage]:
    """The items whose mask is their own: one mask that two images find by their names is a problem, and both go.

    Of the first of them that is known when the second comes, so `source.disputed` holds what an earlier scan found.
    """
    users: dict[str, str] = {}
    for item in items:
        if item.mask:
            first = users.setdefault(item.mask, item.image)
            if first != item.image:
                source.disputed.add(item.mask)
                reason = (
                    f"serves two images, {first} and {item.image}, of which it shows one at most; rename one of them, "
                    "and give it a mask of its name"
                )
                source.problem("shared-mask", item.mask, reason)
            if item.mask in source.disputed:
                continue
        yield item


def _hint(source: Source) -> str:
    """What a root that does not fit its dataset probably is."""
    own = READERS[source.dataset].module

    def fits(root: Path, dataset: str) -> bool:
        options = {name: option.default for name, option in READERS[dataset].module.OPTIONS.items()}
        return READERS[dataset].module.looks_like(Source(root=root, dataset=dataset, options=options, budget=500))

    for root in (source.root / name for name in source.folders("")[:50]):
        if own is not folder and fits(root, source.dataset):
            return f"; did you mean {source.say_root(root)}?"
    for dataset in GUESSES if source.recipe else ():
        if READERS[dataset].module is not own and fits(source.root, dataset):
            return f"; it looks like the dataset {dataset!r} (--set {source.recipe}.reader={dataset})"
    above = source.root.resolve().parent
    if own is not folder and fits(above, source.dataset):
        return f"; did you mean {source.say_root(above)}?"
    return ""
