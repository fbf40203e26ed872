"""DeepPCB: aligned pairs of a template and a test image, with boxes and no masks (`deeppcb_files`).

As they are, both images of a pair become rows: the template normal, the test image anomalous. The board's group of
folders is the view, so that a test image is paired with templates of the same board.

With the option `crop`, windows of both images become rows (`windows`): one around each defect, and normal ones. Each
is a view of its own, in which the same window of the template is the only other board. Templates have no split, so
that `splits` makes queries of the test images alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from ...errors import UserError
from ...images import open_image
from ..draws import dice
from ..sources.references import format_reference
from ..windows import NORMALS, Window, WindowRules, pair_windows
from .base import LayoutError, ListedImage, Option, Source
from .deeppcb_files import CLASSES, LISTS, SourcePair, find_root, list_path, read_split

__all__ = ["OPTIONS", "looks_like", "scan"]

OPTIONS: Mapping[str, Option] = {
    "crop": Option(
        default="", help="side of the windows around defects in pixels, or whole; without it, pairs as they are"
    ),
    "normals": Option(
        default="auto",
        choices=NORMALS,
        help="with crop, normal queries: windows without defects (clean), defects overwritten by the template "
        "(repair), clean where there is such a window (auto), or none",
    ),
    "normal_ratio": Option(default="1", help="with crop, normal windows for each defective one"),
    "min_visible": Option(default="0.5", help="with crop, share of a defect that a window must show, or none of it"),
    "limit": Option(default="", help="with crop, so many pairs of each split, drawn at random; all by default"),
    "seed": Option(default="0", help="with crop, of windows and limit"),
}

CATEGORY = "pcb"

# One merged patch of Qwen2.5-VL is 28 pixels wide.
_LEAST = 28


def looks_like(source: Source) -> bool:
    """Whether the authors' lists are there."""
    try:
        find_root(source.root)
    except UserError:
        return False
    return source.is_folder("PCBData") or any(name.startswith("group") for name in source.folders(""))


def scan(source: Source) -> Iterator[ListedImage]:
    """Template and test image of each pair, or windows of them, in the order of the lists, train before test.

    Raises:
        LayoutError: there is no list.
        UserError: an option has a wrong value.
    """
    try:
        root = find_root(source.root)
    except UserError as error:
        raise LayoutError(str(error)) from None
    rules = _rules(source)
    if not source.wants(CATEGORY):
        return
    seen: dict[str, str] = {}
    for split in LISTS:
        for pair in _drawn(source, split, _pairs(source, root, split, seen)):
            if rules is None:
                yield from _whole(source, split, pair)
            else:
                yield from _windows(source, split, pair, rules)


def _pairs(source: Source, root: Path, split: str, seen: dict[str, str]) -> list[SourcePair]:
    """The pairs of a split that are not in an earlier one."""
    faults: list[UserError] = []
    try:
        pairs = read_split(root, split, faults=faults)
    except UserError as error:
        source.problem("missing-list", _relative(source, root / LISTS[split]), str(error))
        return []
    for fault in faults:
        source.problem("annotation", _relative(source, list_path(root, split)), str(fault))
    for pair in pairs:
        if pair.name in seen:
            reason = f"is in {LISTS[seen[pair.name]]} too, expected each pair in one list; taken from there"
            source.problem("listed-twice", _relative(source, pair.query), reason)
    pairs = [pair for pair in pairs if pair.name not in seen]
    seen.update(dict.fromkeys((pair.name for pair in pairs), split))
    return pairs


def _drawn(source: Source, split: str, pairs: list[SourcePair]) -> list[SourcePair]:
    """`limit` of the pairs in their order; the lists go group by group, so the first ones would be one board."""
    if not source.options["crop"] or not source.options["limit"]:
        return pairs
    limit = int(_number(source, "limit", low=1))
    chosen = dice(source.options["seed"], split).sample(range(len(pairs)), min(limit, len(pairs)))
    return [pairs[index] for index in sorted(chosen)]


