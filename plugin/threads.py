"""Threads that work side by side."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

from .cli.saying import progress

__all__ = ["keep_to_one_core", "side_by_side", "workers"]

T = TypeVar("T")
R = TypeVar("R")

#: Threads at most. Each needs about 120 MB for a map of pixels, 330 MB for one of textures (768×768 compared pixels).
MOST = 4


def workers() -> int:
    """How many threads find a core of their own."""
    return min(MOST, os.cpu_count() or 1)


def keep_to_one_core() -> Any:
    """For the calling thread, until the `with` block ends that this may open; as a pool's `initializer`, for good.

    OpenMP gives each thread that computes a team of its own. Where pieces are small, or the machine is busy, its
    members wait for each other: a tenth to a fifth of a model's time at 512 pixels on two cores, 16 times an anomaly
    map's on two cores that five other processes use. One core also sums in one order, on any machine.
    """
    import torch

    torch.get_num_threads()  # torch sets a new thread's team at its first call, and must not do it after this
    return _openmp().limit(limits=1)  # OpenMP's setting is the calling thread's own


def side_by_side(work: Callable[[T], R], files: Sequence[T], *, desc: str, unit: str) -> list[R]:
    """What `work` makes of each file, in their order, with a bar on a terminal: decoding lets other threads run.

    Warnings are ignored: they are said when a picture is opened for what it is for.

    Args:
        work: raises nothing.
        files: of any kind.
        desc, unit: of the bar.
    """
    hidden = True if len(files) < 2 else None  # None: not where stderr is no terminal
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = pool.map(work, files)
        return list(progress(found, total=len(files), desc=desc, unit=unit, leave=False, hidden=hidden))


@cache
def _openmp() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="openmp")
