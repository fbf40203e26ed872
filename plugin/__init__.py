"""AD-Copilot: a LlamaFactory plugin that lets Qwen2.5-VL compare a query image with a normal template.

    from adcopilot import Inspector
    result = Inspector("saves/tiny/merged").inspect("good.png", "query.png")

Importing this package is cheap: neither torch nor transformers, NumPy or Pillow is loaded until a name or a submodule
needs it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .inspect import Inspector, Result

__version__ = "0.2.0"

_HOME = {"Inspector": "inspect", "Result": "inspect"}

__all__ = ["Inspector", "Result", "__version__"]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
