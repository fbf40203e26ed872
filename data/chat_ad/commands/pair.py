"""`adcopilot data pair`: a template for each query of a table, and the window that is cut out of both.

    OUTPUT.parquet                  the queries' rows with `template`, `template_sha256`, `similarity` and `crop`
    OUTPUT.parquet.unpaired.jsonl   {"image", "reason", "value", "limit", …} for each query or template left out

Images are embedded a shard at a time; a run that is killed goes on with the shards it has.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...errors import UserError
from ...jsonl import file_digest, write_jsonl
from ..crops import KEEP, CropOptions, Decoy, choose_crops, collect_decoys
from ..fitness.embedding import Embedder, embed_images, load_embedder, table_to_vectors, vectors_to_table
from ..fitness.measures import drop_record
from ..pairing import METHODS, PAIR_SCHEMA, POOL_COLUMNS, PairOptions, Pool, pair_shard, template_key
from ..pipeline.work_folder import WorkFolder
from ..table import SCHEMA, read_batches, read_metadata, table_root, write_table

__all__ = ["QUERIES", "add_arguments", "pair_file", "pair_images", "run"]

#: Raised when the same inputs give other pairs.
VERSION = 2

#: Which images of the table get a template.
QUERIES = ("all", "anomalous", "normal")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to `parser`."""
    add = parser.add_argument
    add("table", type=Path, help="table of queries, from `adcopilot data index` or `adcopilot data filter`")
    add("--output", type=Path, required=True, help="table of pairs to write; a run that was killed goes on")
    add("--pool", type=Path, help="table whose normal images are the templates; the queries' own without it")
    add("--queries", choices=QUERIES, default="all", help="which images get a template (all)")
    add("--method", choices=METHODS, default="nearest", help="the most similar template, or any (nearest)")
    add("--among", type=int, default=1, help="take one of so many nearest templates at random (1)")
    add("--templates", type=int, default=1, help="so many templates for each query, as far as there are (1)")
    add("--least-similarity", type=float, help="leave out queries whose nearest template is less alike (cosine, -1 to "
        "1); without it, none")  # fmt: skip
    add("--embed", help="folder of an AD-Copilot or Qwen2.5-VL model (its vision tower is used), or folder or hub id "
        "of a vision backbone; without it, a descriptor that needs no model")  # fmt: skip
    add("--device", default="auto", help="for --embed: auto, cpu, cuda, cuda:1 (auto)")
    add("--dtype", default="auto", help="for --embed: auto, float32, bfloat16, float16 (auto)")
    add("--batch-size", type=int, help="for --embed: images that are embedded together")
    add("--other-views", action="store_true", help="pair with another view where a view has no normal image")
    add("--skip-unpaired", action="store_true", help="go on where a category has no normal image, instead of stopping")
    add(
        "--crop",
        help="LEAST:MOST share of the sides of the window that is cut out of both, as 0.5:1; without it, none",
    )
    add("--keep", choices=KEEP, default="all", help="a window shows all defects, or at least one (all)")
    add("--margin", type=int, default=8, help="pixels between a defect and the window's edge (8)")
    add("--seed", type=int, default=0, help="of random templates and windows (0)")
    add("--workers", type=int, default=os.cpu_count() or 1, help="threads that decode images (all cores)")


def run(args: argparse.Namespace) -> int:
    """Pair, then print the counts.

    Raises:
        UserError: an option is out of range, a category has no normal image, or a file cannot be read or written.
    """
    for name, low in (("among", 1), ("templates", 1), ("workers", 1), ("margin", 0), ("batch_size", 1)):
        value = getattr(args, name)
        if value is not None and value < low:
            raise UserError(f"--{name.replace('_', '-')} is {value}, expected {low} or more")
    if args.method == "random" and (args.embed or args.among > 1 or args.least_similarity is not None):
        raise UserError(
            "--method random: takes any template, so --embed, --among and --least-similarity have no meaning; leave "
            "them out"
        )
    if args.least_similarity is not None and not -1 <= args.least_similarity <= 1:
        raise UserError(f"--least-similarity is {args.least_similarity}, expected -1 to 1")
    crops = None
    if args.crop is not None:
        least, most = parse_shares(args.crop)
        crops = CropOptions(least=least, most=most, keep=args.keep, margin=args.margin, seed=args.seed)
    embedder = None
    if args.method == "nearest":
        embedder = load_embedder(args.embed, device=args.device, dtype=args.dtype, batch_size=args.batch_size)
    print(
        pair_file(
            table=args.table,
            output=args.output,
            pool=args.pool,
            queries=args.queries,
            options=PairOptions(
                method=args.method,
                among=args.among,
                templates=args.templates,
                least=args.least_similarity,
                other_views=args.other_views,
                seed=args.seed,
            ),
            embedder=embedder,
            crops=crops,
            skip_unpaired=args.skip_unpaired,
            workers=args.workers,
        )
    )
    return 0


