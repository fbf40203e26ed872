"""The steps of a build, each a function from one shard's inputs to the next shard's file.

    index_shard      a reader's items → rows of the canonical table
    measure_shard    rows → how sharp, light and alike the images are
    embed_shard      normal rows → vectors, for the pool of templates
    pair_shard_rows  rows → pairs with a template and a window
    cut_shard        pairs → image and mask files, and what they show

They read nothing but what they are given, so they run anywhere that sees the same files, in any order. Each has a
`VERSIONS` number, raised when the same inputs give other bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from ...errors import UserError
from ...jsonl import atomic_write
from ...masks import MaskOptions
from ..commands.pair import pair_images
from ..crops import CropOptions, Decoy, cut_boxes, cut_pair, map_window
from ..fitness.embedding import Embedder, embed_images, load_embedder, table_to_vectors, vectors_to_table
from ..fitness.fingerprints import measure_table
from ..pairing import PAIR_SCHEMA, PairOptions, Pool
from ..readers import Item, Problem, measure
from ..recipe.specs import EmbedSpec, ImageSpec
from ..sources.opened import OpenedImages
from ..sources.references import image_size, mask_components, open_mask, parse_reference, resolve
from ..table import to_batch
from ..visual_prompts import draw_visual_prompt
from .shards import Shard, load, read, save

__all__ = [
    "CUT_SCHEMA",
    "VERSIONS",
    "cut_shard",
    "embed_shard",
    "index_shard",
    "measure_shard",
    "pair_shard_rows",
    "write_pool",
]

VERSIONS: Mapping[str, int] = {
    **dict.fromkeys(("measure", "leaks", "select", "embed"), 1),
    **dict.fromkeys(("index", "pool"), 2),
    **dict.fromkeys(("pair", "cut"), 3),
}

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


def index_shard(
    path: Path,
    key: str,
    *,
    items: Sequence[Item],
    root: str,
    dataset: str,
    licence: str,
    min_area: int,
    masks: MaskOptions,
    recipe: str,
) -> Shard:
    """Rows of the table; `problems` in the notes."""
    entries, problems = [], []
    for item in items:
        found = measure(
            item, root=root, dataset=dataset, licence=licence, min_area=min_area, masks=masks, recipe=recipe
        )
        if isinstance(found, Problem):
            problems.append(asdict(found))
        else:
            entries += found
    return save(path, key, pa.Table.from_batches([to_batch(entries)]), problems=problems)


def measure_shard(path: Path, key: str, *, rows: Path, root: str) -> Shard:
    """`fingerprints.MEASURES` of a shard of the index."""
    return save(path, key, measure_table(read(rows, ["image", "sha256"]), root))


def embed_shard(path: Path, key: str, *, rows: Path, chosen: Sequence[int], root: str, embed: EmbedSpec) -> Shard:
    """Vectors of some of a shard's rows; row → problem in the notes' `unusable`."""
    images = read(rows, ["image"])["image"].take(pa.array(chosen, pa.int64())).to_pylist()
    vectors, problems = embed_images(images, root, embedder(embed))
    unusable = {str(row): text for row, text in sorted(problems.items())}
    return save(path, key, vectors_to_table(vectors, problems), unusable=unusable)


def pair_shard_rows(
    path: Path,
    key: str,
    *,
    rows: Path,
    chosen: Sequence[int],
    root: str,
    pool: Path,
    pool_key: str,
    options: PairOptions,
    embed: EmbedSpec,
    crops: CropOptions | None,
    decoys: Mapping[tuple[str, str], Sequence[Decoy]],
) -> Shard:
    """Pairs of some of a shard's rows; those left out are `unpaired` in the notes."""
    table = read(rows).take(pa.array(chosen, pa.int64()))
    pairs, unpaired = pair_images(
        table,
        root,
        _pool(pool, pool_key),
        options=options,
        embedder=embedder(embed) if options.method == "nearest" else None,
        crops=crops,
        decoys=decoys,
    )
    return save(path, key, pairs, unpaired=unpaired)


