"""A command that is killed with -9 when so much of its work is there."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["killed"]


def killed(nursery, folder: Path, *words, when: Callable[[], bool]) -> None:
    """Start `adcopilot …` in a folder and kill it as soon as `when()`.

    Raises:
        AssertionError: it ended before that, or never came so far.
    """
    process = nursery.start(*words, cwd=folder, stderr=folder.parent / "killed.err")
    try:
        give_up = time.monotonic() + 120
        while not when():
            assert process.poll() is None, f"ended early: {(folder.parent / 'killed.err').read_text()[-2000:]}"
            assert time.monotonic() < give_up
            time.sleep(0.002)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
