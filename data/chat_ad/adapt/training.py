"""What the stock commands are given: a recipe, a training file, an export file; and what training will cost.

Steps follow from the data and the minutes by counting, not by the clock: the same folder gives the same run.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from adcopilot.errors import UserError
from adcopilot.inspect.loading import check_folder, pick_device
from adcopilot.jsonl import write_text

from .folder import reader_options

__all__ = [
    "Base",
    "Budget",
    "besides",
    "budget",
    "method",
    "open_base",
    "write_export",
    "write_recipe",
    "write_training",
]

#: Weights from which on an adapter is trained instead of the whole model.
ADAPTER_FROM = 200_000_000
#: Pixels of a training image, for a model of a few million weights and for larger ones.
SMALL_PIXELS, LARGE_PIXELS = 224 * 224, 512 * 512
#: Samples of a step.
SMALL_BATCH, LARGE_BATCH = 16, 8
#: Passes over the pictures that still teach something.
MOST_EPOCHS = 12
#: Templates that a picture is paired with, each pair cut in its own way.
TEMPLATES = 4
#: Arithmetic a second, as training reaches it, and what a sample costs besides: estimates, on the safe side.
CPU_RATE, GPU_RATE, SAMPLE_SECONDS = 1e10, 1.2e14, 0.02
#: What is done besides, on one core: to start one of `COMMANDS` (base or data, training, export, calibration), to read
#: weights by each (bytes a second), to prepare a photograph, to compare one that is held out twice with its templates
#: and put it on the page; and the longest answer.
COMMANDS, START_SECONDS, LOAD_RATE, PHOTO_SECONDS, HELD_SECONDS, ANSWER_TOKENS = 4, 12.0, 3e8, 0.1, 0.5, 100


@dataclass(frozen=True, kw_only=True)
class Base:
    """The model that is trained on.

    Attributes:
        folder: where it is.
        family: `adcopilot` or `qwen2_5_vl`.
        weights: how many, by the size of its files.
        gpu: whether there is one.
    """

    folder: Path
    family: str
    weights: int
    gpu: bool

    @property
    def is_small(self) -> bool:
        """Whether all of it is trained."""
        return self.weights < ADAPTER_FROM

    @property
    def pixels(self) -> int:
        """Of a training image."""
        return SMALL_PIXELS if self.is_small else LARGE_PIXELS


def open_base(folder: Path, *, device: str = "auto", trains: bool = True) -> Base:
    """A model's folder, looked at.

    Args:
        folder: of the model.
        device: as `--device`.
        trains: whether it is to be trained, or to answer as it is.

    Raises:
        UserError: it is none that can be trained here.
    """
    family, files = check_folder(folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    if trains and config.get("quantization_config"):
        raise UserError(f"{folder}: is quantised, which cannot be trained here; give the model it was made from")
    size = 4 if "float32" in str(config.get("torch_dtype") or config.get("dtype")) else 2
    weights = sum(file.stat().st_size for file in files) // size
    return Base(folder=folder, family=family, weights=weights, gpu=pick_device(device).startswith("cuda"))


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long is trained.

    Attributes:
        steps, batch: of training.
        samples: records that there are.
        minutes: that it takes, as counted.
    """

    steps: int
    batch: int
    samples: int
    minutes: float


def besides(base: Base, *, photos: int, held_out: int) -> float:
    """Minutes, as counted, of all that is done before training and after it.

    Args:
        base: that is trained.
        photos: photographs of the folder.
        held_out: how many of them the line is calibrated with.
    """
    rate = GPU_RATE if base.gpu else CPU_RATE
    answer = 2 * base.weights * (_tokens(base) + ANSWER_TOKENS) / rate
    load = 2 * base.weights * (1 if base.gpu else 2) / LOAD_RATE
    seconds = COMMANDS * (START_SECONDS + load) + photos * PHOTO_SECONDS + held_out * (HELD_SECONDS + answer)
    return seconds / 60


def _tokens(base: Base) -> int:
    """Of a sample: two images with their comparison tokens, question and answer."""
    return 2 * base.pixels // 28**2 + 200 + 60


def budget(base: Base, *, samples: int, minutes: float, steps: int | None = None, besides: float = 0.0) -> Budget:
    """Steps for a number of records.

    Args:
        base: that is trained.
        samples: records.
        minutes: for everything.
        steps: as asked for, whatever the minutes.
        besides: minutes of what is no training (`besides`).

    Raises:
        UserError: the minutes do not do for one pass.
    """
    batch = SMALL_BATCH if base.is_small else LARGE_BATCH
    seconds = 6 * base.weights * _tokens(base) / (GPU_RATE if base.gpu else CPU_RATE) + SAMPLE_SECONDS
    if steps is None:
        epoch, left = samples * seconds / 60, minutes - besides
        if epoch > left:
            raise UserError(
                f"--minutes {minutes:g}: one pass over {samples} pairs takes about {max(epoch, 0.1):.1f} minutes with "
                f"{base.folder} ({base.weights / 1e9:.2g} billion weights) on this {'GPU' if base.gpu else 'CPU'}, "
                f"and all else about {besides:.1f}; give --minutes {math.ceil(epoch + besides)}, a smaller --base, or "
                "--no-train"
            )
        steps = max(1, round(min(MOST_EPOCHS, left / epoch) * samples / batch))
    return Budget(steps=steps, batch=batch, samples=samples, minutes=steps * batch * seconds / 60)


