"""Pairs of images with reference captions, in three layouts.

`pairs`: this package's own, for OmniDiff-Real (whose official files are not published) and for anybody's data:

    ROOT/captions.jsonl     {"id": "kitchen-004", "images": ["real/kitchen/a.jpg", "real/kitchen/b.jpg"],
                             "captions": ["The kettle is gone and …"], "category": "kitchen"}
    ROOT/…                  the images, before and after, as the file names them

One object a line; `captions` are all the references of a pair; `category` is optional. `--annotations` names another
file.

`spot-the-diff`: the authors' repository with its images: `data/annotations/test.json` and `resized_images/`. A pair
that several people described is one pair; each person's sentences together are one reference (`joined`) or each
sentence is one (`sentences`): which of the two published numbers are by is not said.

`clevr-change`: the authors' `data` folder: `splits.json`, `change_captions.json`, `no_change_captions.json` and the
three image folders. Each scene gives a pair with a change and one with another view only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adcopilot.errors import UserError
from adcopilot.jsonl import read_jsonl

from ...reading import read_json

__all__ = ["LAYOUTS", "REFERENCES", "SPLITS", "Pair", "load"]

SPLITS = ("train", "val", "test")
REFERENCES = ("joined", "sentences")


@dataclass(frozen=True, kw_only=True)
class Pair:
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
) -> tuple[list[Pair], list[Path]]:
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


def _pairs(root: Path, split: str, annotations: Path | None, kind: str) -> tuple[list[Pair], list[Path]]:
    path = annotations or root / "captions.jsonl"
    found = []
    for number, record in read_jsonl(path):
        where = f"{path}:{number}"
        images = record.get("images")
        if not (isinstance(images, list) and len(images) == 2 and all(isinstance(name, str) for name in images)):
            raise UserError(f"{where}: images is {images!r:.80}, expected two paths, before and after")
        name = record.get("id", str(number))
        found.append(
            Pair(
                name=name if isinstance(name, str) else str(name),
                images=(_inside(root, images[0], where), _inside(root, images[1], where)),
                captions=_captions(record.get("captions"), where),
                category=str(record.get("category", "")),
            )
        )
    return found, [path]


def _spot_the_diff(root: Path, split: str, annotations: Path | None, kind: str) -> tuple[list[Pair], list[Path]]:
    what = "--layout spot-the-diff expects the authors' repository with its images"
    choices = [root / folder / f"{split}.json" for folder in ("data/annotations", "annotations", "")]
    path = annotations or _first(choices, what=what)
    folder = _first([root / "resized_images", root / "data/resized_images", root / "images"], what=what)
    entries = _json(path, list)
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
        Pair(name=name, images=(folder / f"{name}.png", folder / f"{name}_2.png"), captions=tuple(captions))
        for name, captions in references.items()
    ], [path]


def _clevr_change(root: Path, split: str, annotations: Path | None, kind: str) -> tuple[list[Pair], list[Path]]:
    folder = root / "data" if (root / "data").is_dir() else root
    what = "--layout clevr-change expects the authors' data folder"
    names = ("splits.json", "change_captions.json", "no_change_captions.json")
    files = [_first([folder / name], what=what) for name in names]
    splits, *captions = (_json(path, dict) for path in files)
    indices = splits.get(split)
    if not isinstance(indices, list) or not all(isinstance(index, int) and index >= 0 for index in indices):
        raise UserError(f"{files[0]}: {split!r} is {indices!r:.40}, expected a list of scene numbers")
    found = []
    for index in indices:
        before = f"CLEVR_default_{index:06d}.png"
        for change, path, references in zip(("semantic", "nonsemantic"), files[1:], captions, strict=True):
            short = {"semantic": "sc", "nonsemantic": "nsc"}[change]
            after = folder / f"{short}_images" / f"CLEVR_{change}_{index:06d}.png"
            found.append(
                Pair(
                    name=f"{change}/{index:06d}",
                    images=(folder / "images" / before, after),
                    captions=_captions(references.get(before), f"{path}: {before}"),
                    category="change" if change == "semantic" else "no change",
                )
            )
    return found, files


#: `--layout` → its reader.
LAYOUTS: Mapping[str, Callable[[Path, str, Path | None, str], tuple[list[Pair], list[Path]]]] = {
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


def _first(choices: list[Path], *, what: str) -> Path:
    for path in choices:
        if path.exists():
            return path
    raise UserError(f"{choices[0]}: missing; {what}")


def _json(path: Path, kind: type) -> Any:
    value = read_json(path, check="check the path", again="copy it again")
    if not isinstance(value, kind):
        raise UserError(f"{path}: expected a JSON {kind.__name__}, got {type(value).__name__}; is it the right file?")
    return value
