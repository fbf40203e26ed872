"""`adcopilot inspect`: compare query images with templates of good parts."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .inspector import Inspector
    from .pairs import Pair, find_pairs
    from .question import Question
    from .result import Result

_HOME = {
    "Inspector": "inspector",
    "Pair": "pairs",
    "Question": "question",
    "Result": "result",
    "find_pairs": "pairs",
}

__all__ = ["Inspector", "Pair", "Question", "Result", "find_pairs"]


def __getattr__(name: str):
    # torch and transformers are loaded at first use, not by `adcopilot --help`.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
