"""The steps of a build, each a function from one shard's inputs to the next shard's file.

    index_shard      a reader's items → rows of the canonical table
    measure_shard    rows → how sharp, light and alike the images are
    embed_shard      normal rows → vectors, for the pool of templates
    pair_shard_rows  rows → pairs with a template and a window

They read nothing but what they are given, so they run anywhere that sees the same files, in any order. Each has a
`VERSIONS` number, raised when the same inputs give other bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...errors import UserError
from ...jsonl import atomic_write
from ...masks import MaskOptions
from ..crops import CropOptions, Decoy, choose_crops
from ..fitness.embedding import Embedder, embed_images, load_embedder, table_to_vectors, vectors_to_table
from ..fitness.fingerprints import measure_table
from ..pairing import PairOptions, Pool, pair_shard
from ..readers import Item, Problem, measure
from ..recipe.specs import EmbedSpec
from ..table import to_batch
from .shards import Shard, load, read, save

__all__ = [
    "VERSIONS",
    "embed_shard",
    "index_shard",
    "measure_shard",
    "pair_shard_rows",
    "write_pool",
]

VERSIONS: Mapping[str, int] = {
    **dict.fromkeys(("measure", "select", "embed"), 1),
    **dict.fromkeys(("index", "pool"), 2),
    "pair": 3,
}


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
    table, templates = read(rows).take(pa.array(chosen, pa.int64())), _pool(pool, pool_key)
    vectors, problems = None, {}
    if options.method == "nearest":
        vectors, problems = _query_vectors(table["image"], templates, root, embedder(embed))
    pairs, unpaired = pair_shard(table, vectors, templates, options=options, problems=problems)
    if crops is not None:
        pairs = choose_crops(pairs, options=crops, decoys=decoys)
    return save(path, key, pairs, unpaired=unpaired)


def _query_vectors(
    images: pa.ChunkedArray, pool: Pool, root: str, embedder: Embedder
) -> tuple[np.ndarray, dict[int, str]]:
    """The vectors of a shard's queries; one that is a template too has its vector already."""
    known = pc.index_in(images, value_set=pool.rows["image"]).fill_null(-1).to_numpy()
    vectors = np.zeros((len(images), embedder.dimension), np.float32)
    vectors[known >= 0] = pool.vectors[known[known >= 0]]
    problems = {row: pool.unusable[place] for row, place in enumerate(known.tolist()) if place in pool.unusable}
    others = np.flatnonzero(known < 0)
    found, wrong = embed_images(images.take(pa.array(others)).to_pylist(), root, embedder)
    vectors[others] = found
    problems.update({int(others[row]): text for row, text in wrong.items()})
    return vectors, problems


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
