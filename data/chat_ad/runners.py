"""Where functions run: in this process, in several, or on Ray; and what they give, in order.

A `UserError` that a function raises is the caller's to see, wherever it ran. A worker that dies is Ray's to replace:
the function is tried again elsewhere, so what it writes must appear by a rename.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from ..errors import UserError, one_line

__all__ = ["HERE", "Runner", "in_order", "make_runner"]

#: How often Ray gives a task to another worker after one has died.
RETRIES = 5

T = TypeVar("T")


def in_order(started: Iterable[Callable[[], T]], *, ahead: int) -> Iterator[T]:
    """What functions that wait for it give, in their order.

    Args:
        started: taking one begins its work, so they are taken only as they are needed.
        ahead: how many are begun before the first is waited for.
    """
    waiting: deque[Callable[[], T]] = deque()
    for wait in started:
        waiting.append(wait)
        if len(waiting) >= ahead:
            yield waiting.popleft()()
    while waiting:
        yield waiting.popleft()()


class Runner(NamedTuple):
    """Where functions run: how many at once, and `start(function, *arguments)`, which gives a function that waits."""

    workers: int
    start: Callable[..., Callable[[], Any]]


def _here(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    made = function(*arguments)
    return lambda: made


HERE = Runner(1, _here)


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
    elif workers <= 1:
        yield HERE
    else:
        with _processes(workers) as runner:
            yield runner


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
            "a worker process was killed, as happens when memory is short; start the command again with fewer "
            "workers: it goes on behind the last finished shard"
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
