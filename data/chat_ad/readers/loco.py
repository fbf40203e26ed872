"""MVTec-LOCO: an MVTec-style tree with a folder of masks for each defective image.

    CATEGORY/{train,validation,test}/good/NNN.png, CATEGORY/test/{logical,structural}_anomalies/NNN.png
    CATEGORY/ground_truth/{logical,structural}_anomalies/NNN/{000,001,…}.png
    CATEGORY/defects_config.json        [{"defect_name": …, "pixel_value": …}, …]

The value of a mask's pixels names the defect through `defects_config.json`. Without that file the kind of defect is
the folder's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

from adcopilot.kinds import is_good

from ..sources.coco_file import storable
from ..sources.references import format_reference
from . import mvtec_tree
from .base import Item, Source, join
from .mvtec_tree import OPTIONS, SPLIT_FOLDERS, Masks, looks_like

__all__ = ["OPTIONS", "looks_like", "scan"]


def scan(source: Source) -> Iterator[Item]:
    """All images of all categories, in order.

    Raises:
        LayoutError: there is no category.
    """
    return mvtec_tree.scan_with(source, _category_items)


def _category_items(source: Source, folder: str, category: str) -> Iterator[Item]:
    classes = _classes(source, folder)
    for split_folder in sorted(set(source.folders(folder)) & SPLIT_FOLDERS.keys(), key=list(SPLIT_FOLDERS).index):
        base = join(folder, split_folder)
        for kind in source.folders(base):
            yield from _image_items(
                source, folder, join(base, kind), category, SPLIT_FOLDERS[split_folder], kind, classes
            )


def _image_items(source, folder, images, category, split, kind, classes) -> Iterator[Item]:
    anomalous = not is_good(kind)
    masks = Masks(source, [join(folder, f"ground_truth/{kind}")])
    used = set()
    for name in source.images(images):
        mask = ""
        if anomalous:
            mask = masks.find(join(images, name), os.path.splitext(name)[0])
            used.add(mask)
            if mask is None:
                continue
        yield Item(
            image=format_reference(join(images, name)),
            category=category,
            split=split,
            anomalous=anomalous,
            defect=kind if anomalous else "",
            mask=mask,
            classes=classes if anomalous else (),
            notes=kind if anomalous else "",
        )
    if anomalous:
        masks.report_unused(used)


def _classes(source: Source, folder: str) -> tuple[tuple[int, str], ...]:
    path = join(folder, "defects_config.json")
    if not source.is_file(path):
        source.found["categories without defects_config.json: defects are only logical or structural"] += 1
        return ()
    try:
        entries = json.loads(source.text(path))
        classes = tuple((entry["pixel_value"], entry["defect_name"]) for entry in entries)
        if not all(isinstance(value, int) and isinstance(name, str) for value, name in classes):
            raise TypeError
        classes = tuple((value, storable(name)) for value, name in classes)
    except (ValueError, TypeError, KeyError, RecursionError):
        reason = "not a list of objects with defect_name and pixel_value; copy it again or remove it"
        source.problem("broken-json", path, reason)
        return ()
    return classes
