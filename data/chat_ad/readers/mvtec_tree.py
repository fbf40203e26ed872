"""MVTec-style trees: MVTec-AD, MPDD, GoodsAD, 3CAD, VIADUCT, VisA's one-class form, DS-MVTec, and users' own.

    CATEGORY/{train,val,validation,test}/{good,DEFECT…}/NAME.png
    CATEGORY/ground_truth/DEFECT/{NAME_mask.png or NAME.png}        (or ground_truth/{train,test}/DEFECT/…; masks/…)

    CATEGORY/image/{good,DEFECT…}/NAME.png                          DS-MVTec, as MMAD has it
    CATEGORY/{mask,rgb_mask,rbg_mask}/DEFECT/NAME_{mask,rgb_mask,rbg_mask}.png

Categories are looked for down to three levels below the root, and the root itself may be one. Suffixes may be any
image's, in any case. Which of the two spellings of a mask's name occurs is found out and reported; where both lie
beside each other, nobody can say which is meant, and the image is a problem.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cached_property

from adcopilot.kinds import defect_name, is_good, is_masks

from ..sources.references import format_reference
from .base import LayoutError, ListedImage, Option, Source, first_names, is_mask, join

__all__ = [
    "OPTIONS",
    "find_categories",
    "image_items",
    "looks_like",
    "scan",
    "scan_with",
    "tree_items",
    "truth_folders",
]

OPTIONS: Mapping[str, Option] = {
    "masks": Option(
        default="required",
        choices=("required", "optional"),
        help="optional: take defective images without a mask too, without boxes",
    ),
}

SPLIT_FOLDERS: Mapping[str, str] = {"train": "train", "val": "val", "validation": "val", "test": "test"}

# DS-MVTec's plain masks come first; the colour-coded ones stand in where there are none, under either spelling.
_SPECTRUM_MASKS = ("mask", "rgb_mask", "rbg_mask")
_MASK_ENDINGS = ("_mask", "_rgb_mask", "_rbg_mask", "_gt", "")

# A second mask of an image: `a_mask_1`, `a (1)`.
_NUMBERED = re.compile(r"(.+?)[ _.-]*(?:[ _.-][0-9]{1,3}|\([0-9]{1,3}\))", re.ASCII)

# VIADUCT: `Image_<defect>_<id>_<view>`, views 0 to 4.
_VIADUCT_NAME = re.compile(r"(?P<part>.+)_(?P<view>[0-9])", re.ASCII)


def looks_like(source: Source) -> bool:
    """Whether there is at least one category."""
    return next(find_categories(source), None) is not None


def scan(source: Source) -> Iterator[ListedImage]:
    """All images of all categories, in order.

    Raises:
        LayoutError: there is no category.
    """
    return scan_with(source, tree_items)


def scan_with(source: Source, items: Callable[[Source, str, str], Iterator[ListedImage]]) -> Iterator[ListedImage]:
    """All images of all categories, as `items(source, folder, category)` finds them.

    Raises:
        LayoutError: there is no category.
    """
    folders = list(find_categories(source))
    for above in sorted(os.path.dirname(folder) for folder in folders if "/" in folder):
        source.found[f"categories in {above}/"] += 1
    names = _names(source, folders)
    if not names:
        raise LayoutError(
            f"{source.root}: no category in it, expected CATEGORY/train/good/NAME.png and "
            f"CATEGORY/test/DEFECT/NAME.png; {source.contents()}"
        )
    for folder, category in names.items():
        if source.wants(category):
            yield from items(source, folder, category)


def find_categories(source: Source, *, depth: int = 3) -> Iterator[str]:
    """The folders that hold a split (or DS-MVTec's `image` beside a folder of masks), in order.

    Nothing is looked for inside a category.
    """
    level, seen = [""], set()
    for _ in range(depth + 1):
        below = []
        for folder in level:
            real = os.path.realpath(source.path(folder))
            if real in seen:  # a link to a folder that has another name too
                continue
            seen.add(real)
            inside = source.folders(folder)
            if _is_category(source, folder, inside):
                yield folder
            else:
                below += [join(folder, name) for name in inside]
        level = below


def _is_category(source: Source, folder: str, inside: list[str]) -> bool:
    # A `train` without folders in it is another layout's.
    splits = (join(folder, name) for name in inside if name in SPLIT_FOLDERS)
    return _is_spectrum(inside) or any(source.folders(split) for split in splits)


def _is_spectrum(folders: list[str]) -> bool:
    return "image" in folders and any(name in folders for name in _SPECTRUM_MASKS)


def _names(source: Source, folders: list[str]) -> dict[str, str]:
    """Folder → category, in the order of the names: the folder's own name, or its path where two share one."""
    names = {folder: os.path.basename(folder) or source.root.resolve().name for folder in folders}
    if source.dataset == "viaduct":
        names = {folder: re.sub(r"^[0-9]{2}_(?=.)", "", name) for folder, name in names.items()}
    twice = {name for name in names.values() if list(names.values()).count(name) > 1}
    names = {folder: folder if name in twice else name for folder, name in names.items()}
    return dict(sorted(names.items(), key=lambda pair: (pair[1], pair[0])))


def tree_items(source: Source, folder: str, category: str) -> Iterator[ListedImage]:
    """All images of one category's folder."""
    inside = source.folders(folder)
    if _is_spectrum(inside):
        source.found["DS-MVTec's image/ and mask/ folders"] += 1
        masks = {
            name: [join(folder, kind) for kind in _SPECTRUM_MASKS] for name in source.folders(join(folder, "image"))
        }
        yield from _split_items(source, join(folder, "image"), category, "test", masks)
        return
    for split_folder in sorted(set(inside) & SPLIT_FOLDERS.keys(), key=list(SPLIT_FOLDERS).index):
        base = join(folder, split_folder)
        truth = truth_folders(source, folder) or [join(folder, "ground_truth")]
        truth += [join(one, split_folder) for one in truth]
        masks = dict.fromkeys(source.folders(base), truth)
        yield from _split_items(source, base, category, SPLIT_FOLDERS[split_folder], masks)


def truth_folders(source: Source, folder: str) -> list[str]:
    """The folders in a folder that are called as folders of masks are and hold some, `ground_truth` first."""
    names = [name for name in source.folders(folder) if is_masks(name)]
    found = [join(folder, name) for name in sorted(names, key=lambda name: (name != "ground_truth", name))]
    return [one for one in found if source.folders(one) or any(map(is_mask, source.files(one)))]


def _split_items(source, base, category, split, masks) -> Iterator[ListedImage]:
    loose = source.images(base, nested=True)
    if loose:
        reason = (
            f"{len(loose)} of its images lie beside the folders that say good or which defect ({first_names(loose)}); "
            "move them into one"
        )
        source.problem("unlabelled", base, reason, count=len(loose))
    for name in source.folders(base):
        folders = [join(folder, name) for folder in masks[name]]
        yield from image_items(source, join(base, name), category, split, kind=name, mask_folders=folders)


def image_items(
    source: Source,
    folder: str,
    category: str,
    split: str,
    *,
    kind: str,
    mask_folders: list[str],
    defective: Collection[str] = (),
) -> Iterator[ListedImage]:
    """The images of one folder, all good or all of one kind of defect.

    Args:
        source: the dataset.
        folder: of the images.
        category, split: for the columns of the same name.
        kind: what the folder's name says: good, or which defect.
        mask_folders: where masks may be, the first one that exists counts.
        defective: stems of the defective images that a folder of masks for all kinds is about.
    """
    anomalous = not is_good(kind)
    names = source.images(folder)
    stems = {os.path.splitext(name)[0] for name in names}
    masks = Masks(source, mask_folders, others=stems.union(defective))
    used = set()
    own = os.path.basename(masks.folder) == kind
    for name in names:
        mask, more = "", {}
        stem = os.path.splitext(name)[0]
        if any(stem.endswith(one) and stem.removesuffix(one) in stems for one in _MASK_ENDINGS if one):
            reason = f"a mask beside its photograph; move it to {masks.folder}/{name}"
            source.problem("misplaced-mask", join(folder, name), reason, count=0)
            continue
        if anomalous:
            mask = masks.find(join(folder, name), stem)
            used.add(mask)
            if mask is None:
                continue
            more["notes"] = "" if mask else "no mask"
        elif own or stem not in defective:
            # A good part's mask has to mark nothing, which `measure` sees.
            mask = masks.any(stem)
        if source.dataset == "viaduct":
            match = _VIADUCT_NAME.fullmatch(stem)
            if match:
                more.update(view=match["view"], group=f"{category}/{split}/{match['part']}")
            else:
                source.note("view", join(folder, name), "the name ends in no view (_0 to _4); taken as a single view")
        yield ListedImage(
            image=format_reference(join(folder, name)),
            category=category,
            split=split,
            anomalous=anomalous,
            defect=defect_name(kind) if anomalous else "",
            mask=mask,
            **more,
        )
    # A folder of masks for all kinds of defects holds others' too.
    if anomalous and own:
        masks.report_unused(used)


class Masks:
    """The masks of one folder of defective images, by the stem of their image's name.

    A folder of that name, with a mask for each region as in MVTec-LOCO, stands for their union.

    Args:
        source: the dataset.
        folders: where they may be; the first that exists is taken.
        others: stems of all images that they may belong to.
    """

    def __init__(self, source: Source, folders: list[str], *, others: Collection[str]) -> None:
        self._source = source
        self._folders = folders
        self._others = others

    @cached_property
    def folder(self) -> str:
        """The folder that is there, else the first of those that might be."""
        return next((folder for folder in self._folders if self._source.is_folder(folder)), self._folders[0])

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        if not self._source.is_folder(self.folder):
            return {}
        stems: dict[str, list[str]] = {}
        for name in self._source.masks(self.folder):
            stems.setdefault(os.path.splitext(name)[0], []).append(name)
        for name in self._source.folders(self.folder):
            stems.setdefault(name, []).append(f"{name}/")
        return stems

    @cached_property
    def _numbered(self) -> dict[str, list[str]]:
        """`a_mask` → `a_mask_1.png`, unless that is another image's."""
        found: dict[str, list[str]] = {}
        for stem, names in self._by_stem.items():
            match = _NUMBERED.fullmatch(stem)
            if match and not any(
                stem.endswith(one) and stem.removesuffix(one) in self._others for one in _MASK_ENDINGS
            ):
                found.setdefault(match[1], []).extend(names)
        return found

    def find(self, image: str, stem: str) -> str | None:
        """The reference of an image's mask, "" where it may do without one, None after naming the problem."""
        found = [(name, ending) for ending in _MASK_ENDINGS for name in self._by_stem.get(stem + ending, ())]
        numbered = [name for ending in _MASK_ENDINGS for name in self._numbered.get(stem + ending, ())]
        if len(found) + len(numbered) > 1:
            names = " and ".join([*(name for name, _ in found), *numbered])
            reason = (
                f"several masks for one image, {names} in {self.folder}; remove what is not meant, or put those that "
                f"mark a defect each into {self.folder}/{stem}/"
            )
            self._source.problem("ambiguous-mask", image, reason)
            return None
        if found:
            name, ending = found[0]
            if name.endswith("/"):
                self._source.found["masks in a folder for each image"] += 1
                return self._reference(name)
            self._source.found[f"masks named NAME{ending}"] += 1
            return self._reference(name)
        if self._source.options.get("masks") == "optional":
            self._source.note("missing-mask", image, f"no mask in {self.folder}; taken without one")
            return ""
        reason = f"no mask in {self.folder}, expected {stem}_mask.png or {stem}.png; copy it"
        if "masks" in self._source.options:
            reason += f", or take such images without boxes by {self._source.say('masks', 'optional')}"
        self._source.problem("missing-mask", image, reason)
        return None

    def any(self, stem: str) -> str:
        """The reference of a mask by an image's name, "" where there is none or nobody can say which."""
        found = [name for ending in _MASK_ENDINGS for name in self._by_stem.get(stem + ending, ())]
        return self._reference(found[0]) if len(found) == 1 else ""

    def report_unused(self, used: set[str | None]) -> None:
        """Note masks that belong to no image: the image may be what is missing."""
        for name in sorted(name for names in self._by_stem.values() for name in names):
            if self._reference(name) not in used:
                self._source.note("unused-mask", join(self.folder, name), "a mask without an image of its name")

    def _reference(self, name: str) -> str:
        if name.endswith("/"):
            return format_reference(join(self.folder, name[:-1]), folder=1)
        return format_reference(join(self.folder, name))
