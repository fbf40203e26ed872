"""AD-Copilot's configuration, model and processor; torch and transformers are loaded at first use of a name."""

import importlib

_HOME = {
    "AdCopilotConfig": "configuration",
    "AdCopilotForConditionalGeneration": "modeling",
    "AdCopilotModel": "modeling",
    "AdCopilotProcessor": "processing",
    "COMPARISON_TOKEN": "configuration",
    "ComparisonEncoder": "comparison_encoder",
    "register_auto_classes": "registration",
}

__all__ = list(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    # Whoever takes a class from here saves folders that load without this package.
    importlib.import_module(".registration", __name__).register_auto_classes()
    return value
