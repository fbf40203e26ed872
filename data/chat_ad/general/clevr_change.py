"""`adcopilot data convert clevr-change`: pairs of rendered scenes with one change, or only another camera and light.

Its layout is in `change_sets`. Each scene gives up to two items. Boxes are of the second image; what vanished has none
there. Nothing is copied.
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Container, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ...boxes import SHARE_LIMIT
from ...change_sets import clevr_change as layout
from ...errors import UserError
from ...files import read_json
from .command import AGAIN, add_box_share, add_common_arguments, run_source
from .media import ImageFolder
from .questions import ASK_DIFFERENCE
from .source import GeneralSource, RawSample, Rejected
from .texts import caption_record, checked_text, sentence

#: The change's name in type_mapping.json → the label of its box.
LABELS = {"color": "changed colour", "material": "changed material", "add": "added object", "move": "moved object"}


class ClevrChange(GeneralSource):
    """CLEVR-Change as a `source.GeneralSource`.

    Args:
        root: the folder that holds `data`, or `data` itself.
        media_dir: the YAML's.
        splits: of `splits.json`.
        box_share: of the items with a box, how many are asked for it.

    Raises:
        UserError: files are missing or broken.
    """

    name = "CLEVR-Change"
    licence = "CLEVR-Change (Park, Darrell, Rohrbach 2019): no licence stated; research use, do not redistribute"

    def __init__(self, *, root: Path, media_dir: Path, splits: list[str], box_share: float = 0.5) -> None:
        self.root = root
        *captions, splits_file = (
            layout.file(root, name, option="--root") for name in (*layout.CAPTIONS.values(), "splits.json")
        )
        types, boxes = (
            splits_file.with_name(f"{stem}.json") for stem in ("type_mapping", "change_captions_with_bbox")
        )
        self.files = [path for path in (*captions, splits_file, types, boxes) if path.is_file()]
        self.folder = ImageFolder(folder=splits_file.parent, media_dir=media_dir)
        self.options: dict[str, Any] = {"splits": splits, "box_share": box_share, "images": self.folder.prefix}
        self._captions = dict(zip(layout.CAPTIONS, map(_by_index, captions), strict=True))
        self._boxes = _by_index(boxes) if boxes.is_file() else {}
        self._types = {
            index: kind
            for kind, members in (_object(types).items() if types.is_file() else ())
            for index in (_index(name) for name in members)
        }
        found = _object(splits_file)
        missing = [split for split in splits if not isinstance(found.get(split), list)]
        if missing:
            raise UserError(f"{splits_file}: no list {missing[0]!r}, expected train, val and test; copy it again")
        self._indices = [(split, index) for split in splits for index in found[split]]

    def items(self, chosen: Container[int] | None = None) -> Iterator[RawSample]:
        """As `GeneralSource.items`; two for each scene of the splits."""
        ordinal = 0
        for split, index in self._indices:
            for kind in self._captions:
                if chosen is None or ordinal in chosen:
                    where = f"{self.folder.folder}: scene {index} ({kind}, {split})"
                    data = {"index": index, "kind": kind, "split": split}
                    yield RawSample(ordinal=ordinal, key=f"{kind}/{index}", where=where, data=data)
                ordinal += 1

    def check(self, item: RawSample) -> None:
        """Both images are there, and there is a caption."""
        names = self._names(item)
        for caption in self._captions_of(item):
            checked_text(caption, what="a caption")
        for name in names:
            self.folder.path(name)

    def record(self, item: RawSample, *, rng: random.Random) -> dict[str, Any]:
        """The pair with one of its captions."""
        pictures = self.folder.opened(self._names(item))
        caption = sentence(rng.choice(self._captions_of(item)))
        box, label = self._box(item, pictures["sizes"][1])
        return caption_record(
            self.name,
            item.key,
            rng=rng,
            questions=ASK_DIFFERENCE,
            caption=caption,
            boxes=[box] if box else [],
            label=label,
            box_share=self.options["box_share"],
            **pictures,
        )

    def _captions_of(self, item: RawSample) -> list[str]:
        captions = self._captions[item.data["kind"]].get(item.data["index"])
        if not isinstance(captions, list) or not captions:
            raise Rejected("no caption", f"scene {item.data['index']}, {item.data['kind']}")
        return captions

    def _names(self, item: RawSample) -> tuple[str, str]:
        index = item.data["index"]
        if not isinstance(index, int) or isinstance(index, bool) or index < 0:
            raise Rejected("broken item", f"splits.json lists {index!r:.40}, expected a scene's number")
        return layout.pair(index, item.data["kind"])

    def _box(self, item: RawSample, size: tuple[int, int]) -> tuple[list[int] | None, str]:
        if item.data["kind"] != "semantic":
            return None, ""
        boxes = self._boxes.get(item.data["index"])
        found = boxes.get("bbox_after") if isinstance(boxes, dict) else None
        label = LABELS.get(self._types.get(item.data["index"], ""), "change")
        if found is None:
            return None, label
        numbers = isinstance(found, list) and len(found) == 4 and all(type(value) in (int, float) for value in found)
        if not numbers:
            raise Rejected("broken box", f"bbox_after {found!r:.60}, expected [x, y, width, height]")
        x, y, width, height = found
        if max(map(abs, found)) <= SHARE_LIMIT:
            raise Rejected("broken box", f"bbox_after {found} looks like shares of the sides, expected pixels")
        # An object at the edge reaches out of the picture; its box ends with it.
        box = [max(0, round(x)), max(0, round(y)), min(size[0], round(x + width)), min(size[1], round(y + height))]
        if box[0] >= box[2] or box[1] >= box[3]:
            raise Rejected("broken box", f"bbox_after {found} lies outside {size[0]}×{size[1]} pixels")
        return box, label


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to `parser`."""
    add_common_arguments(parser, ClevrChange.name, root="the folder that holds CLEVR-Change's data folder")
    parser.add_argument("--include-test", action="store_true", help="also val and test, which models are compared on")
    add_box_share(parser)


def opened(args: argparse.Namespace) -> ClevrChange:
    """The source that the options name."""
    splits = ["train", "val", "test"] if args.include_test else ["train"]
    return ClevrChange(root=args.root, media_dir=args.media_dir, splits=splits, box_share=args.box_share)


run = partial(run_source, opened)


def _object(path: Path) -> dict[str, Any]:
    return read_json(path, kind=dict, check=AGAIN, again=AGAIN)


def _by_index(path: Path) -> dict[int, Any]:
    """The values of a file by scene, whether its keys are numbers or file names."""
    found = {}
    for name, value in _object(path).items():
        found[_index(name, path)] = value
    return found


def _index(name: object, path: Path | str = "type_mapping.json") -> int:
    digits = re.search(r"(\d+)(?:\.png)?$", name) if isinstance(name, str) else None
    if not digits:
        raise UserError(f"{path}: key {name!r:.60}, expected a scene such as CLEVR_default_000000.png or 0")
    return int(digits[1])