def cut_shard(
    path: Path,
    key: str,
    *,
    pairs: Path,
    chosen: Sequence[int],
    root: str,
    media_dir: str,
    prefix: str,
    dataset: str,
    images: ImageSpec,
    marked_prefix: str,
) -> Shard:
    """The files of some of a shard's pairs, named by their content.

    The rows are of `CUT_SCHEMA`, with the row of `pairs` in `pair_row`; pairs that cannot be shown are `uncut` in the
    notes: row → why.

    Args:
        path, key: of the shard to write.
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
    for place, row in zip(chosen, read(pairs).take(pa.array(chosen, pa.int64())).to_pylist(), strict=True):
        try:
            shown.append({**_show(row, root, writer, marked_prefix, opened=opened), "pair_row": place})
        except UserError as error:
            uncut[str(place)] = " ".join(str(error).split())
    return save(path, key, pa.Table.from_pylist(shown, schema=CUT_SCHEMA), uncut=uncut)


def files_there(shard: Shard, media_dir: Path) -> bool:
    """Whether the files that a shard of `cut_shard` names are all there."""
    names = read(shard, ["template_file", "query_file", "mask_file", "marked_file"])
    found = {name for column in names.columns for name in column.to_pylist() if name}
    return all(os.path.exists(os.path.join(media_dir, name)) for name in found)


def write_pool(path: Path, key: str, *, rows: pa.Table, shards: Sequence[Shard]) -> Shard:
    """The pool of templates: its rows, and beside them the vectors of all shards as one file to be mapped.

    Args:
        path, key: of the shard to write.
        rows: `pairing.POOL_COLUMNS`, in the order of the shards' vectors.
        shards: of `embed_shard`; none for the method `random`.
    """
    unusable, count = {}, 0
    for shard in shards:
        unusable.update({str(count + int(row)): text for row, text in shard.notes["unusable"].items()})
        count += shard.rows
    if shards:
        width = read(shards[0]).schema.field("vector").type.byte_width

        def write(file) -> None:
            for shard in shards:
                file.write(table_to_vectors(read(shard))[0].tobytes())

        for old in path.parent.glob("*.vectors"):
            old.unlink(missing_ok=True)
        atomic_write(_vectors(path, key), write)
        return save(path, key, rows, unusable=unusable, width=width // 4)
    return save(path, key, rows, unusable=unusable, width=0)


def _vectors(path: Path, key: str) -> Path:
    return path.with_name(f"{key}.vectors")


def pool_there(shard: Shard, key: str) -> bool:
    """Whether the vectors of a finished pool are there, all of them."""
    if not shard.notes["width"] or not shard.rows:
        return True
    try:
        return _vectors(shard.path, key).stat().st_size == 4 * shard.notes["width"] * shard.rows
    except OSError:
        return False


@lru_cache(maxsize=1)
def _pool(path: Path, key: str) -> Pool:
    """Opened once in a process: a worker makes many shards with one pool."""
    shard = load(path, key)
    if shard is None:
        raise UserError(f"{path}: gone or made anew while it was used; start the build again")
    vectors = None
    if shard.notes["width"]:
        shape = (shard.rows, shard.notes["width"])
        vectors = np.memmap(_vectors(path, key), np.float32, "r", shape=shape) if shard.rows else np.zeros(shape)
    return Pool(read(shard), vectors, unusable={int(row): text for row, text in shard.notes["unusable"].items()})


@lru_cache(maxsize=1)
def embedder(spec: EmbedSpec) -> Embedder:
    """Loaded once in a process.

    Raises:
        UserError: the model cannot be loaded.
    """
    return load_embedder(spec.model, device=spec.device, dtype=spec.dtype, batch_size=spec.batch_size)


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
        return self._name(f"{self.prefix}images", [*content, *_depth(reference), options], suffix)

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
        name = self._name(f"{self.prefix}masks", [packed, mask.shape], "png")
        self.write(name, Image.fromarray(mask.astype(np.uint8) * 255))
        return name

    def marked_name(self, folder: str, *content: Any) -> str:
        """The name of a copy with the defect outlined."""
        return self._name(folder, content, "png")

    def _name(self, folder: str, content: Sequence[Any], suffix: str) -> str:
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]
        return f"{folder}/{self.dataset}/{digest[:2]}/{digest}.{suffix}"


def _show(
    row: dict[str, Any], root: str, files: _Files, marked_prefix: str, *, opened: OpenedImages
) -> dict[str, Any]:
    """A row of `CUT_SCHEMA`, its files written; images that are there already are not opened."""
    size = (row["width"], row["height"])
    window = tuple(row["crop"]) if row["crop"] is not None else (0, 0, *size)
    shown_size = [window[2] - window[0], window[3] - window[1]]
    boxes, labels = cut_boxes(row)
    labels = [label or row["defect"] for label in labels]
    template_size = image_size(root, row["template"])
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
        marked_file = files.marked_name(marked_prefix, names[1], mask_file, boxes, labels)
    if (own and files.missing(*names)) or (marked_file and files.missing(marked_file)):
        cut = cut_pair(root, {**row, "mask": ""}, opened=opened)  # the mask is open already
        if own:
            files.write(names[0], cut.template)
            files.write(names[1], cut.query)
        if marked_file:
            picture = draw_visual_prompt(cut.query, mask=mask, boxes=boxes, labels=labels)
            files.write(marked_file, picture)
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
