"""Models on this machine that answer: `transformers_backend`, `vllm_backend`. Endpoints: `adcopilot.answering.api`."""

import importlib

_HOME = {
    "TransformersBackend": "transformers_backend",
    "VllmBackend": "vllm_backend",
}

__all__ = list(_HOME)


def __getattr__(name: str):
    # torch, transformers and httpx are loaded at first use, not by `adcopilot --help`.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
