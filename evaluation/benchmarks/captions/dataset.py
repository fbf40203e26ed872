"""Pairs of images with reference captions, in three layouts.

`pairs`: this package's own, for OmniDiff-Real (whose official files are not published) and for anybody's data:

    ROOT/captions.jsonl     {"id": "kitchen-004", "images": ["real/kitchen/a.jpg", "real/kitchen/b.jpg"],
                             "captions": ["The kettle is gone and …"], "category": "kitchen"}
    ROOT/…                  the images, before and after, as the file names them

One object a line; `captions` are all the references of a pair; `category` is optional. `--annotations` names another
file.

`spot-the-diff`, `clevr-change`: as their authors laid them out, see `adcopilot.change_sets`. A pair of the former that
several people described is one pair; each person's sentences together are one reference (`joined`) or each sentence is
one (`sentences`): which of the two published numbers are by is not said. A scene of the latter gives a pair with a
change and one with another view only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adcopilot.change_sets import clevr_change, spot_the_diff
from adcopilot.errors import UserError
from adcopilot.files import read_json
from adcopilot.jsonl import read_jsonl

__all__ = ["LAYOUTS", "REFERENCES", "SPLITS", "CaptionedPair", "load"]

#: It names the root.
OPTION = "--data-root"
SPLITS = ("train", "val", "test")
REFERENCES = ("joined", "sentences")


@dataclass(frozen=True, kw_only=True)
class CaptionedPair:
    """Two images and what is said of their difference.

    Attributes:
        name: unique within the benchmark.
        images: before, after.
        captions: references, at least one.
        category: for tables.
    """

    name: str
    images: tuple[Path, Path]
    captions: tuple[str, ...]
    category: str = ""


def load(
    layout: str,
    *,
    root: Path,
    split: str = "test",
    annotations: Path | None = None,
    references: str = "joined",
) -> tuple[list[CaptionedPair], list[Path]]:
    """Read a benchmark.

    Args:
        layout: of `LAYOUTS`.
        root: where the images are.
        split: of `SPLITS`; the layout `pairs` has none.
        annotations: another file with the captions; for `pairs` and `spot-the-diff`.
        references: of `REFERENCES`, for `spot-the-diff`.

    Returns:
        Pairs in the file's order, and the files read.

    Raises:
        UserError: files are missing or broken; it says which layout was expected.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; --data-root is where the images are")
    pairs, files = LAYOUTS[layout](root, split, annotations, references)
    if not pairs:
        raise UserError(f"{files[0]}: no pairs of images in it; is --layout {layout} right?")
    names: set[str] = set()
    for pair in pairs:
        if pair.name in names:
            raise UserError(f"{files[0]}: the id {pair.name!r} is there twice; put its captions into one entry")
        names.add(pair.name)
    return pairs, files


def _pairs(root: Path, split: str, annotations: Path | None, kind: str) -> tuple[list[CaptionedPair], list[Path]]:
    path = annotations or root / "captions.jsonl"
    found = []
    for number, record in read_jsonl(path):
        where = f"{path}:{number}"
        images = record.get("images")
        if not (isinstance(images, list) and len(images) == 2 and all(isinstance(name, str) for name in images)):
            raise UserError(f"{where}: images is {images!r:.80}, expected two paths, before and after")
        name = record.get("id", str(number))
        found.append(
            CaptionedPair(
                name=name if isinstance(name, str) else str(name),
                images=(_inside(root, images[0], where), _inside(root, images[1], where)),
                captions=_captions(record.get("captions"), where),
                category=str(record.get("category", "")),
            )
        )
    return found, [path]


def _spot_the_diff(
    root: Path, split: str, annotations: Path | None, kind: str
) -> tuple[list[CaptionedPair], list[Path]]:
    path = annotations or spot_the_diff.annotations(root, split, option=OPTION)
    folder = spot_the_diff.pictures(root, option=OPTION)
    entries = read_json(path, kind=list, check="check the path", again="copy it again")
    references: dict[str, list[str]] = {}
    for number, entry in enumerate(entries):
        where = f"{path}: entry {number + 1}"
        if not isinstance(entry, dict) or not isinstance(entry.get("img_id"), str):
            raise UserError(f"{where}: expected an object with img_id (a text) and sentences (a list)")
        if Path(entry["img_id"]).name != entry["img_id"]:
            raise UserError(f"{where}: img_id is {entry['img_id']!r:.60}, expected a name without folders")
        sentences = _captions(entry.get("sentences"), where)
        references.setdefault(entry["img_id"], []).extend([" ".join(sentences)] if kind == "joined" else sentences)
    return [
        CaptionedPair(
            name=name, images=tuple(folder / image for image in spot_the_diff.pair(name)), captions=tuple(captions)
        )
        for name, captions in references.items()
    ], [path]


def _clevr_change(
    root: Path, split: str, annotations: Path | None, kind: str
) -> tuple[list[CaptionedPair], list[Path]]:
    files = [clevr_change.file(root, name, option=OPTION) for name in ("splits.json", *clevr_change.CAPTIONS.values())]
    splits, *captions = (read_json(path, kind=dict, check="check the path", again="copy it again") for path in files)
    indices = splits.get(split)
    if not isinstance(indices, list) or not all(isinstance(index, int) and index >= 0 for index in indices):
        raise UserError(f"{files[0]}: {split!r} is {indices!r:.40}, expected a list of scene numbers")
    found = []
    for index in indices:
        for change, path, references in zip(clevr_change.CAPTIONS, files[1:], captions, strict=True):
            images = tuple(path.parent / image for image in clevr_change.pair(index, change))
            before = images[0].name
            found.append(
                CaptionedPair(
                    name=f"{change}/{index:06d}",
                    images=images,
                    captions=_captions(references.get(before), f"{path}: {before}"),
                    category="change" if change == "semantic" else "no change",
                )
            )
    return found, files


#: `--layout` → its reader.
LAYOUTS: Mapping[str, Callable[[Path, str, Path | None, str], tuple[list[CaptionedPair], list[Path]]]] = {
    "pairs": _pairs,
    "spot-the-diff": _spot_the_diff,
    "clevr-change": _clevr_change,
}


def _captions(value: Any, where: str) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise UserError(f"{where}: captions are {value!r:.60}, expected a list of texts")
    kept = tuple(" ".join(text.split()) for text in texts if text.strip())
    if not kept:
        raise UserError(f"{where}: has no caption; leave the pair out or give it one")
    return kept


def _inside(root: Path, name: str, where: str) -> Path:
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise UserError(f"{where}: image {name!r:.80}, expected a path inside --data-root")
    return root / name
