"""Open what a reader found: sizes from headers, content hashes, and boxes from the masks' connected components.

An image is read once (for its hash) and not decoded; masks are decoded. One item gives its rows or the one problem
that keeps it out, so items can be measured in any order, in threads, or on other machines.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from adcopilot.kinds import defect_name

from ... import images
from ...errors import UserError
from ...jsonl import file_digest
from ...masks import Marked, MaskOptions
from ..sources import coco_file, references
from ..sources.references import MaskSizeError, OutsideRootError, format_reference, mask_components, parse_reference
from ..table import Entry
from .base import ListedImage, Problem

__all__ = ["fingerprint", "measure"]


_AS_THEY_ARE = MaskOptions()


class _UnfitError(UserError):
    """Why a readable image or mask gives no row; `kind` is the problem's."""

    def __init__(self, text: str, *, kind: str) -> None:
        super().__init__(text)
        self.kind = kind


def measure(
    item: ListedImage,
    *,
    root: str | os.PathLike,
    dataset: str,
    licence: str,
    min_area: int = 1,
    masks: MaskOptions = _AS_THEY_ARE,
    recipe: str = "datasets.SET",
) -> list[Entry] | Problem:
    """The rows of an item, or why there are none.

    Args:
        item: from a reader's `scan`.
        root: of the dataset.
        dataset, licence: for the columns of the same name.
        min_area: connected regions of fewer pixels give no box.
        masks: how masks are read.
        recipe: the key of a build's recipe that says all this; for messages.
    """
    try:
        width, height, digests = _look(item, root)
    except OutsideRootError as error:
        return _problem(root, item.image, error, "outside-root")
    except UserError as error:
        missing = not os.path.exists(os.path.join(root, parse_reference(item.image).path))
        kind = error.kind if isinstance(error, _UnfitError) else "unreadable-image"
        return _problem(root, item.image, error, "missing-image" if missing else kind)
    if item.size is not None and item.size != (width, height):
        made_on = f"{item.size[0]}×{item.size[1]}"
        reason = f"{width}×{height} pixels, but its annotation was made on {made_on}; expected the same size"
        return Problem(file=parse_reference(item.image).path, reason=reason, kind="mask-size")
    try:
        rows = _rows(item, root, (width, height), digests, dataset, licence, min_area, masks, recipe)
    except OutsideRootError as error:
        return _problem(root, item.mask, error, "outside-root")
    except MaskSizeError as error:
        return _problem(root, item.mask, error, "mask-size")
    except _UnfitError as error:
        return _problem(root, item.image if error.kind == "conflict" else item.mask, error, error.kind)
    except UserError as error:
        if not item.mask:
            return _problem(root, item.image, error, "box")
        return _problem(root, item.mask, error, "unreadable-mask")
    if not isinstance(rows, list):
        return Problem(file=parse_reference(item.mask).path, reason=rows, kind="empty-mask")
    return rows


