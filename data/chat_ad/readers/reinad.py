"""ReinAD: HDF5 files, one a category and split.

    [dataset/]{train,test}/CATEGORY.h5
        Images/Normal_I, Images/Anomaly_I       count × height × width × channels, 8 bits, up to 100 images each
        Masks/Anomaly_I                         count × height × width, 0 or 1
        attributes: split, category

There are no names of defects. Images stay where they are: a reference names file, array and index.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ...errors import UserError
from .. import arrays
from ..sources.references import format_reference
from .base import LayoutError, ListedImage, Option, Source, join

__all__ = ["OPTIONS", "looks_like", "scan"]

OPTIONS: Mapping[str, Option] = {}

_SUFFIXES = (".h5", ".hdf5")
_SPLITS = {"train": "train", "val": "val", "validation": "val", "test": "test"}


def looks_like(source: Source) -> bool:
    """Whether there is an HDF5 file."""
    return bool(_files(source))


def scan(source: Source) -> Iterator[ListedImage]:
    """All images of all files: normal ones, then anomalous ones.

    Raises:
        LayoutError: there is no HDF5 file.
    """
    files = _files(source)
    if not files:
        raise LayoutError(
            f"{source.root}: no HDF5 file in it, expected train/CATEGORY.h5 and test/CATEGORY.h5; {source.contents()}"
        )
    for file in files:
        try:
            yield from _file_items(source, file)
        except LayoutError:
            raise
        except UserError as error:
            source.fault("unreadable-file", file, error)


def _files(source: Source) -> list[str]:
    folders = source.walk(depth=2)
    return sorted(join(one, name) for one in folders for name in source.files(one) if name.endswith(_SUFFIXES))


def _file_items(source: Source, file: str) -> Iterator[ListedImage]:
    path = source.path(file)
    attributes = arrays.attributes(path)
    folder, _, name = file.rpartition("/")
    stem = name.rpartition(".")[0]
    category = attributes.get("category") or stem
    split = _SPLITS.get(attributes.get("split") or folder.rpartition("/")[2], "")
    if category != stem:
        source.note("category", file, f"says that it holds {category!r}, not {stem!r}; taken as it says")
    if not source.wants(category):
        return
    names = arrays.dataset_names(path)
    for array in names:
        kind = array.rpartition("/")[2].rpartition("_")[0]
        if array.startswith("Images/") and kind in ("Normal", "Anomaly"):
            continue
        if not array.startswith("Masks/Anomaly_"):
            source.note(
                "unknown-array", file, f"{array} is neither Images/Normal_N, Images/Anomaly_N nor Masks/Anomaly_N"
            )
        elif array.replace("Masks/", "Images/") not in names:
            source.note("unused-mask", file, f"{array} has no {array.replace('Masks/', 'Images/')}")
    for array in names:
        if array.startswith("Images/Normal_"):
            for index in _indices(path, array):
                yield _item(file, array, index, category, split, "")
        elif array.startswith("Images/Anomaly_"):
            mask = array.replace("Images/", "Masks/")
            if mask not in names:
                source.problem("missing-mask", file, f"{array} has no {mask}, expected one mask an image")
            elif _indices(path, mask) != _indices(path, array):
                held = f"{arrays.length(path, array)} images, {mask} {arrays.length(path, mask)} masks"
                source.problem("missing-mask", file, f"{array} holds {held}; expected as many")
            else:
                for index in _indices(path, array):
                    yield _item(file, array, index, category, split, mask)


def _indices(path: str, array: str) -> list[int | None]:
    count = arrays.length(path, array)
    return [None] if count is None else list(range(count))


def _item(file: str, array: str, index: int | None, category: str, split: str, mask: str) -> ListedImage:
    where = {} if index is None else {"index": index}
    return ListedImage(
        image=format_reference(file, h5=array, **where),
        category=category,
        split=split,
        anomalous=bool(mask),
        mask=format_reference(file, h5=mask, **where) if mask else "",
    )
