"""What the folder of a query says it is: good, or a kind of defect."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

from ..kinds import defect_name, is_good

__all__ = ["Label", "labels_of"]

#: (is defective, kind of defect or "")
Label = tuple[bool, str]


def labels_of(names: Iterable[str]) -> dict[str, Label]:
    """The label of each query, by the folder it lies in; nothing where no folder is called good.

    What lies deeper in a folder of good parts has no label: its own folder may be a shift, or a kind of defect.

    Args:
        names: paths below the folder of queries, with `/`: `good/1.png`, `test/scratch/2.png`.
    """
    folders = {name: PurePosixPath(name).parts[:-1] for name in names}
    if not any(is_good(folder) for parts in folders.values() for folder in parts):
        return {}
    return {
        name: (False, "") if is_good(parts[-1]) else (True, defect_name(parts[-1]))
        for name, parts in folders.items()
        if parts and (is_good(parts[-1]) or not any(map(is_good, parts)))
    }
