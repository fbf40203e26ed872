"""The step of a build that makes files of pairs: images and masks as training sees them, named by their content."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from ...errors import UserError
from ...jsonl import atomic_write
from ..crops import cut_boxes, cut_pair, map_window, shown_window
from ..pairing import PAIR_SCHEMA
from ..recipe.specs import ImageSpec
from ..sources.opened import OpenedImages
from ..sources.references import mask_components, open_mask, parse_reference, reference_size, resolve
from ..steps import Made, Shard, Step, read
from ..visual_prompts import draw_visual_prompt

__all__ = ["CUT", "CUT_SCHEMA", "files_there"]

#: A pair and the files that show it: names relative to `media_dir`, sizes and boxes in their pixels.
CUT_SCHEMA = pa.schema(
    [
        *PAIR_SCHEMA,
        pa.field("template_file", pa.string()),
        pa.field("query_file", pa.string()),
        pa.field("mask_file", pa.string()),
        pa.field("marked_file", pa.string()),
        pa.field("shown_size", pa.list_(pa.int32())),
        pa.field("shown_boxes", PAIR_SCHEMA.field("boxes").type),
        pa.field("shown_labels", PAIR_SCHEMA.field("box_labels").type),
        pa.field("shown_areas", pa.list_(pa.int64())),
        pa.field("shown_defect", pa.string()),
        pa.field("pair_row", pa.int32()),
    ]
)


def cut_pairs(
    pairs: Path,
    chosen: Sequence[int],
    root: str,
    media_dir: str,
    prefix: str,
    dataset: str,
    images: ImageSpec,
    marked_prefix: str,
) -> Made:
    """The files of some of a shard's pairs, named by their content.

    The rows are of `CUT_SCHEMA`, with the row of `pairs` in `pair_row`; pairs that cannot be shown are `uncut` in the
    notes: row → why.

    Args:
        pairs: shard of pairs.
        chosen: their rows.
        root: of the dataset.
        media_dir: what the written names are relative to.
        prefix: folder of the output in `media_dir`, with a slash behind it or empty.
        dataset: name of the folder below `images` and `masks`.
        images: how they are stored.
        marked_prefix: folder (as `prefix`) for copies with the defect outlined; "" for none.
    """
    writer, opened = _Files(Path(media_dir), prefix, dataset, images), OpenedImages()
    shown, uncut = [], {}
    for place, row in zip(chosen, read(pairs, rows=chosen).to_pylist(), strict=True):
        try:
            shown.append({**_show(row, root, writer, marked_prefix, opened=opened), "pair_row": place})
        except UserError as error:
            uncut[str(place)] = " ".join(str(error).split())
    return pa.Table.from_pylist(shown, schema=CUT_SCHEMA), {"uncut": uncut}


CUT = Step("cut", 3, cut_pairs)


def files_there(shard: Shard, media_dir: Path) -> bool:
    """Whether the files that a shard of `cut_shard` names are all there."""
    names = read(shard, ["template_file", "query_file", "mask_file", "marked_file"])
    found = {name for column in names.columns for name in column.to_pylist() if name}
    return all(os.path.exists(os.path.join(media_dir, name)) for name in found)


#: Level 1 takes a quarter of the usual 6's time, for a few per cent more bytes.
_PNG = {"format": "PNG", "compress_level": 1}


class _Files:
    """Writes images under names that their content decides, so that no order and no repetition changes anything."""

    def __init__(self, media_dir: Path, prefix: str, dataset: str, images: ImageSpec) -> None:
        self.media_dir, self.prefix, self.dataset, self.images = media_dir, prefix, dataset, images
        # Resolved, because a dataset that is linked into media_dir is in it too.
        self.base = os.path.realpath(media_dir)
        # Small defects may differ in colour alone, which JPEG's usual subsampling takes from each square of 2 × 2.
        self.jpeg = {"format": "JPEG", "quality": images.quality, "subsampling": 0}

    def _options(self, reference: str) -> dict[str, Any]:
        """How the image of a reference is encoded."""
        suffix = Path(parse_reference(reference).path).suffix.lower()
        if self.images.format == "source":
            return self.jpeg if suffix in (".jpg", ".jpeg") else _PNG
        return self.jpeg if self.images.format == "jpeg" else _PNG

    def original(self, root: str, reference: str) -> str | None:
        """The name of a dataset's own file, if it may be used and lies in `media_dir`."""
        parsed = parse_reference(reference)
        if not self.images.originals or parsed.fragment:
            return None
        path = os.path.relpath(os.path.realpath(resolve(root, parsed)), self.base)
        return None if path.startswith("..") else path.replace(os.sep, "/")

    def image_name(self, reference: str, *content: Any) -> str:
        """The name of an image out of `reference` whose pixels depend on `content`."""
        options = self._options(reference)
        suffix = "png" if options["format"] == "PNG" else "jpg"
        return self.name(f"{self.prefix}images", [*content, *_depth(reference), options], suffix)

    def missing(self, *names: str) -> bool:
        """Whether one of the files has to be written; they appear by a rename, so what is there is whole."""
        return not all((self.media_dir / name).exists() for name in names)

    def write(self, name: str, image: Image.Image) -> None:
        """Write an image (RGB, or a mask) under the name that it was given, whose suffix says how."""
        if self.missing(name):
            buffer = io.BytesIO()
            image.save(buffer, **(_PNG if name.endswith(".png") else self.jpeg))
            atomic_write(self.media_dir / name, lambda file: file.write(buffer.getvalue()))

    def mask(self, mask: np.ndarray) -> str:
        """Write a mask, 255 where the defect is, and return its name."""
        packed = hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()
        name = self.name(f"{self.prefix}masks", [packed, mask.shape])
        self.write(name, Image.fromarray(mask.astype(np.uint8) * 255))
        return name

    def name(self, folder: str, content: Sequence[Any], suffix: str = "png") -> str:
        """The name in `folder` of a picture that depends on `content`."""
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]
        return f"{folder}/{self.dataset}/{digest[:2]}/{digest}.{suffix}"


