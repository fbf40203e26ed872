"""`adcopilot inspect`: compare query images with templates of good parts."""

import importlib

_HOME = {
    "Inspector": "inspector",
    "Pair": "pairs",
    "Question": "question",
    "Result": "result",
    "find_pairs": "pairs",
}

__all__ = list(_HOME)


def __getattr__(name: str):
    # torch and transformers are loaded at first use, not by `adcopilot --help`.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
