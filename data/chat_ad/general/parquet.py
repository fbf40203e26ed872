"""Read Parquet files a batch at a time, some columns only, some rows only."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Any

from ...errors import UserError, one_line

__all__ = ["parquet_files", "parquet_rows"]


def parquet_files(root: Path, *, split: str = "train") -> list[Path]:
    """The Parquet files of a split under `root`, sorted: those named `split…`, or all if none is named after a split.

    Raises:
        UserError: there is none.
    """
    if not root.is_dir():
        raise UserError(f"--root {root}: no such folder, expected the one that the data set was downloaded to")
    found = sorted(path for path in root.rglob("*.parquet") if path.is_file() and not path.name.startswith("."))
    other = ("train", "dev", "val", "test")
    named = [path for path in found if path.name.startswith(split)]
    files = named or [path for path in found if not path.name.startswith(other)]
    if not files:
        has = f"only {found[0].name} and the like" if found else "none"
        raise UserError(f"--root {root}: Parquet files of the split {split!r}: {has}, expected {split}-….parquet")
    return files


def parquet_rows(
    files: Sequence[Path], *, columns: Sequence[str], chosen: Container[int] | None = None, batch_size: int = 1024
) -> Iterator[tuple[int, Path, int, dict[str, Any]]]:
    """Yield `(ordinal over all files from 0, file, row in it, values of the columns)`, those in `chosen` only.

    Raises:
        UserError: a file is damaged or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    ordinal = 0
    for path in files:
        try:
            with pq.ParquetFile(path, pre_buffer=False) as file:
                present = file.schema_arrow.names
                missing = [name for name in columns if name not in present]
                if missing:
                    raise UserError(
                        f"{path}: no column {missing[0]!r}, expected {', '.join(columns)}; it has {', '.join(present)}"
                    )
                row = 0
                for batch in file.iter_batches(batch_size=batch_size, columns=list(columns)):
                    wanted = [i for i in range(len(batch)) if chosen is None or ordinal + i in chosen]
                    rows = batch if len(wanted) == len(batch) else batch.take(pa.array(wanted, pa.int64()))
                    for index, values in zip(wanted, rows.to_pylist(), strict=True):
                        yield ordinal + index, path, row + index, values
                    ordinal, row = ordinal + len(batch), row + len(batch)
        except (OSError, pa.ArrowException) as error:
            reason = one_line(error)
            raise UserError(f"{path}: cannot be read as Parquet ({reason}); copy it again") from None
