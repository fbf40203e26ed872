"""DeepPCB: aligned pairs of a template and a test image, with boxes (`deeppcb_source`).

Both images of a pair become rows: the template normal, the test image anomalous. The board's group of folders is the
view, so that a test image is paired with templates of the same board. There are boxes and no masks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from ...errors import UserError
from ..deep_pcb.source import CLASSES, LISTS, find_root, list_path, read_split
from ..sources.references import format_reference
from .base import Item, LayoutError, Option, Source

__all__ = ["OPTIONS", "looks_like", "scan"]

OPTIONS: Mapping[str, Option] = {}

CATEGORY = "pcb"


def looks_like(source: Source) -> bool:
    """Whether the authors' lists are there."""
    try:
        find_root(source.root)
    except UserError:
        return False
    return source.is_folder("PCBData") or any(name.startswith("group") for name in source.folders(""))


def scan(source: Source) -> Iterator[Item]:
    """Template and test image of each pair, in the order of the lists, train before test.

    Raises:
        LayoutError: there is no list.
    """
    try:
        root = find_root(source.root)
    except UserError as error:
        raise LayoutError(str(error)) from None
    if not source.wants(CATEGORY):
        return
    seen: dict[str, str] = {}
    for split in LISTS:
        faults: list[UserError] = []
        try:
            pairs = read_split(root, split, faults=faults)
        except UserError as error:
            source.problem("missing-list", _relative(source, root / LISTS[split]), str(error))
            continue
        for fault in faults:
            source.problem("annotation", _relative(source, list_path(root, split)), str(fault))
        for pair in pairs:
            if pair.name in seen:
                reason = f"is in {LISTS[seen[pair.name]]} too, expected each pair in one list; taken from there"
                source.problem("listed-twice", _relative(source, pair.query), reason)
                continue
            seen[pair.name] = split
            view = pair.source.split("/")[0]
            labels = [CLASSES[defect.kind].label for defect in pair.defects]
            common = {"category": CATEGORY, "split": split, "view": view}
            yield Item(
                **common,
                image=format_reference(_relative(source, pair.template)),
                anomalous=False,
                notes=f"aligned template of {pair.query.name}",
            )
            yield Item(
                **common,
                image=format_reference(_relative(source, pair.query)),
                anomalous=True,
                defect=", ".join(sorted(set(labels))),
                boxes=tuple((defect.box, label) for defect, label in zip(pair.defects, labels, strict=True)),
            )


def _relative(source: Source, path: os.PathLike) -> str:
    return os.path.relpath(path, source.root).replace(os.sep, "/")
