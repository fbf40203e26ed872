"""Open what a reader found: sizes from headers, content hashes, and boxes from the masks' connected components.

An image is read once (for its hash) and not decoded; masks are decoded. One item gives its rows or the one problem
that keeps it out, so items can be measured in any order, in threads, or on other machines.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from ... import images
from ...errors import UserError
from .. import coco_file, references
from ..references import MaskSizeError, OutsideRootError, format_reference, mask_components, parse_reference
from ..table import Entry
from .base import Item, Problem, defect_name

__all__ = ["fingerprint", "measure"]


class _NotAStripError(UserError):
    """An image of several views has no such shape."""


def measure(
    item: Item, *, root: str | os.PathLike, dataset: str, licence: str, min_area: int = 1
) -> list[Entry] | Problem:
    """The rows of an item, or why there are none.

    Args:
        item: from a reader's `scan`.
        root: of the dataset.
        dataset, licence: for the columns of the same name.
        min_area: connected regions of fewer pixels give no box.
    """
    try:
        width, height, digests = _look(item, root)
    except OutsideRootError as error:
        return _problem(root, item.image, error, "outside-root")
    except UserError as error:
        missing = not os.path.exists(os.path.join(root, parse_reference(item.image).path))
        kind = "not-a-strip" if isinstance(error, _NotAStripError) else "unreadable-image"
        return _problem(root, item.image, error, "missing-image" if missing else kind)
    if item.size is not None and item.size != (width, height):
        made_on = f"{item.size[0]}×{item.size[1]}"
        reason = f"{width}×{height} pixels, but its annotation was made on {made_on}; expected the same size"
        return Problem(file=parse_reference(item.image).path, reason=reason, kind="mask-size")
    try:
        rows = _rows(item, root, (width, height), digests, dataset, licence, min_area)
    except OutsideRootError as error:
        return _problem(root, item.mask, error, "outside-root")
    except MaskSizeError as error:
        return _problem(root, item.mask, error, "mask-size")
    except UserError as error:
        if not item.mask:
            return _problem(root, item.image, error, "box")
        return _problem(root, item.mask, error, "unreadable-mask")
    if not isinstance(rows, list):
        return Problem(file=parse_reference(item.mask).path, reason=rows, kind="empty-mask")
    return rows


def fingerprint(items: Iterable[Item], *, root: str | os.PathLike, **settings: object) -> str:
    """32 hexadecimal digits that change when the items, their files' sizes or times, or the settings do."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for item in items:
        digest.update(repr(item).encode())
        for reference in (item.image, item.mask):
            if reference:
                digest.update(_stamp(os.path.join(root, parse_reference(reference).path)))
    return digest.hexdigest()[:32]


def _stamp(path: str) -> bytes:
    try:
        stat = os.stat(path)
    except OSError:
        return b"missing"
    return f"{stat.st_size} {stat.st_mtime_ns}\n".encode()


def _look(item: Item, root: str | os.PathLike) -> tuple[int, int, list[str]]:
    """Width and height of the whole image, and the content hash of it or of each of its views."""
    parsed = parse_reference(item.image)
    if "h5" in parsed.fragment:
        return *references.image_size(root, item.image), [references.content_sha256(root, item.image)]
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
        raise _NotAStripError(
            f"{path}: {width}×{height} pixels, expected a horizontal strip of {item.views} views of equal width"
        )
    digests = []
    for index in range(item.views):
        view = digest.copy()
        view.update(_view_reference(item.image, index, item.views)[len(parsed.path) :].encode())
        digests.append(view.hexdigest())
    return width // item.views, height, digests


def _rows(item, root, size, digests, dataset, licence, min_area) -> list[Entry] | str:
    """The rows, or in words that a mask which should show something does not."""
    common = {
        "category": item.category,
        "split": item.split,
        "width": size[0],
        "height": size[1],
        "source": dataset,
        "licence": licence,
    }
    values, names = None, dict(item.classes)
    if item.anomalous and item.mask:
        whole = (size[0] * item.views, size[1])
        values = references.mask_values(root, item.mask, size=whole)
        fragment = parse_reference(item.mask).fragment
        if "coco" in fragment:
            classes = coco_file.load(references.resolve(root, item.mask)).classes
            names = dict(enumerate(map(defect_name, classes.values()), 1))
    rows = []
    for index, sha256 in enumerate(digests):
        image, mask, notes = item.image, item.mask, item.notes
        view = item.view
        if item.views > 1:
            image = _view_reference(item.image, index, item.views)
            mask = _view_reference(item.mask, index, item.views) if item.mask else ""
            view = str(index)
        boxes, labels, defect, anomalous = [], [], item.defect, item.anomalous
        if values is not None:
            part = values[:, index * size[0] : (index + 1) * size[0]]
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
