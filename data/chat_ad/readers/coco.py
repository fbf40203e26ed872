"""COCO annotation files: VISION's, and a user's own.

    SET/{train,val,inference}/_annotations.coco.json      VISION and Roboflow: the images lie beside the file
    annotations/*.json with images/, or *.json            COCO's own arrangement

Every annotation is a defect, its COCO category the kind of defect; id 0 is an ordinary category. Annotations of a
category called `good`, `ok`, … (`kinds.GOOD`) are none; an image that has no others is normal. The mask of an image
is the union of its annotations, and its boxes are the connected components of that. An image whose annotations are
boxes only has no mask, and those boxes. An image without annotations is normal, or left out with a note, as
`--option unannotated=` says.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping

from adcopilot.kinds import defect_name, is_good

from ... import images as image_files
from ...errors import UserError
from ..sources import coco_file
from ..sources.references import format_reference
from .base import LayoutError, ListedImage, Option, Source, first_names, inside, join

__all__ = ["OPTIONS", "VISION_OPTIONS", "annotation_files", "looks_like", "scan"]

OPTIONS: Mapping[str, Option] = {
    "annotations": Option(default="", help="the annotation files, relative to the root, with commas; all by default"),
    "category": Option(default="", help="what the images show; by default the name of the folder that holds the set"),
    "unannotated": Option(
        default="normal", choices=("normal", "skip"), help="what images without annotations are; skip leaves them out"
    ),
}

# VISION does not say that the images of its inference split are free of defects.
VISION_OPTIONS: Mapping[str, Option] = {
    **OPTIONS,
    "unannotated": Option(default="skip", choices=("skip", "normal"), help=OPTIONS["unannotated"].help),
}

_SPLITS = {"train": "train", "valid": "val", "validation": "val", "val": "val", "test": "test", "inference": "test"}
_SPLIT_WORD = re.compile(r"(?<![a-z])(train|validation|valid|val|test|inference)(?![a-z])")
_NEUTRAL = {"annotations", "annotation", "images", "labels"}


def looks_like(source: Source) -> bool:
    """Whether there is an annotation file, by its name or by how it begins."""
    files = annotation_files(source)
    return any(name.endswith("_annotations.coco.json") or _begins_like_coco(source.path(name)) for name in files)


def _begins_like_coco(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            head = file.read(65536)
    except OSError:
        return False
    return b'"images"' in head and (b'"file_name"' in head or b'"annotations"' in head)


def scan(source: Source) -> Iterator[ListedImage]:
    """The images of all annotation files, files and images in the order of their names.

    Raises:
        LayoutError: there is no annotation file.
    """
    files = annotation_files(source)
    if source.options["annotations"]:
        files = [inside(name.strip()) or name for name in source.options["annotations"].split(",")]
        missing = [name for name in files if not source.is_file(name)]
        if missing:
            raise LayoutError(
                f"{source.path(missing[0])}: no such file; {source.say('annotations', 'FILE')} names files in the root"
            )
    elif any(name.endswith("_annotations.coco.json") for name in files):
        files = [name for name in files if name.endswith("_annotations.coco.json")]
    elif source.dataset == "vision":
        files = []
    if not files:
        raise LayoutError(
            f"{source.root}: no annotation file in it, expected SET/train/_annotations.coco.json or "
            f"annotations/NAME.json; {source.contents()}"
        )
    other, seen = 0, {}
    for file in files:
        category = source.options["category"] or _category(source, file)
        try:
            if source.wants(category):
                yield from _file_items(source, file, category, seen)
        except coco_file.NotCocoError as error:
            other += 1
            if source.options["annotations"] or file.endswith("_annotations.coco.json"):
                source.problem("broken-json", file, str(error))
            else:
                source.note("other-json", file, "not a COCO file, passed over")
    if not source.options["annotations"] and not source.categories:
        there = [join(one, name) for one in dict.fromkeys(map(os.path.dirname, seen)) for name in source.files(one)]
        unlisted = [path for path in image_files.photograph_names(there) if path not in seen]
        if unlisted:
            source.note(
                "unlisted",
                ".",
                f"{len(unlisted)} images are in no annotation file and left out: {first_names(unlisted)}",
            )
    if other == len(files):
        raise LayoutError(
            f"{source.root}: no COCO file in it, expected images, annotations and categories in {first_names(files)}"
        )


def annotation_files(source: Source) -> list[str]:
    """All JSON files down to three folders below the root."""
    folders = source.walk(depth=3)
    return sorted(join(one, name) for one in folders for name in source.files(one) if name.lower().endswith(".json"))


def _category(source: Source, file: str) -> str:
    folders = [part for part in file.split("/")[:-1] if part.lower() not in _SPLITS.keys() | _NEUTRAL]
    return folders[-1] if folders else source.root.resolve().name


def _split(file: str) -> str:
    for part in (file.split("/")[-1], *reversed(file.split("/")[:-1])):
        words = _SPLIT_WORD.findall(re.sub(r"[\d_.-]+", " ", part.lower()))
        if words:
            return _SPLITS[words[-1]]
    return ""


def _file_items(source: Source, file: str, category: str, seen: dict[str, str]) -> Iterator[ListedImage]:
    try:
        coco = coco_file.load(source.path(file))
    except coco_file.NotCocoError:
        raise
    except UserError as error:
        source.fault("broken-json", file, error)
        return
    for fault in coco.faults:
        source.problem("annotation", file, f"{fault}; correct or remove it")
    split, bare = _split(file), 0
    folders = _image_folders(file)
    for image_id, image in sorted(coco.images.items(), key=lambda pair: (pair[1]["file_name"], pair[0])):
        path = _find(source, folders, image["file_name"], file)
        if path is None:
            continue
        if image_id in coco.incomplete:
            seen.setdefault(path, file)
            continue
        if path in seen:
            source.problem("listed-twice", path, f"is in {seen[path]} and in {file}; taken from the first")
            continue
        seen[path] = file
        annotations = coco.annotations.get(image_id, [])
        if not annotations:
            bare += 1
            if source.options["unannotated"] == "normal":
                yield ListedImage(image=format_reference(path), category=category, split=split, anomalous=False)
            continue
        item = _item(source, coco, path, category, split, image_id, image, annotations)
        if item is not None:
            yield item
    if bare:
        normal = source.options["unannotated"] == "normal"
        done = "taken as normal" if normal else "left out"
        other = source.say("unannotated", "skip" if normal else "normal")
        does = "leaves them out" if normal else "takes them as normal"
        reason = f"{bare} of {len(coco.images)} images carry no annotation: {done} ({other} {does})"
        source.note("unannotated", file, reason)


def _item(source, coco, path, category, split, image_id, image, annotations) -> ListedImage | None:
    annotations = [one for one in annotations if not is_good(coco.classes[one["category_id"]])]
    if not annotations:
        return ListedImage(image=format_reference(path), category=category, split=split, anomalous=False)
    if any(map(is_good, path.split("/")[:-1])):
        reason = f"lies in a folder that says good, but {coco.path} has {len(annotations)} defects on it; correct one"
        source.problem("conflict", path, reason)
        return None
    names = [defect_name(coco.classes[one["category_id"]]) for one in annotations]
    size = coco_file.stated_size(image.get("width"), image.get("height"))
    mask, boxes = "", None
    if any(one.get("segmentation") for one in annotations):
        file = os.path.relpath(coco.path, source.root).replace(os.sep, "/")
        mask = format_reference(file, coco=image_id)
    else:
        try:
            bounds = size or image_files.image_size(source.path(path))
            where = f"{coco.path}: image {image_id}"
            boxes = tuple(
                dict.fromkeys(
                    (coco_file.annotation_box(one, size=bounds, name=f"{where}, annotation {one.get('id')}"), name)
                    for one, name in zip(annotations, names, strict=True)
                )
            )
        except UserError as error:
            source.problem("box", path, str(error))
            return None
    return ListedImage(
        image=format_reference(path),
        category=category,
        split=split,
        anomalous=True,
        defect=", ".join(sorted({name for name in names if name})),
        mask=mask,
        boxes=boxes,
        size=size,
    )


def _image_folders(file: str) -> list[str]:
    """Where a file's images may be, the likeliest first."""
    folder, name = file.rpartition("/")[::2]
    above = folder.rpartition("/")[0]
    stem = name.removesuffix(".json").removeprefix("instances_")
    found = [folder, join(folder, "images")]
    if folder.rpartition("/")[2].lower() in _NEUTRAL:
        found += [join(above, "images"), above]
    for base in list(found):
        found.append(join(base, stem))
    return list(dict.fromkeys(found))


def _find(source: Source, folders: list[str], name: str, file: str) -> str | None:
    clean = inside(name)
    if clean is None:
        source.problem("outside-root", file, f"file_name {name[:120]!r}, expected a path inside the root")
        return None
    for position, folder in enumerate(folders):
        path = join(folder, clean)
        if source.is_file(path):
            # The next one is probably in the same folder.
            folders.insert(0, folders.pop(position))
            return path
    source.problem("missing-image", join(folders[0], clean), f"is in {file} but not there; copy it")
    return None
