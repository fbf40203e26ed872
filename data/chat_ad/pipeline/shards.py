"""A finished shard of a build: a Parquet file that knows what it was made from.

A step is a function of a shard's inputs alone. Its file appears by a rename and carries `key`, a hash of all that it
depends on, and `digest`, a hash of its rows; the next step's key is made from the digests before it. So a build that
was killed goes on behind the last finished shard, and what has not changed is not done again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import UserError, one_line
from ...jsonl import atomic_write, content_key

__all__ = ["Shard", "load", "load_notes", "read", "rows_of", "save", "step_key"]


@dataclass(frozen=True, kw_only=True)
class Shard:
    """What is known of a finished shard without reading its rows.

    Attributes:
        path: its file.
        digest: of its rows and notes.
        rows: their number.
        notes: what the step has to say besides rows, as JSON values.
    """

    path: Path
    digest: str
    rows: int
    notes: dict[str, Any] = field(default_factory=dict)


def step_key(step: str, version: int, *inputs: Any) -> str:
    """A hash of all that a shard depends on: JSON values, digests of other shards among them."""
    return content_key(step, version, *inputs)


def save(path: Path, key: str, table: pa.Table, **notes: Any) -> Shard:
    """Write a shard.

    Args:
        path: the file; its folder is made.
        key: as `step_key` made it.
        table: its rows.
        notes: JSON values.

    Raises:
        UserError: it cannot be written.
    """
    table = table.replace_schema_metadata(None).combine_chunks()
    # Kept in their order, so that lines made of them are the same when the shard is found again.
    text = json.dumps(notes, ensure_ascii=False)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    digest = hashlib.sha256(sink.getvalue())
    digest.update(json.dumps(notes, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    found = {"key": key, "digest": digest.hexdigest(), "notes": text}
    described = table.replace_schema_metadata({name: value.encode("utf-8") for name, value in found.items()})
    atomic_write(path, lambda file: pq.write_table(described, file, compression="zstd"))
    return Shard(path=path, digest=found["digest"], rows=table.num_rows, notes=notes)


def load(path: Path, key: str) -> Shard | None:
    """The shard of this key, None where there is none, or another, or a damaged one."""
    try:
        with pq.ParquetFile(path) as file:
            found = {name.decode(): value.decode() for name, value in (file.schema_arrow.metadata or {}).items()}
            rows = file.metadata.num_rows
        if found.get("key") != key:
            return None
        return Shard(path=path, digest=found["digest"], rows=rows, notes=json.loads(found["notes"]))
    except (OSError, KeyError, ValueError, pa.ArrowException):
        return None


def read(shard: Shard | str | os.PathLike, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a finished shard.

    Raises:
        UserError: the file is gone or damaged.
    """
    path = shard.path if isinstance(shard, Shard) else Path(shard)
    try:
        with pq.ParquetFile(path) as file:
            return file.read(columns=None if columns is None else list(columns)).replace_schema_metadata(None)
    except (OSError, pa.ArrowException) as error:
        reason = one_line(error)
        raise UserError(f"{path}: gone or damaged ({reason}); start the build again, which makes it anew") from None


def load_notes(path: Path) -> dict[str, Any]:
    """The notes of a finished shard.

    Raises:
        UserError: the file is gone or damaged.
    """
    try:
        with pq.ParquetFile(path) as file:
            return json.loads(file.schema_arrow.metadata[b"notes"])
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise UserError(f"{path}: gone or damaged ({error}); start the build again, which makes it anew") from None


def rows_of(shards: Sequence[Shard], columns: Sequence[str]) -> Iterator[pa.Table]:
    """Some columns of several shards, one after the other."""
    for shard in shards:
        yield read(shard, columns)