def _show(
    row: dict[str, Any], root: str, files: _Files, marked_prefix: str, *, opened: OpenedImages
) -> dict[str, Any]:
    """A row of `CUT_SCHEMA`, its files written; images that are there already are not opened."""
    size, window = (row["width"], row["height"]), shown_window(row)
    shown_size = [window[2] - window[0], window[3] - window[1]]
    boxes, labels = cut_boxes(row)
    labels = [label or row["defect"] for label in labels]
    template_size = reference_size(root, row["template"])
    names = None
    if row["crop"] is None:
        names = [files.original(root, row[name]) for name in ("template", "image")]
    own = names is None or None in names
    if own:
        place = map_window(window, size, template_size)
        names = [
            files.image_name(row["template"], row["template_sha256"], place, template_size),
            files.image_name(row["image"], row["sha256"], window, size),
        ]
    mask_file = ""
    mask = None
    if row["mask"]:
        mask = open_mask(root, row["mask"], size=size)[window[1] : window[3], window[0] : window[2]]
        mask_file = files.mask(mask)
    marked_file = ""
    if marked_prefix and boxes:
        marked_file = files.name(marked_prefix, [names[1], mask_file, boxes, labels])
    if (own and files.missing(*names)) or (marked_file and files.missing(marked_file)):
        pair = cut_pair(root, row, opened=opened)
        if own:
            for name, image in zip(names, pair, strict=True):
                files.write(name, image)
        if marked_file:
            files.write(marked_file, draw_visual_prompt(pair[1], mask=mask, boxes=boxes, labels=labels))
    return {
        **row,
        "template_file": names[0],
        "query_file": names[1],
        "mask_file": mask_file,
        "marked_file": marked_file,
        "shown_size": shown_size,
        "shown_boxes": boxes,
        "shown_labels": labels,
        "shown_areas": None if mask is None else _areas(mask, boxes),
        # A window that leaves some defects out shows only the others.
        "shown_defect": _defect(row, labels),
    }


def _areas(mask: np.ndarray, boxes: Sequence[Sequence[int]]) -> list[int]:
    """How many pixels the mask marks in each region that has one of the boxes."""
    regions = {one.box: one.area for one in mask_components(mask)}
    # A box that is no region's own (of a record, which somebody wrote) has what is marked within it.
    return [regions.get(tuple(box)) or int(mask[box[1] : box[3], box[0] : box[2]].sum()) for box in boxes]


def _depth(reference: str) -> list[str]:
    bits = parse_reference(reference).fragment.get("bits")
    return [] if bits is None else [f"bits={bits}"]


def _defect(row: Mapping[str, Any], labels: Sequence[str]) -> str:
    if len(labels) == len(row["boxes"]):
        return row["defect"]
    return ", ".join(sorted({label for label in labels if label}))
