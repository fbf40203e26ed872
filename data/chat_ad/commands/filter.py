"""`adcopilot data filter`: leave out what is unfit for training, then bring each dataset into a ratio.

    OUTPUT.parquet               the rows that stay
    OUTPUT.parquet.drops.jsonl   {"image", "reason", "value", "limit", …} for each of the others
    --pool POOL.parquet          all normal images that are fit, left out by the ratio or not: templates to pair with

Images are measured a shard at a time; a run that is killed goes on with the shards it has.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from ...errors import UserError
from ...jsonl import file_digest, write_jsonl
from ..fitness.duplicates import SameLimits
from ..fitness.fingerprints import VERSION, Fingerprints, measure_table
from ..fitness.leaks import KINDS
from ..fitness.measures import JUDGED_COLUMNS, REASONS, QualityOptions, drop_record, judge
from ..fitness.rebalance import CUTS, parse_ratio, rebalance
from ..pipeline.work_folder import WorkFolder
from ..table import SCHEMA, read_batches, read_metadata, table_root, write_table

__all__ = ["add_arguments", "filter_file", "measured_shards", "run"]

_DEFAULT = QualityOptions()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to `parser`."""
    add = parser.add_argument
    add("table", type=Path, help="table that `adcopilot data index` wrote")
    add("--output", type=Path, required=True, help="table to write; a run that was killed goes on")
    add("--pool", type=Path, help="also write the fit normal images here, whatever the ratio: templates")
    add("--dark-below", type=float, default=_DEFAULT.dark_below, help="drop when nothing is lighter (40 of 255)")
    add("--bright-above", type=float, default=_DEFAULT.bright_above, help="drop when nothing is darker (215 of 255)")
    add("--min-laplacian", type=float, default=_DEFAULT.min_laplacian, help="least variance of the Laplacian (2)")
    add("--min-sharpness", type=float, default=_DEFAULT.min_sharpness, help="least steepness of edges (0.5)")
    add(
        "--relative-sharpness",
        type=float,
        default=_DEFAULT.relative_sharpness,
        help="least steepness of edges, as a share of the median of the image's category and view (0.4)",
    )
    add("--near-duplicates", action="store_true", help="drop the same photograph in another file: re-encoded or "
        "resized; not for a fixed camera's pictures, which all look like that")  # fmt: skip
    add("--same-largest", type=float, default=_DEFAULT.same.largest, help="grey levels in which near duplicates may "
        "differ anywhere (12)")  # fmt: skip
    add("--same-mean", type=float, default=_DEFAULT.same.mean, help="… and on average (2)")
    add("--allow", action="append", default=[], choices=[reason for reason in REASONS if reason != "unreadable"],
        help="drop nothing for this reason; may be given several times")  # fmt: skip
    add("--leaks", type=Path, help="report of `adcopilot data leaks`: drop what it found")
    add("--leak-kinds", default="bytes,pixels,near", help="kinds of leaks to drop (bytes,pixels,near)")
    add("--ratio", help="anomalous to normal images of each dataset, as 1:1; without it, all stay")
    add("--cut", choices=CUTS, default="normal", help="leave out normal images only, or anomalous ones too where a "
        "dataset has too few normal ones (normal)")  # fmt: skip
    add("--seed", type=int, default=0, help="of the choice that the ratio makes (0)")
    add("--workers", type=int, default=os.cpu_count() or 1, help="threads that decode images (all cores)")


def run(args: argparse.Namespace) -> int:
    """Filter, then print what stayed and what did not.

    Raises:
        UserError: an option is out of range, or a file cannot be read or written.
    """
    options = QualityOptions(
        dark_below=args.dark_below,
        bright_above=args.bright_above,
        min_laplacian=args.min_laplacian,
        min_sharpness=args.min_sharpness,
        relative_sharpness=args.relative_sharpness,
        near_duplicates=args.near_duplicates,
        same=SameLimits(largest=args.same_largest, mean=args.same_mean),
        allowed=frozenset(args.allow),
    )
    _check(args)
    result = filter_file(
        table=args.table,
        output=args.output,
        pool=args.pool,
        options=options,
        leaks=args.leaks,
        leak_kinds=args.leak_kinds.split(","),
        ratio=None if args.ratio is None else parse_ratio(args.ratio),
        cut=args.cut,
        seed=args.seed,
        workers=args.workers,
    )
    print(result)
    return 0