def pair_file(
    *,
    table: Path,
    output: Path,
    pool: Path | None = None,
    queries: str = "all",
    options: PairOptions | None = None,
    embedder: Embedder | None = None,
    crops: CropOptions | None = None,
    skip_unpaired: bool = False,
    workers: int = 1,
) -> str:
    """Write the files described above and return the summary.

    Args:
        table: of queries.
        output: to write.
        pool: table of the templates, `table` for None.
        queries: one of `QUERIES`.
        options: how templates are chosen.
        embedder: for the method `nearest`.
        crops: how windows are chosen; whole images for None.
        skip_unpaired: go on where a query's category has no normal image.
        workers: threads that decode.

    Raises:
        UserError: a category has no normal image (without `skip_unpaired`), the pool's root is another, or a file
            cannot be read or written.
    """
    options = options or PairOptions()
    pool = pool or table
    if output.resolve() in (table.resolve(), pool.resolve()):
        raise UserError(f"--output {output}: is the table itself, expected another file")
    root = table_root(table)
    if table_root(pool) != root:
        raise UserError(
            f"--pool {pool}: its images are in {table_root(pool)}, those of {table} in {root}; expected one root, as "
            "references are relative to it"
        )
    pool_rows = _pool_rows(pool)
    missing = _missing(table, Pool(pool_rows), queries, options)
    if missing and not skip_unpaired:
        names = ", ".join(f"{name} ({count} queries)" for name, count in sorted(missing.items())[:5])
        raise UserError(
            f"{pool}: no normal image for {len(missing)} categories or views: {names}"
            f"{' …' if len(missing) > 5 else ''}; give a --pool that has some, --other-views, or --skip-unpaired to "
            "leave these queries out"
        )
    asked = {
        **asdict(options),
        "queries": queries,
        "embedder": embedder.name if embedder else None,
        "crops": asdict(crops) if crops else None,
    }
    inputs = [file_digest(table), file_digest(pool)]
    templates, templates_work = Pool(pool_rows), None
    if options.method == "nearest":
        beside = output.with_name(f"{output.name}.pool")
        templates_work = WorkFolder(output=beside, key=["pool", inputs[1], embedder.name, VERSION])
        vectors, unusable = _pool_vectors(pool_rows["image"], root, embedder, templates_work, workers)
        templates = Pool(pool_rows, vectors, unusable=unusable)
    decoys = {}
    if crops is not None:
        decoys = collect_decoys((pa.Table.from_batches([one]) for one in read_batches(table)), seed=crops.seed)
    work = WorkFolder(output=output, key=["pair", inputs, asked, VERSION])
    left_out = [_unusable_template(pool_rows, row, text) for row, text in sorted(templates.unusable.items())]
    shards = 0
    for index, batch in enumerate(read_batches(table)):
        rows = pa.Table.from_batches([batch])
        if queries != "all":
            rows = rows.filter(pc.equal(rows["label"], queries))

        def build(rows: pa.Table = rows) -> pa.Table:
            pairs, unpaired = pair_images(
                rows,
                root,
                templates,
                options=options,
                embedder=embedder,
                crops=crops,
                decoys=decoys,
                workers=workers,
            )
            return pairs.replace_schema_metadata({"unpaired": json.dumps(unpaired)})

        pairs = work.make(index, build)
        left_out += json.loads(pairs.schema.metadata[b"unpaired"])
        shards += 1
        print(f"{output.name}: {index + 1} shards paired", file=sys.stderr, flush=True)
    write_jsonl(f"{output}.unpaired.jsonl", left_out)
    metadata = {**read_metadata(table), "pair": json.dumps(asked, sort_keys=True)}
    batches = (batch for index in range(shards) for batch in _plain(work.read(index)).to_batches())
    count = write_table(output, batches, metadata=metadata, schema=PAIR_SCHEMA)
    for folder in (work, templates_work):
        if folder is not None:
            folder.remove()
    reasons = Counter(record["reason"] for record in left_out)
    lines = [f"{count} pairs: {output}"]
    if reasons:
        listed = ", ".join(f"{reason} {number}" for reason, number in sorted(reasons.items()))
        lines.append(f"left out: {listed}; each one in {output}.unpaired.jsonl")
    return "\n".join(lines)


