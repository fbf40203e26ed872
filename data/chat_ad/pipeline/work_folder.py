"""Where a step keeps what it has done, so that a killed run goes on and the end of it has the same bytes.

A step over a table is a function of one shard (at most `BATCH_ROWS` rows) to an Arrow table. Each result is a Parquet
file that appears by a rename; a second run with the same inputs and options finds it and goes on behind it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import UserError
from ...jsonl import atomic_write, content_key

__all__ = ["WorkFolder", "map_ordered"]


class WorkFolder:
    """The finished shards of one step, in a hidden folder beside its output.

    Args:
        output: the file that the step will write in the end; the folder is `.<its name>.work` beside it.
        key: all that the shards depend on (digests of the inputs, options); shards of another key are thrown away.

    Raises:
        UserError: the folder cannot be written to.
    """

    def __init__(self, *, output: Path, key: Any) -> None:
        self.folder = output.parent / f".{output.name}.work"
        wanted = content_key(key).encode()
        stamp = self.folder / "key"
        try:
            same = stamp.read_bytes() == wanted
        except OSError:
            same = False
        if not same:
            self.remove()
            atomic_write(stamp, lambda file: file.write(wanted))

    def path(self, index: int) -> Path:
        """The file of shard `index`."""
        return self.folder / f"{index:06d}.parquet"

    def make(self, index: int, build: Callable[[], pa.Table]) -> pa.Table:
        """The shard's result: read if it is there, else built and kept."""
        path = self.path(index)
        try:
            return pq.read_table(path)
        except FileNotFoundError:
            pass
        except (OSError, pa.ArrowException):  # not ours, or damaged by something: it is made again
            path.unlink(missing_ok=True)
        table = build()
        atomic_write(path, lambda file: pq.write_table(table, file, compression="zstd"))
        return table

    def read(self, index: int, columns: list[str] | None = None) -> pa.Table:
        """A finished shard's columns.

        Raises:
            UserError: it is gone.
        """
        try:
            return pq.read_table(self.path(index), columns=columns)
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"{self.path(index)}: gone or damaged ({error}); run the command again") from None

    def remove(self) -> None:
        """Remove the folder, which holds nothing but this step's own files."""
        try:
            shutil.rmtree(self.folder)
        except (FileNotFoundError, NotADirectoryError):  # the latter is for whoever writes there to say
            pass
        except OSError as error:
            raise UserError(f"{self.folder}: cannot be removed ({error.strerror}); remove it by hand") from None


def map_ordered(function: Callable[[Any], Any], items: list, *, workers: int) -> Iterator[Any]:
    """`map(function, items)` on `workers` threads, in order, with at most `2 * workers` results waiting.

    Decoding images leaves Python's lock, so threads are enough; a pool's own `map` would hold all results at once.
    """
    if workers <= 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(workers) as pool:
        rest = iter(items)
        waiting = [pool.submit(function, item) for item in islice(rest, 2 * workers)]
        while waiting:
            result = waiting.pop(0).result()
            waiting += [pool.submit(function, item) for item in islice(rest, 1)]
            yield result
