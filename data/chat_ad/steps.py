"""The one way in which the pipeline makes its shards: here, in several processes, or on Ray, with the same bytes.

    MEASURE = Step("measure", 1, measure)                  # measure(rows, root) -> (table, notes)
    with make_runner(workers=4) as runner:
        for shard in Steps(folder, runner).each(MEASURE, (Job({"rows": one}) for one in index), root=root): …

A step is a function of a shard's inputs alone, importable by name. What it gives becomes a Parquet file that appears
by a rename and carries `key`, a hash of all that it depends on, and `digest`, a hash of its rows and notes. A shard
among the inputs of another step counts there by its digest. So a run that was killed goes on behind the last finished
shard, and what has not changed is not done again.

A step that raises `UserError` ends the run with that line, wherever it ran. A worker that dies is Ray's to replace:
the task is tried again elsewhere, and as a shard appears by a rename, half a one is never seen.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from ..cli.saying import say
from ..errors import UserError, one_line
from ..jsonl import atomic_write, content_key

__all__ = ["Job", "Runner", "Shard", "Step", "Steps", "load", "make_runner", "notes_of", "read", "rows_of", "save"]

#: How often Ray gives a task to another worker after one has died.
RETRIES = 5

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


class Runner(NamedTuple):
    """Where functions run: how many at once, and `start(function, *arguments)`, which gives a function that waits."""

    workers: int
    start: Callable[..., Callable[[], Any]]


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
        waiting: deque[Callable[[], Shard]] = deque()
        done = 0

        def first() -> Shard:
            nonlocal done
            shard = waiting.popleft()()
            done += 1
            if self.label and done % 10 == 0:
                say(f"{self.label}: {step.name}, {done} shards")
            return shard

        for number, job in enumerate(jobs):
            path, key = self.folder / step.name / f"{job.name or f'{number:06d}'}.parquet", step_key(step, job)
            found = load(path, key)
            if found is not None and fits(found):
                waiting.append(lambda found=found: found)
            else:
                inputs = {name: one.path if isinstance(one, Shard) else one for name, one in job.inputs.items()}
                waiting.append(self.runner.start(_make, step.function, path, key, {**inputs, **job.more, **where}))
            while len(waiting) > 2 * self.runner.workers - 1:
                yield first()
        while waiting:
            yield first()
        if self.label:
            say(f"{self.label}: {step.name} done, {done} shards")

    def one(self, step: Step, job: Job, **options: Any) -> Shard:
        """The only shard of a step that looks at all of a dataset, made in this process; options as of `each`."""
        return next(Steps(self.folder, _HERE).each(step, [job._replace(name=step.name)], **options))


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


def read(shard: Shard | Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a finished shard.

    Raises:
        UserError: the file is gone or damaged.
    """
    with _opened(shard) as file:
        return file.read(columns=None if columns is None else list(columns)).replace_schema_metadata(None)


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


@contextmanager
def make_runner(*, workers: int = 1, ray: bool = False) -> Iterator[Runner]:
    """The runner that the options ask for.

    Args:
        workers: processes, or CPUs of a local Ray; with an address in RAY_ADDRESS the cluster decides.
        ray: whether Ray makes the shards.

    Raises:
        UserError: Ray cannot be started.
    """
    if ray:
        with _ray(workers) as runner:
            yield runner
    elif workers == 1:
        yield _HERE
    else:
        with _processes(workers) as runner:
            yield runner


def _here(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    made = function(*arguments)
    return lambda: made


_HERE = Runner(1, _here)


@contextmanager
def _processes(workers: int) -> Iterator[Runner]:
    import multiprocessing

    # Not forked: threads of the libraries that are loaded by now would be cut off in the child.
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_follow_parent) as pool:

        def start(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
            future = _unbroken(pool.submit, _guarded, function, *arguments)
            return lambda: _unwrap(_unbroken(Future.result, future))

        try:
            yield Runner(workers, start)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            # Nobody will read what they are at, and it does no harm to end them at any moment.
            for worker in set(multiprocessing.active_children()) - others:
                worker.terminate()
            raise


def _unbroken(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except BrokenProcessPool:
        raise UserError(
            "a worker process was killed, as happens when memory is short; start the build again with fewer "
            "--workers: it goes on behind the last finished shard"
        ) from None


@contextmanager
def _ray(workers: int) -> Iterator[Runner]:
    import ray

    def runner() -> Runner:
        run = ray.remote(num_cpus=1, max_retries=RETRIES)(_guarded)

        def wait(reference: Any) -> Any:
            try:
                return _unwrap(ray.get(reference))
            except ray.exceptions.RayError as error:
                reason = one_line(error)
                raise UserError(f"Ray: a task failed ({reason}); start the build again, it goes on") from None

        def start(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
            reference = run.remote(function, *arguments)
            return lambda: wait(reference)

        return Runner(max(1, int(ray.cluster_resources().get("CPU", workers))), start)

    if ray.is_initialized():  # the caller's own: left as it is
        yield runner()
        return
    address = os.environ.get("RAY_ADDRESS")
    local = {"num_cpus": workers, "include_dashboard": False} if not address else {"address": address}
    try:
        ray.init(**local, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # whatever it stumbled on: ports, memory, versions
        reason = one_line(error)
        raise UserError(f"--ray: Ray cannot be started ({reason}); leave --ray out, or see RAY_ADDRESS") from error
    try:
        yield runner()
    finally:
        ray.shutdown()


def _guarded(function: Callable[..., Any], *arguments: Any) -> tuple[Any, str | None]:
    """A user's mistake as a value: frameworks wrap exceptions in tracebacks of their own."""
    try:
        return function(*arguments), None
    except UserError as error:
        return None, str(error)


def _unwrap(result: tuple[Any, str | None]) -> Any:
    value, problem = result
    if problem is not None:
        raise UserError(problem)
    return value


def _follow_parent() -> None:
    """End this process when the one that started it is killed, which would leave it waiting for ever."""
    import multiprocessing
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="adcopilot-parent", daemon=True).start()
