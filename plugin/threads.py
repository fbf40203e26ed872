"""Threads that work side by side, each on one core."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import torch
from threadpoolctl import ThreadpoolController

__all__ = ["keep_to_one_core", "workers"]

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
    torch.get_num_threads()  # torch sets a new thread's team at its first call, and must not do it after this
    return _openmp().limit(limits=1)  # OpenMP's setting is the calling thread's own


@cache
def _openmp() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="openmp")
