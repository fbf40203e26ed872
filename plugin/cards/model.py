"""The card of a model's folder: what it was made from, as far as the folders that it was made from tell.

Training by LlamaFactory leaves a card of its own in each stage's folder (data sets, seed, versions) and beside it the
trainer's state and results; `adcopilot grpo` leaves grpo.json. A card keeps the rows of the cards before it, so that
an export of an export has all stages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import __version__
from ..files import stored_object
from . import UNKNOWN, cell_text, read_card, write_card

__all__ = ["write_base_card", "write_export_card"]

_MARK = "<!-- written by adcopilot; the rows of its table go into the cards of later exports -->"
_HEAD = "| stage | trained | data | steps | seed | mean training loss | versions |"
_RULE = f"|{' --- |' * 7}"
#: A folder that was trained from a folder that was trained …: more of them is a loop.
_MOST_STAGES = 12


def write_base_card(folder: Path, base: str) -> None:
    """The card of a folder that `adcopilot init` made.

    Args:
        folder: of the model.
        base: what it was made from: a hub's id, or words.
    """
    _write(folder, base=base, rows=(), metrics={})


def write_export_card(folder: Path, *, model: str, adapters: Sequence[str]) -> None:
    """The card of an exported folder.

    Args:
        folder: that was written.
        model: `model_name_or_path` of the export.
        adapters: what was merged into it, in order.
    """
    chain: list[Path] = []
    rows: list[str] = []
    base, source = UNKNOWN, Path(model)
    while len(chain) < _MOST_STAGES:
        text, front = read_card(source)
        if _MARK in text:
            base = str(front.get("adcopilot_base", UNKNOWN))
            rows = [line for line in text.splitlines() if line.startswith("| ") and line not in (_HEAD, _RULE)]
            break
        if not (source / "trainer_state.json").is_file():
            break
        chain.append(source)
        if not isinstance(front.get("base_model"), str):
            break
        source = Path(front["base_model"])
    stages = [*reversed(chain), *map(Path, adapters)]
    metrics = {one.name: found for one in stages if (found := _metrics(one))}
    _write(folder, base=base, rows=[*rows, *map(_row, stages)], metrics=metrics)


def _row(stage: Path) -> str:
    text, _ = read_card(stage)
    names = ("all_results.json", "grpo.json", "adapter_config.json")
    results, grpo, adapter = (stored_object(stage / name) for name in names)
    how = f"LoRA, rank {adapter['r']}, alpha {adapter.get('lora_alpha')}" if "r" in adapter else "weights in full"
    if isinstance(adapter.get("modules_to_save"), list):
        how += f"; in full {', '.join(map(str, adapter['modules_to_save']))}"
    settings = grpo["settings"] if isinstance(grpo.get("settings"), dict) else {}
    loss = results.get("train_loss")
    told = (
        stage.name,
        f"GRPO, {how}" if grpo else how,
        settings.get("dataset") or ", ".join(_datasets(text)),
        stored_object(stage / "trainer_state.json").get("global_step"),
        settings.get("seed", _first(r"^- seed: (\d+)$", text)),
        f"{loss:.4g}" if isinstance(loss, (int, float)) else None,
        ", ".join(_versions(text, grpo)),
    )
    return f"| {' | '.join(map(cell_text, told))} |"


def _versions(text: str, grpo: Mapping[str, Any]) -> list[str]:
    if isinstance(grpo.get("versions"), dict):
        return [f"{name} {version}" for name, version in grpo["versions"].items()]
    found = {name: _first(rf"^- {name} (\S+)$", text) for name in ("PEFT", "Transformers", "Pytorch")}
    return [f"{name} {version}" for name, version in found.items() if version]


def _datasets(text: str) -> list[str]:
    """The names in the sentence of transformers' card: `… on the a, the b and the c datasets.`"""
    told = _first(r" on (the .+?) datasets?\.$", text) or ""
    parts = re.split(r", (?=the )| and (?=the )", told)
    return [name for part in parts for name in part.removeprefix("the ").split(", ") if name]


def _first(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text, re.MULTILINE)
    return found[1] if found else None


def _metrics(stage: Path) -> dict[str, float]:
    """What was evaluated while it trained, as far as it is there."""
    found = {}
    for name, value in sorted(stored_object(stage / "all_results.json").items()):
        told = name.startswith(("eval_", "predict_")) and not name.endswith(("_runtime", "_per_second"))
        if told and isinstance(value, (int, float)):
            found[name] = value
    return found


def _write(folder: Path, *, base: str, rows: Sequence[str], metrics: Mapping[str, Mapping[str, float]]) -> None:
    on_hub = re.fullmatch(r"[\w.-]+/[\w.-]+", base)
    front = {
        "library_name": "transformers",
        "pipeline_tag": "image-text-to-text",
        "license": "other",
        **({"base_model": base, "base_model_relation": "finetune"} if on_hub else {}),
        "adcopilot_base": base,
        "tags": ["adcopilot", "industrial-anomaly-detection"],
    }
    lines = [_MARK, "", *_about(folder, base), *_stages(rows), *_measured(metrics), *_limits(folder), *_licence(base)]
    write_card(folder, front, lines)


def _about(folder: Path, base: str) -> list[str]:
    config = stored_object(folder / "config.json")
    tokens = cell_text(config.get("num_comparison_tokens"))
    about = (
        "An AD-Copilot model: Qwen2.5-VL with a Comparison Encoder, which looks at an image together with the one "
        f"before it and adds tokens about their differences (here {tokens}). Given a picture of a good part and one "
        "of the part in question, it says whether the part is anomalous, where, and what is wrong."
    )
    return [
        *(f"# {cell_text(folder.resolve().name)}", "", about, "", "```bash"),
        *("adcopilot inspect --model THIS_FOLDER --template good.png --query test.png --json", "```", ""),
        f"- base: {cell_text(base)}",
        f"- written by adcopilot {__version__}, with transformers {cell_text(config.get('transformers_version'))}",
        "",
    ]


def _stages(rows: Sequence[str]) -> list[str]:
    table = [_HEAD, _RULE, *rows] if rows else ["None that is recorded."]
    return ["## Training", "", *table, ""]


def _measured(metrics: Mapping[str, Mapping[str, float]]) -> list[str]:
    lines = [
        f"- {cell_text(stage)}: {', '.join(f'{name} {value:.4g}' for name, value in found.items())}"
        for stage, found in metrics.items()
    ]
    return [
        "## Measured",
        "",
        *(lines or ["Nothing that was left beside the weights; `adcopilot eval` measures."]),
        "",
    ]


def _limits(folder: Path) -> list[str]:
    sizes = stored_object(folder / "processor_config.json").get("trained_sizes")
    try:
        told = "sides of {} to {}, areas of {} to {} pixels".format(*sizes["sides"], *sizes["pixels"])
    except (KeyError, TypeError, IndexError):
        told = UNKNOWN
    return [
        *("## Limits", ""),
        f"- Sizes of images in training: {told}. No verdict comes about pictures far outside them.",
        "- It compares: the template has to be a good part of the same kind, seen alike.",
        "- A score ranks pictures; a threshold for your parts comes from `adcopilot calibrate`, not from this card.",
        '- What does not stand under "Measured" is not known of this model.',
        "",
    ]


def _licence(base: str) -> list[str]:
    told = (
        f"The weights derive from the base ({cell_text(base)}) and from the data above; their licences apply, and are "
        "not recorded here. The code in this folder is adcopilot's, under Apache-2.0."
    )
    return ["## Licence", "", told]
