"""`adcopilot env`: what somebody who is to understand a fault asks first."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform

from .. import __version__
from .installed import source

#: Whose versions decide about what happens.
PACKAGES = (
    *("torch", "torchvision", "transformers", "tokenizers", "safetensors", "huggingface_hub", "llamafactory", "peft"),
    *("trl", "accelerate", "datasets", "deepspeed", "flash-attn", "vllm", "gradio", "numpy", "pillow"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`adcopilot env` has no options."""


def run(args: argparse.Namespace) -> int:
    """Print one line for each thing; neither paths, names nor settings of the user are among them."""
    found = source()
    how = "unknown" if found is None else "editable" if found[1] else "from a folder or wheel"
    print(f"adcopilot {__version__} (installed: {how})")
    print(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores")
    for name in PACKAGES:
        try:
            print(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            print(f"{name} is not installed")
    print(_gpus())
    return 0


def _gpus() -> str:
    try:
        import torch
    except Exception as error:  # a broken torch is what somebody may want to tell
        return f"torch cannot be imported: {type(error).__name__}: {error}"
    if not torch.cuda.is_available():
        return f"no GPU for torch (built for CUDA {torch.version.cuda})"
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return f"CUDA {torch.version.cuda}: {', '.join(names)}"
