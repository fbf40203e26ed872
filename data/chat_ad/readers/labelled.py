"""Photographs with a file of labels each, as labelling tools write them: what YOLO, VOC and LabelMe folders share.

The file has its photograph's name and lies beside it, or in a folder of labels in the place of the folder of images:
`images/train/a.jpg` and `labels/train/a.txt`, `train/images/a.jpg` and `train/labels/a.txt`.

Every region is a defect, unless its class is called good (or ok, normal). A file without a region says that the part
is good. A photograph without a file says nothing: it is listed, unless its folder is called good or
`unlabelled=normal` says so.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from adcopilot.kinds import defect_name, is_good, is_masks

from ... import images as image_files
from ...errors import UserError
from .. import label_files
from ..sources import coco_file
from ..sources.references import format_reference
from .base import LayoutError, ListedImage, Option, Source, first_names, inside, is_image, join

__all__ = ["OPTIONS", "Form", "reader"]

OPTIONS: Mapping[str, Option] = {
    "category": Option(default="", help="what the images show; by default the name of the folder that holds the set"),
    "unlabelled": Option(
        default="refuse",
        choices=("refuse", "normal"),
        help="images without a file of labels: refuse (nobody knows), or normal where only defects were labelled",
    ),
}

_IMAGE_FOLDERS = ("images", "image", "img", "imgs", "jpegimages")
_SPLITS = {"train": "train", "valid": "val", "validation": "val", "val": "val", "test": "test"}

# Files that are looked at to see what a folder holds.
_SNIFFED = 5


@dataclass(frozen=True, kw_only=True)
class Form:
    """A tool's way of writing labels.

    Attributes:
        name: of `label_files.FORMS`.
        suffix: of its files, in lower case.
        folders: how folders of labels are called.
        others: names of files with that suffix that hold no labels.
        names: class in a file → its name, where the file has numbers; None where it has names.
        splits: stem → split, where a list says so.
        file_name: `file_name(data, name)`, the image that a file says it is about, None where it says none.
    """

    name: str
    suffix: str
    folders: Sequence[str]
    others: frozenset[str] = frozenset()
    names: Mapping[str, str] | None = None
    splits: Mapping[str, str] | None = None
    file_name: Callable[[bytes, str], str] | None = None


def reader(
    form: Form, own: Callable[[Source], Mapping[str, Any]] = lambda source: {}
) -> tuple[Callable[[Source], bool], Callable[[Source], Iterator[ListedImage]]]:
    """A reader's `looks_like` and `scan`.

    Args:
        form: of its files.
        own: what a set's files say of the form besides (`names`, `splits`); asked once, when the set is read.
    """

    def looks_like(source: Source) -> bool:
        """Whether images have files of labels of this form."""
        return _looks_like(source, form)

    def scan(source: Source) -> Iterator[ListedImage]:
        """All images, in order.

        Raises:
            LayoutError: no image has a file of labels, or `own` says so.
        """
        yield from _scan(source, replace(form, **own(source)))

    return looks_like, scan


def _looks_like(source: Source, form: Form) -> bool:
    """Whether some of the first files with the suffix are labels of photographs."""
    files, pictures = _listing(source, form)
    matched = list(_by_image(files, pictures, form).values())[:_SNIFFED]
    for found in matched:
        try:
            label_files.read(source.path(found[0]), form.name)
        except UserError:
            return False
    return bool(matched)


def _scan(source: Source, form: Form) -> Iterator[ListedImage]:
    """All photographs, in order.

    Raises:
        LayoutError: there is no photograph with a file of labels.
    """
    files, pictures = _listing(source, form)
    labels = _by_image(files, pictures, form)
    _add_named(source, form, files, pictures, labels)
    if not labels:
        raise LayoutError(
            f"{source.root}: no image in it has a file of labels, expected images/NAME.jpg and "
            f"{form.folders[0]}/NAME{form.suffix}, or both in one folder; {source.contents()}"
        )
    source.found[f"{form.name} labels"] += len(labels)
    category = source.options["category"] or source.root.resolve().name
    if not source.wants(category):
        return
    users: dict[str, list[str]] = {}
    for image, found in labels.items():
        for file in found:
            users.setdefault(file, []).append(image)
    for image in pictures:
        item = _item(source, form, image, category, labels.get(image, []), users)
        if item is not None:
            yield item
    for file in files:
        if file in users:
            continue
        try:
            label_files.read(source.path(file), form.name)
        except UserError:
            source.note("other-file", file, f"neither {form.name} labels nor beside an image; passed over")
        else:
            source.problem("missing-image", file, "labels of an image that is not there; copy it, or remove the file")


def _listing(source: Source, form: Form) -> tuple[list[str], list[str]]:
    """The files of labels and the photographs below the root, each in order."""
    files, pictures = [], []
    for folder in source.walk():
        names = source.files(folder)
        source.name_unread(folder, names)
        for name in names:
            if is_image(name):
                pictures.append(join(folder, name))
            elif name.lower().endswith(form.suffix) and name.lower() not in form.others:
                files.append(join(folder, name))
    return files, pictures


def _by_image(files: Sequence[str], pictures: Sequence[str], form: Form) -> dict[str, list[str]]:
    """Photograph → its files of labels: one, unless both places have one."""
    known = {os.path.splitext(file)[0]: file for file in files}
    found = {}
    for image in pictures:
        stem = os.path.splitext(image)[0]
        places = [known[place] for place in (stem, *_label_stems(stem, form)) if place in known]
        if places:
            found[image] = list(dict.fromkeys(places))
    return found


def _label_stems(stem: str, form: Form) -> Iterator[str]:
    """`images/train/a` → `labels/train/a`, for each folder that may be meant."""
    parts = stem.split("/")
    for place, part in enumerate(parts[:-1]):
        if part.lower() in _IMAGE_FOLDERS:
            for folder in form.folders:
                yield "/".join([*parts[:place], folder, *parts[place + 1 :]])


def _add_named(source: Source, form: Form, files, pictures, labels) -> None:
    """Photographs that files of another name say they are about."""
    if form.file_name is None:
        return
    used, there = {file for found in labels.values() for file in found}, set(pictures)
    for file in files:
        if file in used:
            continue
        try:
            name = form.file_name(label_files.read_bytes(source.path(file), form.name), source.path(file))
        except UserError:
            continue  # said below
        folder = os.path.dirname(file)
        plain = name.replace("\\", "/")
        path = inside(os.path.normpath(join(folder, plain))) if not plain.startswith("/") else None
        above = [join(os.path.dirname(folder), f"{one}/{os.path.basename(plain)}") for one in ("JPEGImages", "images")]
        for image in (path, *above):
            if image in there:
                labels.setdefault(image, []).append(file)
                break


def _item(source: Source, form: Form, image: str, category: str, files: Sequence[str], users) -> ListedImage | None:
    common = {"image": format_reference(image), "category": category, "split": _split(image, form)}
    if not files:
        if any(map(is_masks, image.split("/")[:-1])):
            source.note("mask", image, "in a folder of masks; passed over, since regions stand in the labels")
            return None
        if source.options["unlabelled"] == "normal" or any(map(is_good, image.split("/")[:-1])):
            return ListedImage(**common, anomalous=False)
        reason = (
            "no file of labels, so nobody knows whether it has a defect: write one (an empty one for a good part), or "
            f"say that such images are good by {source.say('unlabelled', 'normal')}"
        )
        source.problem("missing-label", image, reason)
        return None
    both = [*files, *(other for other in users[files[0]] if other != image)] if len(files) == 1 else files
    if len(both) > 1:
        source.problem("ambiguous-label", image, f"{first_names(both)} go together; remove what is not meant")
        return None
    try:
        return _labelled(source, form, image, files[0], common)
    except UserError as error:
        source.fault("label", files[0], error)
        return None


def _labelled(source: Source, form: Form, image: str, file: str, common: Mapping) -> ListedImage:
    read = label_files.read(source.path(file), form.name)
    order = label_files.labels_of(read.annotations)
    nameless = [label for label in order if form.names and label not in form.names]
    if nameless:
        raise UserError(
            f"class {nameless[0]} has no name, there are: {first_names([*form.names])}; correct one of them"
        )
    names = {label: label if form.names is None else form.names.get(label, "") for label in order}
    defects = [one for one in read.annotations if not is_good(names[one["label"]])]
    if not defects:
        return ListedImage(**common, anomalous=False, size=read.size)
    if any(map(is_good, image.split("/")[:-1])):
        raise UserError(
            f"{len(defects)} defects on {image}, which lies in a folder that says good; correct one of them"
        )
    kinds = {label: defect_name(name) for label, name in names.items()}
    mask, boxes, classes = "", None, ()
    if any("segmentation" in one for one in defects):
        kept = sorted({order.index(one["label"]) + 1 for one in defects})
        mask = format_reference(file, labels=form.name, only=",".join(map(str, kept)))
        classes = tuple((number, kinds[order[number - 1]]) for number in kept)
        classes = classes if any(name for _, name in classes) else ()
    else:
        size = read.size or image_files.image_size(source.path(image))
        placed = (label_files.in_pixels(one, form.name, size) for one in defects)
        # Each once: tools write a box again when a file is saved again.
        boxes = tuple(
            dict.fromkeys(
                (coco_file.annotation_box(one, size=size, name=f"{file}: the box {one['id']}"), kinds[one["label"]])
                for one in placed
            )
        )
    defect = ", ".join(sorted({kinds[one["label"]] for one in defects} - {""}))
    return ListedImage(
        **common, anomalous=True, defect=defect, mask=mask, boxes=boxes, classes=classes, size=read.size
    )


def _split(image: str, form: Form) -> str:
    if form.splits is not None:
        listed = form.splits.get(os.path.splitext(os.path.basename(image))[0])
        if listed is not None:
            return listed
    return next((_SPLITS[part.lower()] for part in image.split("/")[:-1] if part.lower() in _SPLITS), "")
