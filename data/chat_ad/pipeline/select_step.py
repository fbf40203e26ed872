"""Which images of a dataset are fit, and which of them are compared with another: decided over all of its shards."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..fitness.fingerprints import Fingerprints
from ..fitness.measures import JUDGED_COLUMNS, drop_record, judge
from ..fitness.rebalance import rebalance
from ..recipe.specs import DatasetSpec
from ..table import SCHEMA
from .shards import Shard, read, rows_of

__all__ = ["select_rows"]


def select_rows(
    spec: DatasetSpec,
    *,
    seed: int,
    index: Sequence[Shard],
    measures: Sequence[Shard],
    leaks: Sequence[Shard],
    thumbs: Path,
) -> pa.Table:
    """A row for each row of the index: `fit` (to be a template), `query` (gets one), `drop` (why not, as JSON).

    Args:
        spec: limits, ratio, splits.
        seed: of the choice that the ratio makes.
        index, measures, leaks: finished shards; no measures without a filter.
        thumbs: a file for the time being.
    """
    schema = pa.schema([SCHEMA.field(name) for name in (*JUDGED_COLUMNS, "split")])
    rows = pa.concat_tables([schema.empty_table(), *rows_of(index, schema.names)]).combine_chunks()
    drops: dict[int, dict] = {}
    if spec.filter is not None:
        prints = Fingerprints((read(shard) for shard in measures), thumbs_file=thumbs)
        drops = judge(rows, prints, options=spec.filter)
        del prints  # its thumbnails are a mapped file
        thumbs.unlink(missing_ok=True)
    starts = np.cumsum([0, *(shard.rows for shard in index)])
    for start, shard in zip(starts, leaks, strict=False):
        for leak in read(shard).to_pylist():
            row = int(start) + leak["row"]
            found = {name: rows[name][row].as_py() for name in ("image", "category", "label", "source")}
            drops.setdefault(row, drop_record(found, reason="leak", value=leak["kind"], limit="none", of=leak["of"]))
    fit = np.ones(rows.num_rows, bool)
    fit[list(drops)] = False
    wanted = fit.copy()
    if spec.splits:
        wanted &= pc.is_in(rows["split"], value_set=pa.array(spec.splits)).to_numpy()
    if spec.queries != "all":
        wanted &= pc.equal(rows["label"], spec.queries).to_numpy()
    if spec.ratio is not None:
        among = np.flatnonzero(wanted)
        drops |= rebalance(rows, ratio=spec.ratio, cut=spec.cut, seed=seed, among=among)
    query = wanted.copy()
    query[list(drops)] = False
    texts = [json.dumps(drops[row], ensure_ascii=False) if row in drops else None for row in range(rows.num_rows)]
    return pa.table({"fit": fit, "query": query, "drop": pa.array(texts, pa.string())})
