"""The benchmarks, each whole in its folder: what is asked, how it is scored, its table, and the rows published of it.

One line of `adcopilot.cli.COMMANDS`, `eval NAME` with the folder's `command`, makes a benchmark known everywhere.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from adcopilot.cli import COMMANDS

if TYPE_CHECKING:
    from ..benchmark import Benchmark

__all__ = ["FROM_FILES", "NAMES", "benchmark", "shown"]

#: Name → its folder here, in the order in which tables stand.
NAMES = {
    words.removeprefix("eval "): command.module.removeprefix(f"{__name__}.").removesuffix(".command")
    for words, command in COMMANDS.items()
    if command.module.startswith(f"{__name__}.")
}

#: The one whose answers and scores others keep in files of a form of its own.
FROM_FILES = "mmad"


def benchmark(name: str) -> Benchmark:
    """The benchmark of this name; imported when it is asked for."""
    return importlib.import_module(f"{__name__}.{NAMES[name]}.benchmark").BENCHMARK


def shown() -> list[Benchmark]:
    """Those whose runs have a table."""
    return [one for one in map(benchmark, NAMES) if one.columns]
