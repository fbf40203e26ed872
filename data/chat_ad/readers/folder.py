"""A user's own folder of good and bad parts.

    CATEGORY/{train,test}/{good,DEFECT…}/NAME.png   an MVTec-style tree: read as such
    [CATEGORY/]{good,DEFECT…}/NAME.png              folders that say good (or ok, normal) and what is wrong elsewhere
    [CATEGORY/]{ground_truth,masks,…}/[DEFECT/]NAME[_mask].png   (`kinds.is_masks`)

Images in no such place are a problem: a product without good parts, a folder more than is read.

With `--option label=normal` (or `anomalous`) every image below the root is taken, whatever the folders are called:
for a folder of pictures that only has to be compared with another.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from adcopilot.kinds import is_good, is_masks

from ...images import photograph_names
from ..sources.references import format_reference
from . import mvtec_tree
from .base import LayoutError, ListedImage, Option, Source, first_names, join
from .contents import what_is_there
from .mvtec_tree import SPLIT_FOLDERS, image_items, truth_folders

__all__ = ["OPTIONS", "looks_like", "scan"]

OPTIONS: Mapping[str, Option] = {
    **mvtec_tree.OPTIONS,
    "label": Option(
        default="folders",
        choices=("folders", "normal", "anomalous"),
        help="folders: by their names; otherwise the label of every image below the root",
    ),
    "split": Option(default="", choices=("", "train", "val", "test"), help="of images without a folder that says so"),
}


def looks_like(source: Source) -> bool:
    """Whether there is an MVTec-style tree or a folder of good parts."""
    return mvtec_tree.looks_like(source) or bool(_categories(source))


def scan(source: Source) -> Iterator[ListedImage]:
    """All images, in order.

    Raises:
        LayoutError: nothing says which images are good.
    """
    if source.options["label"] != "folders":
        yield from _all_images(source, source.options["label"] == "anomalous")
        return
    if mvtec_tree.looks_like(source):
        source.found["an MVTec-style tree"] += 0
        yield from mvtec_tree.scan(source)
        _name_left_over(source)
        return
    categories = _categories(source)
    if not categories:
        raise LayoutError(
            f"{source.root}: no folder of good parts in it, expected good/ (or ok/, normal/) beside a folder for each "
            f"kind of defect, CATEGORY/good/, or CATEGORY/train/good/; {what_is_there(source)}"
        )
    source.found["folders of good and defective images"] += 0
    for folder in categories:
        category = folder or source.root.resolve().name
        if source.wants(category):
            yield from _category_items(source, folder, category)
    _name_left_over(source)


def _name_left_over(source: Source) -> None:
    """Name the folders whose images nothing has looked at."""
    if source.categories:
        return
    told = source.told()
    for folder in source.walk():
        parts = folder.split("/")
        names = {"/".join(parts[:depth]) for depth in range(1, len(parts) + 1)}
        if folder in source.looked_at or not names.isdisjoint(told) or any(map(is_masks, parts)):
            continue
        count = len(photograph_names(source.files(folder)))
        if count:
            reason = (
                f"{count} images in no folder that is read, expected PRODUCT/good and PRODUCT/KIND_OF_DEFECT, or both "
                "below PRODUCT/train and PRODUCT/test in all of them; move or remove them"
            )
            source.problem("unread-folder", folder or ".", reason, count=count)


def _categories(source: Source) -> list[str]:
    inside = source.folders("")
    if any(map(is_good, inside)):
        return [""]
    # A link to a category is no second one.
    distinct = {os.path.realpath(source.path(name)): name for name in reversed(inside)}
    return sorted(name for name in distinct.values() if any(map(is_good, source.folders(name))))


def _category_items(source: Source, folder: str, category: str) -> Iterator[ListedImage]:
    inside = source.folders(folder)
    masks = truth_folders(source, folder)
    loose = source.images(folder, nested=True)
    if loose:
        reason = (
            f"{len(loose)} of its images lie beside the folders that say good or which defect ({first_names(loose)}); "
            "move them into one"
        )
        source.problem("unlabelled", folder or ".", reason, count=len(loose))
    kinds = []
    for name in inside:
        images = source.images(join(folder, name), nested=True) if name.lower() in SPLIT_FOLDERS else []
        if images:
            reason = (
                f"{len(images)} images in a folder that says neither good nor which defect; name it so, or move them"
            )
            source.problem("unlabelled", join(folder, name), reason, count=len(images))
        elif not is_masks(name):
            kinds.append(name)
    defective = {
        os.path.splitext(name)[0]
        for kind in kinds
        if masks and not is_good(kind)
        for name in source.images(join(folder, kind), nested=True)
    }
    for kind in kinds:
        # By kind of defect, or all in one folder.
        where = [join(mask, kind) for mask in masks] + masks or [join(folder, f"ground_truth/{kind}")]
        images = join(folder, kind)
        yield from image_items(
            source, images, category, source.options["split"], kind=kind, mask_folders=where, defective=defective
        )


def _all_images(source: Source, anomalous: bool) -> Iterator[ListedImage]:
    source.found[f"every image taken as {source.options['label']}"] += 0
    for folder in source.walk():
        category = folder.partition("/")[0] or source.root.resolve().name
        if not folder or source.wants(category):
            for name in source.images(folder, nested=True):
                yield ListedImage(
                    image=format_reference(join(folder, name)),
                    category=category,
                    split=source.options["split"],
                    anomalous=anomalous,
                    notes="no mask" if anomalous else "",
                )
