"""A command that is killed with -9 in the middle."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["killed", "lines"]

#: How often it may be over before the kill: on a busy machine this process may sleep while the other one ends.
ATTEMPTS = 6


def killed(nursery, output: Path, *words, when: Callable[[], bool], over: Callable[[], bool]) -> None:
    """Start `adcopilot …` in the working directory and kill it as soon as `when()`, without `output` before.

    Args:
        nursery: starts it.
        output: file or folder that it writes.
        words: its command line.
        when: whether so much is done that it is to be killed.
        over: whether all is done.

    Raises:
        AssertionError: it was over before each kill, or never came so far.
    """
    for _ in range(ATTEMPTS):
        output.unlink() if output.is_file() else shutil.rmtree(output, ignore_errors=True)
        process = nursery.start(*words)
        give_up = time.monotonic() + 120
        try:
            while process.poll() is None and not _so_far(when):
                assert time.monotonic() < give_up
                time.sleep(0.002)
        finally:
            process.kill()
        process.wait()
        if output.exists() and not over():
            return
    raise AssertionError(f"was over before the kill, {ATTEMPTS} times")


def _so_far(when: Callable[[], bool]) -> bool:
    try:
        return when()
    except OSError:  # what it listed was renamed meanwhile
        return False


def lines(path: Path) -> int:
    """Lines of a log that may not be there yet."""
    return path.read_bytes().count(b"\n") if path.exists() else 0
