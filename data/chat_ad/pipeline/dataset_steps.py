"""The steps of a dataset, each a function from one shard's inputs to the next shard (`steps`).

    INDEX     a reader's items → rows of the canonical table
    MEASURE   rows → how sharp, light and alike the images are
    SELECT    all of these, and what leaks → which images are fit, and which of them are compared with another
    EMBED     normal rows → vectors
    POOL      all of these → the templates that queries choose from
    PAIR      rows → pairs with a template and a window

(`against.LEAKS` and `cut.CUT` are the others.) They read nothing but what they are given, so they run anywhere that
sees the same files, in any order. SELECT and POOL look at all of a dataset, from a few columns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...jsonl import atomic_write, content_key
from ...masks import MaskOptions
from ..crops import CropOptions, Decoy, choose_crops
from ..dropped import ROW, Dropped
from ..fitness.embedding import Embedder, embed_images, load_embedder, table_to_vectors, vectors_to_table
from ..fitness.fingerprints import Fingerprints, measure_table
from ..fitness.measures import JUDGED_COLUMNS, QualityOptions, judge
from ..fitness.rebalance import rebalance
from ..pairing import POOL_COLUMNS, PairOptions, Pool, pair_shard
from ..readers import ListedImage, Problem, measure
from ..steps import Made, Shard, Step, notes_of, read, rows_of
from ..table import SCHEMA, to_batch

__all__ = ["EMBED", "INDEX", "MEASURE", "PAIR", "POOL", "SELECT", "embedder", "pool_there"]


def index_items(
    items: Sequence[ListedImage], root: str, dataset: str, licence: str, min_area: int, masks: MaskOptions, recipe: str
) -> Made:
    """Rows of the table; `problems` in the notes."""
    more = {"dataset": dataset, "licence": licence, "min_area": min_area, "masks": masks, "recipe": recipe}
    entries, problems = [], []
    for item in items:
        found = measure(item, root=root, **more)
        if isinstance(found, Problem):
            problems.append(asdict(found))
        else:
            entries += found
    return pa.Table.from_batches([to_batch(entries)]), {"problems": problems}


def measure_rows(rows: Path, root: str) -> Made:
    """`fingerprints.MEASURES` of a shard of the table, or of one with the columns `image` and `sha256`."""
    return measure_table(read(rows, ["image", "sha256"]), root), {}


def select(
    index: Sequence[Shard],
    measures: Sequence[Shard],
    leaks: Sequence[Shard],
    limits: QualityOptions | None,
    ratio: float | None,
    cut: str,
    seed: int,
    splits: Sequence[str],
    queries: str,
    thumbs: Path,
) -> Made:
    """A row for each row of the index: `fit` (to be a template), `query` (gets one), `drop` (why not, as JSON).

    Args:
        index, measures, leaks: finished shards; no measures without a filter.
        limits: of quality; no filter for None.
        ratio, cut, seed: as `rebalance.rebalance`.
        splits, queries: which images get a template.
        thumbs: a file for the time being.
    """
    schema = pa.schema([SCHEMA.field(name) for name in (*JUDGED_COLUMNS, "split")])
    rows = pa.concat_tables([schema.empty_table(), *rows_of(index, schema.names)]).combine_chunks()
    drops: dict[int, dict] = {}
    if limits is not None:
        prints = Fingerprints((read(shard) for shard in measures), thumbs_file=thumbs)
        drops = judge(rows, prints, options=limits)
        del prints  # its thumbnails are a mapped file
        thumbs.unlink(missing_ok=True)
    starts = np.cumsum([0, *(shard.rows for shard in index)])
    for start, shard in zip(starts, leaks, strict=False):
        for leak in read(shard).to_pylist():
            row = int(start) + leak["row"]
            found = {name: rows[name][row].as_py() for name in ROW}
            drops.setdefault(row, Dropped.row("filter", found, "leak", leak["kind"], "none", of=leak["of"]).line())
    fit = np.ones(rows.num_rows, bool)
    fit[list(drops)] = False
    query = fit.copy()
    if splits:
        query &= pc.is_in(rows["split"], value_set=pa.array(splits)).to_numpy()
    if queries != "all":
        query &= pc.equal(rows["label"], queries).to_numpy()
    if ratio is not None:
        drops |= rebalance(rows, ratio=ratio, cut=cut, seed=seed, among=np.flatnonzero(query))
    query[list(drops)] = False
    texts = [json.dumps(drops[row], ensure_ascii=False) if row in drops else None for row in range(rows.num_rows)]
    return pa.table({"fit": fit, "query": query, "drop": pa.array(texts, pa.string())}), {}


def embed_rows(rows: Path, chosen: Sequence[int], root: str, options: PairOptions) -> Made:
    """Vectors of some of a shard's rows; row → problem in the notes' `unusable`."""
    images = read(rows, ["image"], chosen)["image"].to_pylist()
    vectors, problems = embed_images(images, root, embedder(options))
    unusable = {str(row): text for row, text in sorted(problems.items())}
    return vectors_to_table(vectors, problems), {"unusable": unusable}


def gather_pool(
    index: Sequence[Shard], normal: Sequence[Sequence[int]], vectors: Sequence[Shard], folder: Path
) -> Made:
    """The pool of templates: its rows, and in a file beside it the vectors of all shards, to be mapped.

    Templates that cannot be opened are `unreadable` in the notes.

    Args:
        index: shards of the table.
        normal: the rows of each that are templates.
        vectors: of `EMBED`, of these rows; none for the method `random`.
        folder: of the file.
    """
    schema = pa.schema([SCHEMA.field(name) for name in POOL_COLUMNS])
    parts = [read(shard, POOL_COLUMNS, rows) for shard, rows in zip(index, normal, strict=True)]
    rows = pa.concat_tables([schema.empty_table(), *parts]).combine_chunks()
    unusable, count = {}, 0
    for shard in vectors:
        unusable.update({str(count + int(row)): text for row, text in shard.notes["unusable"].items()})
        count += shard.rows
    width = 0
    name = content_key([shard.digest for shard in index], normal, [shard.digest for shard in vectors])
    if vectors:
        width = read(vectors[0]).schema.field("vector").type.byte_width // 4

        def write(file) -> None:
            for shard in vectors:
                file.write(table_to_vectors(read(shard))[0].tobytes())

        for old in folder.glob("*.vectors"):
            old.unlink(missing_ok=True)
        atomic_write(folder / f"{name}.vectors", write)
    found = rows.take(pa.array(map(int, unusable), pa.int64())).to_pylist()
    told = [
        Dropped.row("pair", row, "unreadable_template", text).line()
        for row, text in zip(found, unusable.values(), strict=True)
    ]
    return rows, {"unusable": unusable, "width": width, "name": name, "unreadable": told}


def pool_there(pool: Shard) -> bool:
    """Whether the vectors of a finished pool are there, all of them."""
    if not pool.notes["width"] or not pool.rows:
        return True
    try:
        size = pool.path.with_name(f"{pool.notes['name']}.vectors").stat().st_size
    except OSError:
        return False
    return size == 4 * pool.notes["width"] * pool.rows


def pair_rows(
    rows: Path,
    chosen: Sequence[int],
    root: str,
    pool: Path,
    options: PairOptions,
    crops: CropOptions | None,
    decoys: Mapping[tuple[str, str], Sequence[Decoy]],
    seed: int,
) -> Made:
    """Pairs of some of a shard's rows; those left out are `unpaired` in the notes."""
    table, templates = read(rows, rows=chosen), _pool(pool, notes_of(pool)["name"])
    vectors, problems = None, {}
    if options.method == "nearest":
        vectors, problems = _query_vectors(table["image"], templates, root, embedder(options))
    pairs, unpaired = pair_shard(table, vectors, templates, options=options, seed=seed, problems=problems)
    if crops is not None:
        pairs = choose_crops(pairs, options=crops, decoys=decoys, seed=seed)
    return pairs, {"unpaired": unpaired}


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


@lru_cache(maxsize=1)
def _pool(path: Path, name: str) -> Pool:
    """Opened once in a process: a worker makes many shards with one pool, and `name` says that it is the same."""
    rows, notes, vectors = read(path), notes_of(path), None
    if notes["width"]:
        shape = (rows.num_rows, notes["width"])
        file = path.with_name(f"{name}.vectors")
        vectors = np.memmap(file, np.float32, "r", shape=shape) if rows.num_rows else np.zeros(shape)
    return Pool(rows, vectors, unusable={int(row): text for row, text in notes["unusable"].items()})


_load = lru_cache(maxsize=1)(load_embedder)


def embedder(options: PairOptions) -> Embedder:
    """By what images are compared, loaded once in a process.

    Raises:
        UserError: the model cannot be loaded.
    """
    return _load(options.embed, device=options.device, dtype=options.dtype, batch_size=options.batch_size)


INDEX = Step("index", 2, index_items)
MEASURE = Step("measure", 1, measure_rows)
SELECT = Step("select", 2, select)
EMBED = Step("embed", 1, embed_rows)
POOL = Step("pool", 5, gather_pool)
PAIR = Step("pair", 4, pair_rows)