def fingerprint(items: Iterable[ListedImage], *, root: str | os.PathLike, **settings: object) -> str:
    """32 hexadecimal digits that change when the items, their files' sizes or times, or the settings do."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for item in items:
        digest.update(repr(item).encode())
        for reference in (item.image, item.mask):
            if reference:
                parsed = parse_reference(reference)
                for one in (parsed, parsed.repaired[1]) if parsed.repaired else (parsed,):
                    digest.update(_stamp(os.path.join(root, one.path)))
    return digest.hexdigest()[:32]


def _stamp(path: str) -> bytes:
    try:
        stat = os.stat(path)
    except OSError:
        return b"missing"
    return f"{stat.st_size} {stat.st_mtime_ns}\n".encode()


def _look(item: ListedImage, root: str | os.PathLike) -> tuple[int, int, list[str]]:
    """Width and height of the whole image, and the content hash of it or of each of its views."""
    parsed = parse_reference(item.image)
    if parsed.fragment.keys() & {"h5", "window", "repair"}:
        return *references.reference_size(root, item.image), [references.content_sha256(root, item.image)]
    path = references.resolve(root, parsed)
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    # From the same bytes: a file on a network disk is fetched once.
    width, height = images.image_size(data, name=str(path))
    digest = hashlib.sha256(data)
    if item.views == 1:
        return width, height, [digest.hexdigest()]
    if width % item.views or width < 2 * height:
        raise _UnfitError(
            f"{path}: {width}×{height} pixels, expected a horizontal strip of {item.views} views of equal width",
            kind="not-a-strip",
        )
    digests = []
    for index in range(item.views):
        view = digest.copy()
        view.update(_view_reference(parsed.path, index, item.views)[len(parsed.path) :].encode())
        digests.append(view.hexdigest())
    return width // item.views, height, digests


def _rows(item, root, size, digests, dataset, licence, min_area, options, recipe) -> list[Entry] | str:
    """The rows, or in words that a mask which should show something does not."""
    common = {
        "category": item.category,
        "split": item.split,
        "width": size[0],
        "height": size[1],
        "source": dataset,
        "licence": licence,
    }
    values, names, reference, kind = None, dict(item.classes), item.mask, ""
    if item.mask:
        reference, found = _read_mask(item, root, size, options, recipe)
        values, kind = found.values, found.kind
        if not item.anomalous:
            if values.any() and not values.all():
                raise _UnfitError(
                    f"is said to be good, but its mask {parse_reference(item.mask).path} marks "
                    f"{np.count_nonzero(values)} pixels; move it to the folder of its defect, or remove the mask",
                    kind="conflict",
                )
            values = None
        elif "coco" in parse_reference(item.mask).fragment:
            classes = coco_file.load(references.resolve(root, item.mask)).classes
            names = dict(enumerate(map(defect_name, classes.values()), 1))
    rows = []
    for index, sha256 in enumerate(digests):
        image, mask, notes = item.image, reference, item.notes
        view = item.view
        if item.views > 1:
            image = _view_reference(item.image, index, item.views)
            mask = _view_reference(reference, index, item.views) if item.mask else ""
            view = str(index)
        boxes, labels, defect, anomalous, digest = [], [], item.defect, item.anomalous, ""
        if values is not None:
            part = values[:, index * size[0] : (index + 1) * size[0]]
            digest = hashlib.sha256(f"{part.shape}".encode() + np.packbits(part > 0).tobytes()).hexdigest()
            components = mask_components(part if names else part > 0, min_area=min_area)
            boxes = [one.box for one in components]
            labels = [names.get(one.value, "") if names else item.defect for one in components]
            # The mask's own classes know better than the folder, unless several of them are in view.
            known = sorted({label for label in labels if label})
            if names and known:
                defect = ", ".join(known)
            if part.any() and not boxes:
                notes = "; ".join(filter(None, [notes, f"only regions of fewer than {min_area} pixels, no boxes"]))
            elif not boxes and item.views > 1:
                anomalous, mask, defect = False, "", ""
                notes = "; ".join(filter(None, [notes, f"a view without the defect of its part ({item.defect})"]))
        elif anomalous and item.boxes is not None:
            boxes, labels = [box for box, _ in item.boxes], [label for _, label in item.boxes]
            _check_inside(boxes, size, item.image)
        rows.append(
            Entry(
                **common,
                image=image,
                view=view,
                label="anomalous" if anomalous else "normal",
                defect=defect if anomalous else "",
                mask=mask if anomalous else "",
                mask_kind=kind if anomalous and values is not None else "",
                mask_sha256=digest if anomalous else "",
                boxes=tuple(boxes),
                box_labels=tuple(labels),
                sha256=sha256,
                group=item.group,
                notes=notes,
            )
        )
    if values is not None and not any(row.boxes for row in rows):
        small = f", only regions of fewer than {min_area} pixels" if values.any() else ""
        return f"the mask of {parse_reference(item.image).path} marks nothing{small}; expected the defect's pixels"
    return rows


def _read_mask(
    item: ListedImage, root: str | os.PathLike, size: tuple[int, int], options: MaskOptions, recipe: str
) -> tuple[str, Marked]:
    """(the reference, which says how the mask is read, and `masks.Marked`)

    Raises:
        UserError: it cannot be read, or marks too much.
    """
    whole = (size[0] * item.views, size[1])
    parsed = parse_reference(item.mask)
    annotated = not parsed.fragment.keys().isdisjoint(("coco", "labels"))
    if not annotated and _is_its_image(item, root):
        raise UserError("is the photograph itself (the same content), expected its mask")
    keys = dict(parsed.fragment)
    if not annotated and options.threshold is not None:
        keys["over"] = f"{options.threshold:.6f}".rstrip("0").rstrip(".")
    tries = [keys] if annotated or options.inverted != "all" else []
    if not annotated and options.inverted != "none":
        tries.append({**keys, "inverted": 1})
    for number, fragment in enumerate(tries, 1):
        reference = format_reference(parsed.path, **fragment)
        found = references.mask_values(root, reference, size=whole)
        # Of the views of a strip each is an image.
        share = max(float((part > 0).mean()) for part in np.split(found.values, item.views, axis=1))
        if not item.anomalous or share <= options.most:
            return reference, found
        if number == len(tries):
            raise _UnfitError(_too_large(share, options, recipe, annotated=annotated), kind="large-mask")
    raise AssertionError("no way to read a mask")


def _too_large(share: float, options: MaskOptions, recipe: str, *, annotated: bool) -> str:
    def typed(key: str, value: object) -> str:
        return f"--set {recipe}.mask.{key}={value}"

    said = f"marks {share:.0%} of the image, expected at most {options.most:.0%}"
    allow = f"allow it by {typed('most', f'{min(1.0, math.ceil(share * 100) / 100):g}')}"
    if annotated:
        return f"{said}; correct the annotation, or {allow}"
    if options.inverted == "all":
        return f"{said} when it is inverted; invert only those that mark too much by {typed('inverted', 'large')}"
    if options.inverted == "large":
        return f"{said}, as it is and inverted; correct it, or {allow}"
    return f"{said}: if it is inverted (defect black), read such masks by {typed('inverted', 'large')}, else {allow}"


def _is_its_image(item: ListedImage, root: str | os.PathLike) -> bool:
    image, mask = (os.path.join(root, parse_reference(one).path) for one in (item.image, item.mask))
    try:
        if os.path.samefile(image, mask):
            # One HDF5 file holds both.
            return not parse_reference(item.mask).fragment
        if os.path.getsize(image) != os.path.getsize(mask):
            return False
        return file_digest(image) == file_digest(mask)
    except (OSError, UserError):  # what cannot be read is told where it is opened
        return False


def _check_inside(boxes, size: tuple[int, int], image: str) -> None:
    for x1, y1, x2, y2 in boxes:
        if not (0 <= x1 < x2 <= size[0] and 0 <= y1 < y2 <= size[1]):
            raise UserError(f"{image}: box {[x1, y1, x2, y2]} is empty or outside its {size[0]}×{size[1]} pixels")


def _view_reference(reference: str, index: int, views: int) -> str:
    parsed = parse_reference(reference)
    return format_reference(parsed.path, **{"view": f"{index}/{views}", **parsed.fragment})


def _problem(root: str | os.PathLike, reference: str, error: UserError, kind: str) -> Problem:
    file = parse_reference(reference).path
    # The file is named already.
    reason = " ".join(str(error).removeprefix(f"{os.path.join(root, file)}: ").split())
    return Problem(file=file, reason=reason, kind=kind)