def pair_images(
    rows: pa.Table,
    root: str | os.PathLike,
    pool: Pool,
    *,
    options: PairOptions,
    embedder: Embedder | None = None,
    crops: CropOptions | None = None,
    decoys: Mapping[tuple[str, str], Sequence[Decoy]] | None = None,
    workers: int = 1,
) -> tuple[pa.Table, list[dict]]:
    """Embed a shard's queries, pair them and choose their windows: all that this command does with a shard.

    Args:
        rows: the queries, of `table.SCHEMA`.
        root: what references are relative to.
        pool: the templates, with vectors for the method `nearest`.
        options: how templates are chosen.
        embedder: the one that the pool's vectors are from; None for the method `random`.
        crops: how windows are chosen; whole images for None.
        decoys: of the whole table (`crops.collect_decoys`).
        workers: threads that decode.

    Returns:
        As `pairing.pair_shard`, with the column `crop` filled. The bytes depend on the arguments alone.
    """
    vectors, problems = None, {}
    if options.method == "nearest":
        vectors, problems = _query_vectors(rows["image"], pool, root, embedder, workers)
    pairs, unpaired = pair_shard(rows, vectors, pool, options=options, problems=problems)
    if crops is not None:
        pairs = choose_crops(pairs, options=crops, decoys=decoys or {})
    return pairs, unpaired


def _query_vectors(
    images: pa.ChunkedArray, pool: Pool, root: str | os.PathLike, embedder: Embedder, workers: int
) -> tuple[np.ndarray, dict[int, str]]:
    """The vectors of a shard's queries; one that is a template too has its vector already."""
    known = pc.index_in(images, value_set=pool.rows["image"]).fill_null(-1).to_numpy()
    vectors = np.zeros((len(images), embedder.dimension), np.float32)
    vectors[known >= 0] = pool.vectors[known[known >= 0]]
    problems = {row: pool.unusable[place] for row, place in enumerate(known.tolist()) if place in pool.unusable}
    others = np.flatnonzero(known < 0)
    found, wrong = embed_images(images.take(pa.array(others)).to_pylist(), root, embedder, workers=workers)
    vectors[others] = found
    problems.update({int(others[row]): text for row, text in wrong.items()})
    return vectors, problems


def parse_shares(text: str) -> tuple[float, float]:
    """`0.5:1` → (0.5, 1.0).

    Raises:
        UserError: not two shares in order.
    """
    first, mark, second = text.partition(":")
    try:
        least, most = float(first), float(second)
    except ValueError:
        least = most = -1.0
    if not mark or not 0 < least <= most <= 1:
        raise UserError(f"--crop is {text!r}, expected LEAST:MOST with 0 < LEAST <= MOST <= 1, as 0.5:1")
    return least, most


def _plain(pairs: pa.Table) -> pa.Table:
    return pairs.replace_schema_metadata(None).cast(PAIR_SCHEMA)


def _pool_rows(pool: Path) -> pa.Table:
    """The normal rows, as much of them as a pool needs."""
    schema = pa.schema([SCHEMA.field(name) for name in POOL_COLUMNS])
    batches = (
        batch.filter(pc.equal(batch.column("label"), "normal")) for batch in read_batches(pool, columns=POOL_COLUMNS)
    )
    return pa.Table.from_batches(batches, schema=schema).combine_chunks()


def _missing(table: Path, pool: Pool, queries: str, options: PairOptions) -> Counter:
    """Category and view → number of queries that have no template to choose from."""
    missing: Counter = Counter()
    for batch in read_batches(table, columns=["source", "category", "view", "label"]):
        for query in batch.to_pylist():
            if queries in ("all", query["label"]) and not template_key(query, pool, other_views=options.other_views):
                missing["/".join(query[name] for name in ("source", "category", "view") if query[name])] += 1
    return missing


def _pool_vectors(
    images: pa.ChunkedArray, root: Path, embedder: Embedder, work: WorkFolder, workers: int
) -> tuple[np.ndarray, dict[int, str]]:
    """The vectors of all templates, as a mapped file, and row → why a template cannot be used."""
    file, problems, count = work.folder / "vectors", {}, 0
    names = _slices(images)
    with open(file, "wb") as opened:
        for index, shard in enumerate(names):
            made = work.make(
                index, lambda shard=shard: vectors_to_table(*embed_images(shard, root, embedder, workers=workers))
            )
            vectors, found = table_to_vectors(made)
            opened.write(vectors.tobytes())
            problems.update({count + row: text for row, text in found.items()})
            count += len(vectors)
            print(f"{count} of {len(images)} templates embedded", file=sys.stderr, flush=True)
    if not count:
        return np.zeros((0, embedder.dimension), np.float32), problems
    return np.memmap(file, np.float32, "r", shape=(count, embedder.dimension)), problems


def _slices(images: pa.ChunkedArray) -> Iterator[list[str]]:
    for start in range(0, len(images), 1024):
        yield images.slice(start, 1024).to_pylist()


def _unusable_template(rows: pa.Table, row: int, problem: str) -> dict:
    found = {name: rows[name][row].as_py() for name in ("image", "category", "label", "source")}
    return drop_record(found, reason="unreadable_template", value=problem, limit=None)