def write_recipe(path: Path, *, reader: str, root: Path, held_out: Path, seed: int) -> None:
    """The recipe of the training data: the folder without what is held out."""
    values = {
        "seed": seed,
        "against": [str(held_out)],
        # of a fixed camera all pictures are alike: the held-out ones themselves are left out, not what looks like them
        "leaks": {"drop": ["bytes", "pixels"]},
        "max_left_out": 1.0,  # what is held out is no loss
        "datasets": {
            "parts": {
                "reader": reader,
                "root": str(root),
                "filter": {"allow": ["dark", "bright", "blurred"]},
                "skip_problems": True,
                "pair": {"method": "nearest", "templates": TEMPLATES, "skip_unpaired": True},
                "crop": "0.7:1",
                **({"options": options} if (options := reader_options(reader)) else {}),
            }
        },
        "outputs": {"Verdict": {"datasets": "parts", "tasks": "verdict"}},
    }
    _write(path, values, f"Training data of a line: adcopilot data build {path} --output DIR")


def method(base: Base) -> dict[str, Any]:
    """What trains and in which batches: all of a small model, else an adapter; settings of the training file."""
    if base.is_small:
        return {
            "per_device_train_batch_size": SMALL_BATCH,
            "gradient_accumulation_steps": 1,
            "finetuning_type": "full",
            "freeze_vision_tower": False,
            "freeze_multi_modal_projector": False,
            "learning_rate": 5.0e-4,
            "flash_attn": "disabled",
            "disable_gradient_checkpointing": True,
        }
    return {
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": LARGE_BATCH,
        "finetuning_type": "lora",
        "lora_target": "all",
        "lora_rank": 64,
        "lora_alpha": 128,
        "freeze_vision_tower": True,
        "learning_rate": 1.0e-4,
        **({"additional_target": "comparison_queries"} if base.family == "adcopilot" else {}),
    }


def write_training(path: Path, *, base: Base, data: Path, budget: Budget, output: Path, seed: int) -> None:
    """The training file, to be run again by hand."""
    values: dict[str, Any] = {
        "model_name_or_path": str(base.folder),
        "image_max_pixels": base.pixels,
        "stage": "sft",
        "do_train": True,
        "dataset_dir": str(data),
        "dataset": "Verdict",
        "media_dir": str(data),
        "template": "adcopilot" if base.family == "adcopilot" else "qwen2_vl",
        "cutoff_len": 4096,
        "overwrite_cache": True,
        "output_dir": str(output),
        "overwrite_output_dir": True,
        "logging_steps": 5,
        "save_strategy": "no",
        "report_to": "none",
        "max_steps": budget.steps,
        "lr_scheduler_type": "cosine",
        "warmup_ratio": 0.05,
        "seed": seed,
    }
    values |= method(base)
    if not base.gpu:
        values |= {"use_cpu": True, "preprocessing_num_workers": 1, "dataloader_num_workers": 0}
    else:
        values["bf16"] = True
    head = (
        f"The training of a line: {budget.samples} pairs, {budget.steps} steps of {budget.batch}, about "
        f"{max(budget.minutes, 0.1):.1f} minutes as counted.\nllamafactory-cli train {path}"
    )
    _write(path, values, head)


def write_export(path: Path, *, base: Base, trained: Path, output: Path) -> None:
    """The export file."""
    values: dict[str, Any] = {"template": "adcopilot" if base.family == "adcopilot" else "qwen2_vl"}
    if base.is_small:
        values |= {"model_name_or_path": str(trained), "infer_dtype": "float32"}
    else:
        values |= {"model_name_or_path": str(base.folder), "adapter_name_or_path": str(trained)}
        values |= {"finetuning_type": "lora", "infer_dtype": "bfloat16"}
    values |= {"export_dir": str(output), "export_device": "cpu", "export_size": 5, "export_legacy_format": False}
    _write(path, values, f"The model of a line in one folder: llamafactory-cli export {path}")


def _write(path: Path, values: dict[str, Any], head: str) -> None:
    text = "".join(f"# {line}\n" for line in head.splitlines())
    text += yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    write_text(path, text)
