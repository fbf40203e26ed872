"""Real-IAD and Real-IAD Variety: a JSON file for each category says everything.

    realiad_{256,512,1024,raw}/CATEGORY/{OK/S0001,NG/CODE/S0007}/NAME_C1_TIME.jpg    five cameras, C1 to C5
    realiad_jsons/CATEGORY.json         {"meta": {"prefix", "normal_class"}, "train": [sample, …], "test": […]}
    sample                              {"category", "anomaly_class", "image_path", "mask_path": path or null}

A null mask is a view without a visible defect: normal, whatever the part is. Masks' names are never guessed. The JSON
files may lie one folder deeper; paths may have backslashes; a category may be wrapped in a second folder of its name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ...errors import UserError
from ..sources.coco_file import storable
from ..sources.references import format_reference
from .base import LayoutError, ListedImage, Option, Source, first_names, inside, join

__all__ = ["CODES", "OPTIONS", "looks_like", "scan"]

OPTIONS: Mapping[str, Option] = {
    "jsons": Option(default="", help="the folder of JSON files, where there are several (realiad_jsons)"),
    "images": Option(default="", help="the folder of images, where there are several (realiad_1024)"),
    "masks": Option(
        default="required",
        choices=("required", "optional"),
        help="optional: take defective images whose mask is missing too, without boxes",
    ),
}

#: What the two letters of a defect mean; other codes stay as they are.
CODES: Mapping[str, str] = {
    "AK": "pit",
    "BX": "deformation",
    "CH": "abrasion",
    "HS": "scratch",
    "PS": "damage",
    "QS": "missing parts",
    "YW": "foreign objects",
    "ZW": "contamination",
}

_CAMERA = re.compile(r"(?P<part>.*)_C(?P<camera>\d{1,2})(?=[_.])", re.ASCII | re.DOTALL)
_PREFERRED = ("realiad_jsons", "Real-IAD_Variety_jsons")


def looks_like(source: Source) -> bool:
    """Whether there are JSON files of this form."""
    return any(_is_ours(source, folder) for folder in _json_folders(source))


def scan(source: Source) -> Iterator[ListedImage]:
    """All samples of all categories, in the order of the files' names and of their lists.

    Raises:
        LayoutError: there are no JSON files, or several folders of them or of images to choose from.
    """
    folder = _choose_jsons(source)
    source.found[f"annotations in {folder or 'the root'}"] += 0
    for name in source.files(folder):
        category = name.removesuffix(".json")
        if name != category and source.wants(category):
            yield from _category_items(source, join(folder, name), category)


def _json_folders(source: Source) -> list[str]:
    """Folders that hold JSON files, the root included; a folder inside one of the same purpose counts for it."""
    found = []
    for name in ["", *(name for name in source.folders("") if "json" in name.lower())]:
        inner = [join(name, below) for below in source.folders(name) if name and "json" in below.lower()]
        found += [folder for folder in [name, *inner] if any(f.endswith(".json") for f in source.files(folder))]
    return found


def _choose_jsons(source: Source) -> str:
    wanted = source.options["jsons"]
    folders = [folder for folder in _json_folders(source) if _is_ours(source, folder)]
    if wanted:
        chosen = [folder for folder in folders if wanted in folder.split("/")]
        if not chosen:
            raise LayoutError(
                f"{source.root}: {source.say('jsons', wanted)} is not there, expected one of {first_names(folders)}"
            )
        return chosen[-1]
    if not folders:
        raise LayoutError(
            f"{source.root}: no JSON files of Real-IAD in it, expected realiad_jsons/CATEGORY.json beside the images; "
            f"{source.contents()}"
        )
    preferred = [folder for name in _PREFERRED for folder in folders if name in folder.split("/")]
    if len(folders) > 1 and not preferred:
        raise LayoutError(
            f"{source.root}: JSON files in {first_names(folders)}; choose by {source.say('jsons', folders[0])}"
        )
    return (preferred or folders)[0]


def _is_ours(source: Source, folder: str) -> bool:
    """Whether the first JSON file of a folder begins like one of these (a broken one of a fitting name counts)."""
    names = [name for name in source.files(folder) if name.endswith(".json")]
    try:
        with open(source.path(join(folder, names[0])), "rb") as file:
            head = file.read(4096)
    except (OSError, IndexError):
        return False
    return b'"meta"' in head or b'"anomaly_class"' in head or "realiad" in folder.lower().replace("-", "")


def _category_items(source: Source, path: str, category: str) -> Iterator[ListedImage]:
    try:
        data = json.loads(source.text(path))
        if not isinstance(data["train"], list) or not isinstance(data["test"], list):
            raise TypeError("train and test are not both lists")
        samples = [(split, sample) for split in ("train", "test") for sample in data[split]]
        meta = data.get("meta") or {}
        prefix, normal = str(meta.get("prefix") or ""), str(meta.get("normal_class") or "OK")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, UserError):
            reason = str(error)
        else:
            reason = f"not JSON with meta, train and test ({' '.join(str(error).split())[:120]}); download it again"
        source.problem("broken-json", path, reason)
        return
    base = _image_folder(source, path, category, prefix, [sample for _, sample in samples])
    if base is None:
        return
    seen: set[str] = set()
    for number, (split, sample) in enumerate(samples):
        item = _item(source, path, category, base, split, normal, sample, number)
        if item is None:
            continue
        if item.image in seen:
            source.problem("listed-twice", item.image, f"is in {path} more than once; taken once")
            continue
        seen.add(item.image)
        yield item


def _image_folder(source: Source, path: str, category: str, prefix: str, samples: list[Any]) -> str | None:
    """The folder that a category's image paths are relative to."""
    some = [p for p in (_path(sample, "image_path") for sample in samples[:: max(1, len(samples) // 50)]) if p]
    wanted = source.options["images"]
    sets = [name for name in source.folders("") if "json" not in name.lower()]
    if wanted:
        if wanted not in sets:
            raise LayoutError(
                f"{source.root}: {source.say('images', wanted)} is not there, expected one of {first_names(sets)}"
            )
        sets = [wanted]
    stated = [inside(prefix) or ""] if prefix else []
    stated = [folder for folder in stated if not wanted or folder.split("/")[0] == wanted]
    # What the file itself says wins; then the folders of that name, of which there must be one only.
    for candidates in (stated, [join(name, category) for name in sets] + ([] if wanted else [category])):
        there = []
        for folder in candidates:
            for deeper in (folder, join(folder, category)):
                if any(source.is_file(join(deeper, image)) for image in some):
                    there.append(deeper)
                    break
        if len(there) > 1:
            names = sorted(folder.split("/")[0] for folder in there)
            raise LayoutError(
                f"{source.root}: images of {category} in {first_names(names)}; choose by "
                f"{source.say('images', names[-1])}"
            )
        if there:
            source.found[f"images in {there[0].split('/')[0]}"] += 1
            return there[0]
    if not samples:
        source.problem("empty-json", path, "lists no images")
    else:
        looked = first_names([folder for folder in [*stated, *(join(name, category) for name in sets)] if folder])
        reason = f"none of its {len(samples)} images is there (the first is {some[:1]}); looked in {looked}"
        source.problem("missing-image", path, reason)
    return None


def _item(source, path, category, base, split, normal, sample, number) -> ListedImage | None:
    image = _path(sample, "image_path")
    code = sample.get("anomaly_class") if isinstance(sample, dict) else None
    if image is None or not isinstance(code, str):
        reason = (
            f"{split} sample {number}: expected image_path inside the root and anomaly_class, got {str(sample)[:120]}"
        )
        source.problem("broken-json", path, reason)
        return None
    image, code = join(base, image), storable(code)
    if not source.is_file(image):
        source.problem("missing-image", image, f"is in {path} but not there; copy it")
        return None
    mask = ""
    if sample.get("mask_path"):
        mask = _path(sample, "mask_path")
        if mask is None or code == normal:
            reason = f"{image} has mask_path {str(sample['mask_path'])[:120]!r}, expected " + (
                "none: it is normal" if mask else "a path inside the root"
            )
            source.problem("broken-json", path, reason)
            return None
        mask = join(base, mask)
    notes, anomalous = "", bool(mask)
    if code != normal and not mask:
        notes = f"a view without the defect of its part ({CODES.get(code, code)})"
    if mask and not source.is_file(mask):
        if source.options["masks"] != "optional":
            source.problem("missing-mask", image, f"{mask} is in {path} but not there; copy it")
            return None
        source.note("missing-mask", image, f"{mask} is not there; taken without one")
        mask, notes = "", "no mask"
    camera = _CAMERA.match(image.rpartition("/")[2])
    if source.dataset == "real-iad-variety" or not camera:
        part = image.rpartition("/")[0].removeprefix(base).lstrip("/")
    else:
        part = camera["part"]
    return ListedImage(
        image=format_reference(image),
        category=category,
        split=split,
        anomalous=anomalous,
        defect=CODES.get(code, code) if anomalous else "",
        mask=format_reference(mask) if mask else "",
        view=f"C{camera['camera']}" if camera else "",
        group=f"{category}/{part}",
        notes=notes,
    )


def _path(sample: Any, key: str) -> str | None:
    value = sample.get(key) if isinstance(sample, dict) else None
    return inside(value) if isinstance(value, str) else None