def filter_file(
    *,
    table: Path,
    output: Path,
    pool: Path | None = None,
    options: QualityOptions | None = None,
    leaks: Path | None = None,
    leak_kinds: Sequence[str] = KINDS[:3],
    ratio: float | None = None,
    cut: str = "normal",
    seed: int = 0,
    workers: int = 1,
) -> str:
    """Write the files described above and return the summary.

    Args:
        table: to filter.
        output, pool: to write; no pool for None.
        options: limits of quality.
        leaks, leak_kinds: a leak report, and which of `leaks.KINDS` in it to drop.
        ratio, cut, seed: as `rebalance.rebalance`; no rebalancing for None.
        workers: threads that decode.

    Raises:
        UserError: a file cannot be read or written.
    """
    options = options or QualityOptions()
    for written in (output, pool):
        if written is not None and (written.resolve() == table.resolve() or (written is pool and pool == output)):
            raise UserError(f"{written}: named twice, expected different files for the table, --output and --pool")
    root = table_root(table)
    leaked = _leaked(leaks, leak_kinds, table) if leaks else {}
    work = WorkFolder(output=output, key=["filter", file_digest(table), VERSION])
    shards = sum(1 for _ in measured_shards(table, root, work, workers=workers))
    prints = Fingerprints((work.read(index) for index in range(shards)), thumbs_file=work.folder / "thumbs")
    schema = pa.schema([SCHEMA.field(name) for name in JUDGED_COLUMNS])
    rows = pa.Table.from_batches(read_batches(table, columns=JUDGED_COLUMNS), schema=schema)
    drops = judge(rows, prints, options=options)
    for row in range(rows.num_rows) if leaked else ():
        kind = leaked.get(rows["image"][row].as_py())
        if kind is not None and row not in drops:
            found = {name: rows[name][row].as_py() for name in ("image", "category", "label", "source")}
            drops[row] = drop_record(found, reason="leak", value=kind, limit=leaks.name)
    unfit = np.zeros(rows.num_rows, bool)
    unfit[list(drops)] = True
    if ratio is not None:
        drops |= rebalance(rows, ratio=ratio, seed=seed, cut=cut, among=np.flatnonzero(~unfit))
    dropped = np.zeros(rows.num_rows, bool)
    dropped[list(drops)] = True
    asked = {
        **dataclasses.asdict(options),
        "allowed": sorted(options.allowed),
        "leaks": file_digest(leaks) if leaks else None,
        "leak_kinds": sorted(leak_kinds) if leaks else None,
        "ratio": ratio,
        "cut": cut,
        "seed": seed,
    }
    metadata = {**read_metadata(table), "filter": json.dumps(asked, sort_keys=True)}
    write_jsonl(f"{output}.drops.jsonl", (drops[row] for row in sorted(drops)))
    if pool is not None:
        write_table(pool, _rows(table, ~unfit, label="normal"), metadata=metadata)
    write_table(output, _rows(table, ~dropped), metadata=metadata)
    del prints  # its thumbnails are a mapped file in the folder
    work.remove()
    return _summary(rows, drops, dropped, output)


def measured_shards(table: Path, root: Path, work: WorkFolder, *, workers: int) -> Iterator[tuple[pa.Table, pa.Table]]:
    """The shards of a table with their measures (`fingerprints.MEASURES`), as they are made or found finished."""
    done = 0
    for index, batch in enumerate(read_batches(table)):
        rows = pa.Table.from_batches([batch])
        yield rows, work.make(index, lambda rows=rows: measure_table(rows, root, workers=workers))
        done += rows.num_rows
        print(f"{table.name}: {done} images measured", file=sys.stderr, flush=True)


def _rows(table: Path, keep: np.ndarray, *, label: str | None = None) -> Iterator[pa.RecordBatch]:
    start = 0
    for batch in read_batches(table):
        chosen = keep[start : start + batch.num_rows]
        if label is not None:
            chosen = chosen & np.array([value == label for value in batch.column("label").to_pylist()], bool)
        start += batch.num_rows
        yield batch.filter(pa.array(chosen))


def _leaked(path: Path, kinds: Sequence[str], table: Path) -> dict[str, str]:
    """Image → kind of its most certain leak, of the kinds asked for.

    Raises:
        UserError: no such kind, the file is not a leak report, or it is about another table.
    """
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown:
        raise UserError(f"--leak-kinds: there is no {unknown[0]!r}, expected some of {','.join(KINDS)}")
    try:
        report = json.loads(path.read_text("utf-8"))
        digest, found = report["table_sha256"], report["leaks"]
        best = {leak["image"]: min(leak["sets"].values(), key=KINDS.index) for leak in found}
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check --leaks") from None
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: not a report of `adcopilot data leaks`; write it again") from None
    if digest != file_digest(table):
        raise UserError(f"{path}: is about another table than {table}; run `adcopilot data leaks {table}` again")
    return {image: kind for image, kind in best.items() if kind in kinds}


def _check(args: argparse.Namespace) -> None:
    for name, low, high in (
        ("dark_below", 0, 256),
        ("bright_above", -1, 255),
        ("min_laplacian", 0, 1e9),
        ("min_sharpness", 0, 1e9),
        ("relative_sharpness", 0, 1),
        ("same_largest", 0, 255),
        ("same_mean", 0, 255),
        ("workers", 1, 1024),
    ):
        value = getattr(args, name)
        if not low <= value <= high:
            raise UserError(f"--{name.replace('_', '-')} is {value}, expected {low:g} to {high:g}")


def _summary(rows: pa.Table, drops: dict[int, dict], dropped: np.ndarray, output: Path) -> str:
    lines = [f"{rows.num_rows - len(drops)} of {rows.num_rows} images stay: {output}"]
    reasons = Counter(drop["reason"] for drop in drops.values())
    if reasons:
        lines.append(
            "left out: "
            + ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
            + f"; each one in {output}.drops.jsonl"
        )
    sources, labels = rows["source"].to_pylist(), rows["label"].to_pylist()
    kept = Counter((sources[row], labels[row]) for row in np.flatnonzero(~dropped))
    for source in sorted(set(sources)):
        lines.append(f"{source}: {kept[source, 'anomalous']} anomalous, {kept[source, 'normal']} normal")
    totals = Counter(zip(sources, rows["category"].to_pylist(), strict=True))
    lost = Counter(
        (drop["source"], drop["category"], drop["reason"])
        for drop in drops.values()
        if drop["reason"] in ("dark", "bright", "blurred")
    )
    for (source, category, reason), count in lost.most_common():
        if 4 * count > totals[source, category]:
            lines.append(
                f"look at {source}/{category}: {count} of its {totals[source, category]} images count as {reason}; if "
                f"they are meant to look so, use --allow {reason} or another limit"
            )
    return "\n".join(lines)
