"""The tables of a dataset, for a look before pairs are cut and text is written: `adcopilot data build --until STEP`.

    DIR/datasets/SET.index.parquet    what the reader finds and can use, a row an image (`table`)
    DIR/datasets/SET.select.parquet   of these the images that are compared with another
    DIR/datasets/SET.pool.parquet     and the good ones that they may be compared with, whatever the ratio
    DIR/datasets/SET.pair.parquet     the pairs, with `template`, `similarity` and `crop` (`pairing.PAIR_SCHEMA`)

A build of all steps finds their shards finished.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa

from ..fitness.leaks import KINDS
from ..pairing import PAIR_SCHEMA
from ..steps import read, rows_of
from ..table import SCHEMA, make_metadata, write_table
from .dataset import UNTIL, DatasetBuild

__all__ = ["write_tables"]


def write_tables(datasets: Mapping[str, DatasetBuild], folder: Path, until: str) -> list[str]:
    """Write the tables described above of datasets whose steps are done; lines about them.

    Args:
        datasets: by name.
        folder: of the tables.
        until: the last step, of `dataset.UNTIL`.
    """
    lines, steps = [], UNTIL[: UNTIL.index(until) + 1]
    for name, dataset in datasets.items():
        spec = dataset.spec
        metadata = make_metadata(root=spec.root, dataset=spec.reader, options=spec.model_dump(mode="json"))

        def write(step: str, batches: Iterator[pa.Table], name=name, metadata=metadata, schema=SCHEMA) -> str:
            path = folder / f"{name}.{step}.parquet"
            whole = (batch for table in batches for batch in table.cast(schema).to_batches())
            count = write_table(path, whole, metadata=metadata, schema=schema)
            return f"{path}: {count:,} "

        lines += _about_index(name, dataset, write("index", map(read, dataset.index)))
        if "select" in steps:
            chosen = list(dataset.chosen())
            lines.append(write("select", (read(shard, rows=query) for shard, _, query in chosen)) + "images that stay")
            lines.append(
                write("pool", (read(shard, rows=fit) for shard, fit, _ in chosen)) + "good ones to compare with"
            )
            lines += _suspicious(dataset) + _leaked(dataset, folder / f"{name}.leaks.json")
        if "pair" in steps:
            lines.append(write("pair", map(read, dataset.pairs), schema=PAIR_SCHEMA) + "pairs")
        if any(dataset.dropped()):
            lines.append(f"{folder / name}.dropped.jsonl: what is in none of them, and why")
    return lines


def _about_index(name: str, dataset: DatasetBuild, written: str) -> list[str]:
    """What is in the table, and what was found on the way."""
    splits: Counter = Counter()
    normal: Counter = Counter()
    for rows in rows_of(dataset.index, ["category", "label", "split"]):
        splits.update(rows["split"].to_pylist())
        for category, label in zip(rows["category"].to_pylist(), rows["label"].to_pylist(), strict=True):
            normal[category] += label == "normal"
    counts = ", ".join(f"{split or 'no split'} {count:,}" for split, count in sorted(splits.items()))
    lines = [f"{written}images of {len(normal)} {'category' if len(normal) == 1 else 'categories'} ({counts})"]
    lines += [f"  {what}{f': {count:,}' if count else ''}" for what, count in dataset.source.found.items()]
    lines += [f"  {line}" for line in dataset.counts["masks"]]
    if dataset.source.passed_over:
        files = ", ".join(f"{count:,} {suffix}" for suffix, count in sorted(dataset.source.passed_over.items()))
        lines.append(f"  files that are no images, passed over: {files}")
    bare = [category for category in sorted(normal) if not normal[category]]
    if bare:
        shown = ", ".join(bare[:5]) + (f", … ({len(bare)})" if len(bare) > 5 else "")
        lines.append(f"  no normal image, so nothing to compare with, in: {shown}")
    notes = [problem for problem in dataset.source.problems if not problem.blocking]
    return lines + [f"  {problem.file}: {problem.reason}" for problem in notes[:3]]


def _suspicious(dataset: DatasetBuild) -> list[str]:
    """Categories of which the filter takes much: they may be meant to look so."""
    totals: Counter = Counter()
    for rows in rows_of(dataset.index, ["category"]):
        totals.update(rows["category"].to_pylist())
    dropped = [one for one in dataset.dropped() if one["step"] == "filter"]
    lost = Counter(
        (one["category"], one["reason"]) for one in dropped if one["reason"] in ("dark", "bright", "blurred")
    )
    return [
        f"  look at {category}: {count} of its {totals[category]} images count as {reason}; if they are meant to look "
        f"so, give datasets.{dataset.spec.name}.filter another limit, or allow: [{reason}]"
        for (category, reason), count in lost.most_common()
        if 4 * count > totals[category]
    ]


def _leaked(dataset: DatasetBuild, path: Path) -> list[str]:
    if not dataset.leaked:
        return []
    sets = {one.name: Counter() for one in dataset.against}
    leaks = [leak for shard in dataset.leaked for leak in shard.notes["leaks"]]
    for leak in leaks:
        for name, kind in leak["sets"].items():
            sets[name][kind] += 1
    lines = [f"{path}: {len(leaks)} images that are in an evaluation set"]
    return lines + [
        f"  {name}: " + ", ".join(f"{kind} {counts[kind]}" for kind in KINDS) for name, counts in sets.items()
    ]
