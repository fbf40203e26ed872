"""VisA, as released and as its own script rearranges it.

    OBJECT/Data/Images/{Normal,Anomaly}/NAME.JPG, OBJECT/Data/Masks/Anomaly/NAME.png   released: index masks
    split_csv/{1cls,2cls_fewshot,2cls_highshot}.csv                                    object,split,label,image,mask

    OBJECT/{train,test}/{good,bad}/NAME.JPG, OBJECT/ground_truth/bad/NAME.png          rearranged: 0/255

The released masks name each region's defect by number; the rearranged ones, which MMAD uses, say only where.
"""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Iterator, Mapping

from adcopilot.kinds import defect_name

from ...errors import UserError
from ..sources.references import parse_reference
from . import mvtec_tree
from .base import LayoutError, ListedImage, Option, Source, join

__all__ = ["CLASSES", "OPTIONS", "looks_like", "scan"]

_SPLITS = ("1cls", "2cls_fewshot", "2cls_highshot")

OPTIONS: Mapping[str, Option] = {
    **mvtec_tree.OPTIONS,
    "split": Option(default="1cls", choices=_SPLITS, help="which file of split_csv says what is train and test"),
}

_PCB = ("bent", "melt", "scratch", "missing")

#: The names of the numbers 1, 2, … in each object's masks, in the authors' words, lower case.
CLASSES: Mapping[str, tuple[str, ...]] = {
    "candle": (
        "chunk of wax missing",
        "damaged corner of packaging",
        "weird candle wick",
        "different colour spot",
        "extra wax in candle",
        "foreign particals on candle",
        "wax melded out of the candle",
        "other",
    ),
    "capsules": ("bubble", "discolor", "scratch", "leak", "misshape"),
    "cashew": (
        "burnt",
        "corner or edge breakage",
        "different colour spot",
        "middle breakage",
        "small holes",
        "small scratches",
        "stuck together",
        "same colour spot",
        "other",
    ),
    "chewinggum": (
        "chunk of gum missing",
        "corner missing",
        "scratches",
        "similar colour spot",
        "small cracks",
        "other",
    ),
    "fryum": (
        "burnt",
        "corner or edge breakage",
        "different colour spot",
        "fryum stuck together",
        "middle breakage",
        "similar colour spot",
        "small scratches",
        "other",
    ),
    "macaroni1": (
        "chip around edge and corner",
        "different colour spot",
        "middle breakage",
        "similar colour spot",
        "small cracks",
        "small scratches",
        "other",
    ),
    "macaroni2": (
        "breakage down the middle",
        "color spot similar to the object",
        "different color spot",
        "small chip around edge",
        "small cracks",
        "small scratches",
        "other",
    ),
    "pcb1": _PCB,
    "pcb2": _PCB,
    "pcb3": _PCB,
    "pcb4": ("burnt", "scratch", "missing", "damage", "extra", "wrong place", "dirt"),
    "pipe_fryum": (
        "burnt",
        "corner and edge breakage",
        "different colour spot",
        "middle breakage",
        "similar colour spot",
        "small scratches",
        "stuck together",
        "small cracks",
        "other",
    ),
}


def looks_like(source: Source) -> bool:
    """Whether there is an object in either form."""
    return bool(_released(source)) or _rearranged(source)


def scan(source: Source) -> Iterator[ListedImage]:
    """All images of all objects, in order.

    Raises:
        LayoutError: there is neither form.
    """
    objects = _released(source)
    if not objects:
        if not _rearranged(source):
            raise LayoutError(
                f"{source.root}: no VisA in it, expected OBJECT/Data/Images/Normal, or OBJECT/train/good and "
                f"OBJECT/test/bad as its script rearranges it; {source.contents()}"
            )
        source.found["the one-class form (train/good, test/bad)"] += 0
        yield from mvtec_tree.scan(source)
        return
    source.found["the released form (Data/Images, index masks)"] += 0
    for folder in objects:
        name = os.path.basename(folder) or source.root.resolve().name
        if source.wants(name):
            yield from _object_items(source, folder, name)


def _released(source: Source) -> list[str]:
    """The folders of the objects in the released form: the root itself, below it, or one level further down."""
    if source.is_folder("Data/Images"):
        return [""]
    for base in ["", *source.folders("")]:
        found = [join(base, name) for name in source.folders(base)]
        found = [folder for folder in found if source.is_folder(join(folder, "Data/Images"))]
        if found:
            return found
    return []


def _rearranged(source: Source) -> bool:
    return any(source.is_folder(join(folder, "test/bad")) for folder in mvtec_tree.find_categories(source))


def _object_items(source: Source, folder: str, name: str) -> Iterator[ListedImage]:
    splits = _splits(source, os.path.dirname(folder), name)
    images = join(folder, "Data/Images")
    for kind in source.folders(images):
        if kind.lower() not in ("normal", "anomaly"):
            source.problem("unexpected-folder", join(images, kind), "expected Normal and Anomaly only")
            continue
        masks = [join(folder, f"Data/Masks/{kind}")]
        for item in mvtec_tree.image_items(source, join(images, kind), name, "", kind=kind, mask_folders=masks):
            key = parse_reference(item.image).path.removeprefix(join(folder, "Data/"))
            yield _with_split(source, item, splits, name, key)
    for listed in sorted(splits or ()):
        file = join(folder, f"Data/{listed}")
        # Those without a mask were named before.
        if not source.is_file(file):
            source.problem("missing-image", file, f"is in {source.options['split']}.csv but not there; copy it")


def _with_split(source: Source, item: ListedImage, splits: dict[str, str] | None, name: str, key: str) -> ListedImage:
    split = ""
    if splits is not None:
        split = splits.pop(key, "")
        if not split:
            source.note("not-in-split", item.image, f"not in {source.options['split']}.csv; split left empty")
    classes = ()
    if item.anomalous and item.mask:
        classes = tuple((number, defect_name(text)) for number, text in enumerate(CLASSES.get(name, ()), 1))
        if not classes:
            source.found[f"{name}: not an object of VisA, its masks' numbers have no names"] += 1
    return dataclasses.replace(item, split=split, defect="", classes=classes)


def _splits(source: Source, base: str, name: str) -> dict[str, str] | None:
    """Image below `OBJECT/Data/` → split, of one object; None when there is no list."""
    path = join(base, f"split_csv/{source.options['split']}.csv")
    if not source.is_file(path):
        source.note("no-split", path, "missing; splits are left empty")
        return None
    splits: dict[str, str] = {}
    try:
        rows = csv.DictReader(source.text(path).splitlines(), strict=True)
        if not {"object", "split", "image"} <= set(rows.fieldnames or ()):
            raise csv.Error(f"columns {rows.fieldnames}, expected object,split,label,image,mask")
        for row in rows:
            if row["object"] == name:
                _add_split(source, path, f"line {rows.line_num}", row, name, splits)
    except (csv.Error, UserError) as error:
        source.fault("broken-csv", path, error)
        return None
    return splits


def _add_split(source: Source, path: str, line: str, row: dict, name: str, splits: dict[str, str]) -> None:
    key = (row["image"] or "").replace("\\", "/").rpartition(f"{name}/Data/")[2]
    if row["split"] not in ("train", "val", "test"):
        source.problem("broken-csv", path, f"{line}: split {row['split']!r}, expected train or test")
    elif key in splits:
        source.problem("listed-twice", path, f"{line}: {row['image']} is listed before")
    else:
        splits[key] = row["split"]
