"""What commands say on stderr while they work, and how much of it: nothing with `--quiet`, more with `--verbose`.

Notes and progress go through `say` and `progress`. Errors, and what a command was asked for (on stdout, in files), do
not: they are there at every level.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["is_quiet", "is_verbose", "loudness", "progress", "say"]

#: In the environment, where processes that a command starts find it: "quiet", "verbose", or absent.
_VARIABLE = "ADCOPILOT_SAYS"
#: What libraries look at when they are imported, level → variable → value.
_LIBRARIES = {
    "quiet": {
        "TQDM_DISABLE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
    },
    "verbose": {"TRANSFORMERS_VERBOSITY": "info"},
}


def is_quiet() -> bool:
    """Whether `--quiet` was given."""
    return os.environ.get(_VARIABLE) == "quiet"


def is_verbose() -> bool:
    """Whether `--verbose` was given."""
    return os.environ.get(_VARIABLE) == "verbose"


def say(line: str) -> None:
    """A note for whoever waits, one line on stderr, above a bar of progress where there is one."""
    if is_quiet():
        return
    if "tqdm" in sys.modules:
        from tqdm import tqdm

        tqdm.write(line, file=sys.stderr)
    else:
        print(line, file=sys.stderr, flush=True)


def progress(iterable: Iterable | None = None, *, hidden: bool | None = False, **options: Any) -> tqdm:
    """tqdm's bar on stderr.

    Args:
        iterable: as tqdm's.
        hidden: tqdm's `disable`: True for no bar, None for one on a terminal only. With `--quiet` there is none.
        options: tqdm's.
    """
    from tqdm import tqdm

    return tqdm(iterable, file=sys.stderr, disable=True if is_quiet() else hidden, **options)


@contextmanager
def loudness(level: str | None) -> Iterator[None]:
    """Say so much inside: "quiet", "verbose", or None as usual.

    Verbose adds what libraries log, from INFO on, and at the end how long it took.
    """
    wanted = {_VARIABLE: level, **_LIBRARIES[level]} if level else {}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        with _logged() if level == "verbose" else nullcontext():
            yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def _logged() -> Iterator[None]:
    import logging  # not above: `adcopilot --help` needs none

    handler, root, started = logging.StreamHandler(), logging.getLogger(), time.monotonic()
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    threshold = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(threshold)
        say(f"{time.monotonic() - started:.1f} s")
