"""One run at a time in a folder; what a killed one left half written is removed by the next."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import UserError

try:
    import fcntl
except ImportError:  # Windows: two runs in one folder are not noticed there
    fcntl = None

__all__ = ["alone_in"]


@contextlib.contextmanager
def alone_in(output: Path, *, work: Path, what: str) -> Iterator[None]:
    """Hold a folder while it is written.

    Args:
        output: the folder; temporary files of `jsonl.atomic_write` anywhere in it are removed where the run before did
            not end.
        work: a folder in it that no reader looks at, for the lock and for the mark of a run under way.
        what: runs in it, for messages.

    Raises:
        UserError: another run is at work in it, or it cannot be written.
    """
    try:
        work.mkdir(parents=True, exist_ok=True)
        handle = os.open(work / "lock", os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise UserError(f"--output {output}: cannot be written ({error.strerror}); choose another folder") from None
    try:
        if fcntl:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"{output}: another {what} is at work in it; wait for it, or end it") from None
            except OSError:
                pass  # some network file systems have no locks
        running = work / "running"
        if running.exists():
            for folder, _, files in os.walk(output):
                for file in files:
                    if file.startswith(".") and file.endswith(".tmp"):
                        Path(folder, file).unlink(missing_ok=True)
        running.touch()
        yield
        running.unlink(missing_ok=True)
    finally:
        os.close(handle)
