"""The one way in which the pipeline makes its shards: here, in several processes, or on Ray, with the same bytes.

    MEASURE = Step("measure", 1, measure)                  # measure(rows, root) -> (table, notes)
    with make_runner(workers=4) as runner:
        for shard in Steps(folder, runner).each(MEASURE, (Job({"rows": one}) for one in index), root=root): …

A step is a function of a shard's inputs alone, importable by name. What it gives becomes a Parquet file that appears
by a rename and carries `key`, a hash of all that it depends on, and `digest`, a hash of its rows and notes. A shard
among the inputs of another step counts there by its digest. So a run that was killed goes on behind the last finished
shard, and what has not changed is not done again.

What runs them is `runners`'. As a shard appears by a rename, half a one is never seen.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from ..cli.saying import say
from ..errors import UserError, one_line
from ..jsonl import atomic_write, content_key
from .runners import HERE, Runner, in_order

__all__ = ["Job", "Shard", "Step", "Steps", "load", "notes_of", "read", "rows_of", "save"]

#: What a step gives: rows, and what it has to say besides them, as JSON values.
Made = tuple[pa.Table, dict[str, Any]]


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


class Step(NamedTuple):
    """A step: its name, its version (raised when the same inputs give other bytes), and the function."""

    name: str
    version: int
    function: Callable[..., Made]


class Job(NamedTuple):
    """A shard to make.

    Attributes:
        inputs: arguments of the step that decide about the result; a shard among them is handed over as its file.
        also: what else decides about it, for the key alone.
        more: arguments that decide about nothing, or that `also` stands for.
        name: of the file; its number by default.
    """

    inputs: Mapping[str, Any]
    also: Any = None
    more: Mapping[str, Any] = {}
    name: str = ""


@dataclass(frozen=True)
class Steps:
    """Makes the shards of a dataset, or of an output.

    Attributes:
        folder: of the finished ones, one below it for each step.
        runner: does the work.
        label: begins the lines of progress; none without it.
    """

    folder: Path
    runner: Runner
    label: str = ""

    def each(
        self, step: Step, jobs: Iterable[Job], *, fits: Callable[[Shard], bool] = lambda shard: True, **where: Any
    ) -> Iterator[Shard]:
        """The shards of a step in the jobs' order; those that are finished already are not made again.

        Args:
            step: makes them, at most two for each worker ahead of the one that is asked for.
            jobs: taken one by one, so they need not be in memory together.
            fits: whether a finished shard may be used (its other files are there).
            where: arguments of all jobs that decide about no result.

        Raises:
            UserError: the step's.
        """
        done = 0
        for shard in in_order(self._started(step, jobs, fits, where), ahead=2 * self.runner.workers):
            done += 1
            if self.label and done % 10 == 0:
                say(f"{self.label}: {step.name}, {done} shards")
            yield shard
        if self.label:
            say(f"{self.label}: {step.name} done, {done} shards")

    def _started(
        self, step: Step, jobs: Iterable[Job], fits: Callable[[Shard], bool], where: Mapping[str, Any]
    ) -> Iterator[Callable[[], Shard]]:
        for number, job in enumerate(jobs):
            path, key = self.folder / step.name / f"{job.name or f'{number:06d}'}.parquet", step_key(step, job)
            found = load(path, key)
            if found is not None and fits(found):
                yield lambda found=found: found
            else:
                inputs = {name: one.path if isinstance(one, Shard) else one for name, one in job.inputs.items()}
                yield self.runner.start(_make, step.function, path, key, {**inputs, **job.more, **where})

    def one(self, step: Step, job: Job, **options: Any) -> Shard:
        """The only shard of a step that looks at all of a dataset, made in this process; options as of `each`."""
        return next(Steps(self.folder, HERE).each(step, [job._replace(name=step.name)], **options))


def step_key(step: Step, job: Job) -> str:
    """A hash of all that a shard depends on."""
    return content_key(step.name, step.version, _counted(job.inputs), _counted(job.also))


def _counted(value: Any) -> Any:
    """A value as JSON, for a key."""
    if isinstance(getattr(value, "digest", None), str):  # a shard, or something that is made of some
        return value.digest
    if dataclasses.is_dataclass(value):
        return [[one.name, _counted(getattr(value, one.name))] for one in dataclasses.fields(value)]
    if hasattr(value, "model_dump"):  # a section of a recipe
        return _counted(value.model_dump())
    if isinstance(value, Mapping):
        return sorted(([_counted(key), _counted(one)] for key, one in value.items()), key=repr)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_counted(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def _make(function: Callable[..., Made], path: Path, key: str, arguments: Mapping[str, Any]) -> Shard:
    table, notes = function(**arguments)
    return save(path, key, table, **notes)


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
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    digest = hashlib.sha256(sink.getvalue())
    digest.update(json.dumps(notes, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    # Kept in their order, so that lines made of them are the same when the shard is found again.
    found = {"key": key, "digest": digest.hexdigest(), "notes": json.dumps(notes, ensure_ascii=False)}
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


def read(shard: Shard | Path, columns: Sequence[str] | None = None, rows: Sequence[int] | None = None) -> pa.Table:
    """The rows of a finished shard: all, or those of the given numbers, in their order.

    Raises:
        UserError: the file is gone or damaged.
    """
    with _opened(shard) as file:
        table = file.read(columns=None if columns is None else list(columns)).replace_schema_metadata(None)
    return table if rows is None else table.take(pa.array(rows, pa.int64()))


def notes_of(path: Path) -> dict[str, Any]:
    """The notes of a finished shard.

    Raises:
        UserError: the file is gone or damaged.
    """
    with _opened(path) as file:
        return json.loads(file.schema_arrow.metadata[b"notes"])


@contextmanager
def _opened(shard: Shard | Path) -> Iterator[pq.ParquetFile]:
    path = shard.path if isinstance(shard, Shard) else shard
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        reason = one_line(error)
        raise UserError(f"{path}: gone or damaged ({reason}); start the build again, which makes it anew") from None


def rows_of(shards: Iterable[Shard], columns: Sequence[str]) -> Iterator[pa.Table]:
    """Some columns of several shards, one after the other."""
    for shard in shards:
        yield read(shard, columns)
