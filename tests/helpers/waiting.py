"""Waiting for what a test needs, on a machine that may have much else to do."""

import time
from collections.abc import Callable


def until(condition: Callable, what: str, *, seconds: float = 300, pause: float = 0.02):
    """The first true value of `condition()`. One that comes true soon takes none of the time.

    Raises:
        AssertionError: it stayed false.
    """
    give_up = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < give_up, f"waited {seconds:.0f} s for {what}"
        time.sleep(pause)
    return found