def _whole(source: Source, split: str, pair: SourcePair) -> Iterator[ListedImage]:
    common = {"category": CATEGORY, "split": split, "view": pair.source.split("/")[0]}
    yield ListedImage(
        **common,
        image=format_reference(_relative(source, pair.template)),
        anomalous=False,
        notes=f"aligned template of {pair.query.name}",
    )
    boxes = tuple((defect.box, CLASSES[defect.kind].label) for defect in pair.defects)
    yield ListedImage(**common, image=format_reference(_relative(source, pair.query)), **_defective(boxes))


def _windows(source: Source, split: str, pair: SourcePair, rules: WindowRules) -> Iterator[ListedImage]:
    query, template = (_relative(source, path) for path in (pair.query, pair.template))
    if rules.crop is not None and rules.crop > min(pair.size):
        found = f"has {pair.size[0]}×{pair.size[1]} pixels, expected {rules.crop} or more a side; lower crop"
        source.problem("image-size", query, found)
        return
    boxes = [defect.box for defect in pair.defects]
    rng = dice(source.options["seed"], f"{split}/{pair.name}")
    try:
        pixels = partial(_pixels, pair.template)
        windows, dropped = pair_windows(rng, boxes, size=pair.size, template=pixels, rules=rules)
    except UserError as error:
        source.problem("unreadable-image", template, str(error))
        return
    for index, reason in dropped.items():
        source.note("no-window", query, f"its defect at {list(boxes[index])} is in no window, it is {reason}")
    given: set[str] = set()  # a window may be chosen twice
    for window in windows:
        for item in _of_window(window, split, pair, query, template):
            if item.image not in given:
                given.add(item.image)
                yield item


def _of_window(window: Window, split: str, pair: SourcePair, query: str, template: str) -> Iterator[ListedImage]:
    place = "/".join(map(str, window.place))
    common = {"category": CATEGORY, "view": f"{pair.name} {place}"}
    aligned = f"aligned template of {pair.query.name}"
    yield ListedImage(**common, image=format_reference(template, window=place), anomalous=False, notes=aligned)
    boxes = tuple((one.box, CLASSES[pair.defects[one.index].kind].label) for one in window.seen)
    about = _defective(boxes) if boxes else {"anomalous": False}
    # A repaired board is no template of the same board with its defects: one object, as in sets of several views.
    common |= {"split": split, "group": pair.name}
    repair = {}
    if window.repaired:
        text = "/".join(str(number) for defect in pair.defects for number in defect.box)
        repair = {"repair": text, "by": pair.template.name}
        about["notes"] = "its defects are overwritten by the template"
    yield ListedImage(**common, image=format_reference(query, window=place, **repair), **about)


def _defective(boxes: tuple) -> dict:
    return {"anomalous": True, "defect": ", ".join(sorted({label for _, label in boxes})), "boxes": boxes}


def _rules(source: Source) -> WindowRules | None:
    """What the options say about windows; None for pairs as they are.

    Raises:
        UserError: a value is out of range.
    """
    crop, normals = source.options["crop"], source.options["normals"]
    if not crop:
        return None
    if crop == "whole" and normals == "clean":
        raise UserError(
            f"{source.say('normals', 'clean')}: every whole image of DeepPCB has a defect, so there is none; give "
            "crop in pixels, or use repair"
        )
    return WindowRules(
        crop=None if crop == "whole" else int(_number(source, "crop", low=_LEAST)),
        min_visible=_number(source, "min_visible", low=0.01, high=1),
        normals=normals,
        normal_ratio=_number(source, "normal_ratio", low=0, high=100),
    )


def _number(source: Source, option: str, *, low: float, high: float = 1e6) -> float:
    text = source.options[option]
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not low <= number <= high or (option in ("crop", "limit") and number != int(number)):
        raise UserError(f"{source.say(option, text)}: expected {low:g} to {high:g}")
    return number


def _pixels(path: Path) -> np.ndarray:
    return np.asarray(open_image(path))


def _relative(source: Source, path: os.PathLike) -> str:
    return os.path.relpath(path, source.root).replace(os.sep, "/")
