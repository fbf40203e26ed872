"""MVTec-LOCO: an MVTec-style tree with a folder of masks for each defective image.

    CATEGORY/{train,validation,test}/good/NNN.png, CATEGORY/test/{logical,structural}_anomalies/NNN.png
    CATEGORY/ground_truth/{logical,structural}_anomalies/NNN/{000,001,…}.png
    CATEGORY/defects_config.json        [{"defect_name": …, "pixel_value": …}, …]

The value of a mask's pixels names the defect through `defects_config.json`. Without that file the kind of defect is
the folder's.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator

from ..sources.coco_file import storable
from ..sources.references import parse_reference
from . import mvtec_tree
from .base import ListedImage, Source, join
from .mvtec_tree import OPTIONS, looks_like

__all__ = ["OPTIONS", "looks_like", "scan"]


def scan(source: Source) -> Iterator[ListedImage]:
    """All images of all categories, in order.

    Raises:
        LayoutError: there is no category.
    """
    return mvtec_tree.scan_with(source, _category_items)


def _category_items(source: Source, folder: str, category: str) -> Iterator[ListedImage]:
    classes = _classes(source, folder)
    for item in mvtec_tree.tree_items(source, folder, category):
        if item.anomalous:
            kind = parse_reference(item.image).path.split("/")[-2]
            item = dataclasses.replace(item, defect=kind, classes=classes, notes=kind)
        yield item


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
