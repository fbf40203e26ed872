"""Where the shards of a build are made: in this process, in several, or on Ray. The bytes are the same.

    with make_runner(workers=4) as runner:
        for shard in make_shards(runner, step, jobs): …

A step that raises `UserError` ends the build with that line, wherever it ran. A worker that dies is Ray's to replace:
the task is tried again elsewhere, and as a shard appears by a rename, half a one is never seen.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ...errors import UserError, one_line
from .shards import Shard, load

__all__ = ["Job", "Runner", "make_runner", "make_shards"]

#: How often Ray gives a task to another worker after one has died.
RETRIES = 5


class Job(NamedTuple):
    """A shard to make: its file, its key, and the step's other arguments (which can be pickled)."""

    path: Path
    key: str
    arguments: dict[str, Any]


class Runner(Protocol):
    """Makes shards.

    Attributes:
        workers: how many at once.
    """

    workers: int

    def start(self, step: Callable[..., Shard], job: Job) -> Callable[[], Shard]:
        """Start a job and return a function that waits for its result."""
        ...


def make_shards(
    runner: Runner,
    step: Callable[..., Shard],
    jobs: Iterable[Job],
    *,
    fits: Callable[[Shard], bool] = lambda shard: True,
    progress: Callable[[], None] = lambda: None,
) -> Iterator[Shard]:
    """The shards of a step in the jobs' order; those that are finished already are not made again.

    Args:
        runner: makes them, at most two for each worker ahead of the one that is asked for.
        step: `step(path, key, **arguments)`, importable by name; it writes the shard.
        jobs: taken one by one, so they need not be in memory together.
        fits: whether a finished shard may be used (its other files are there).
        progress: called for each shard.

    Raises:
        UserError: a step's.
    """
    waiting: deque[Callable[[], Shard]] = deque()

    def first() -> Shard:
        shard = waiting.popleft()()
        progress()
        return shard

    for job in jobs:
        found = load(job.path, job.key)
        if found is not None and fits(found):
            waiting.append(lambda found=found: found)
        else:
            waiting.append(runner.start(step, job))
        while len(waiting) > 2 * runner.workers - 1:
            yield first()
    while waiting:
        yield first()


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
        yield _Here()
    else:
        import multiprocessing

        # Not forked: threads of the libraries that are loaded by now would be cut off in the child.
        context = multiprocessing.get_context("spawn")
        others = set(multiprocessing.active_children())
        with ProcessPoolExecutor(workers, mp_context=context, initializer=_follow_parent) as pool:
            try:
                yield _Processes(pool, workers)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                # Nobody will read what they are at, and it does no harm to end them at any moment.
                for worker in set(multiprocessing.active_children()) - others:
                    worker.terminate()
                raise


class _Here:
    workers = 1

    def start(self, step: Callable[..., Shard], job: Job) -> Callable[[], Shard]:
        shard = step(job.path, job.key, **job.arguments)
        return lambda: shard


class _Processes:
    def __init__(self, pool: ProcessPoolExecutor, workers: int) -> None:
        self._pool, self.workers = pool, workers

    def start(self, step: Callable[..., Shard], job: Job) -> Callable[[], Shard]:
        try:
            future = self._pool.submit(_guarded, step, job)
        except BrokenProcessPool:
            raise _died() from None

        def result() -> Shard:
            try:
                return _unwrap(future.result())
            except BrokenProcessPool:
                raise _died() from None

        return result


class _OnRay:
    def __init__(self, ray: Any, workers: int) -> None:
        self._ray, self.workers = ray, workers
        self._run = ray.remote(num_cpus=1, max_retries=RETRIES)(_guarded)

    def start(self, step: Callable[..., Shard], job: Job) -> Callable[[], Shard]:
        reference = self._run.remote(step, job)

        def result() -> Shard:
            try:
                return _unwrap(self._ray.get(reference))
            except self._ray.exceptions.RayError as error:
                reason = one_line(error)
                raise UserError(f"Ray: a task failed ({reason}); start the build again, it goes on") from None

        return result


@contextmanager
def _ray(workers: int) -> Iterator[Runner]:
    import ray

    if ray.is_initialized():  # the caller's own: left as it is
        yield _OnRay(ray, max(1, int(ray.cluster_resources().get("CPU", workers))))
        return
    address = os.environ.get("RAY_ADDRESS")
    local = {"num_cpus": workers, "include_dashboard": False} if not address else {"address": address}
    try:
        ray.init(**local, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # whatever it stumbled on: ports, memory, versions
        reason = one_line(error)
        raise UserError(f"--ray: Ray cannot be started ({reason}); leave --ray out, or see RAY_ADDRESS") from error
    try:
        yield _OnRay(ray, max(1, int(ray.cluster_resources().get("CPU", workers))))
    finally:
        ray.shutdown()


def _guarded(step: Callable[..., Shard], job: Job) -> tuple[Shard | None, str]:
    """A user's mistake as a value: frameworks wrap exceptions in tracebacks of their own."""
    try:
        return step(job.path, job.key, **job.arguments), ""
    except UserError as error:
        return None, str(error)


def _unwrap(result: tuple[Shard | None, str]) -> Shard:
    shard, problem = result
    if shard is None:
        raise UserError(problem)
    return shard


def _died() -> UserError:
    return UserError(
        "a worker process was killed, as happens when memory is short; start the build again with fewer --workers: it "
        "goes on behind the last finished shard"
    )


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
