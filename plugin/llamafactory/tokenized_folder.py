"""What a folder of `tokenized_path` was made with, kept beside it and compared when it is used again.

LlamaFactory loads such a folder whatever the settings say. Samples tokenised for another pixel budget or another model
have another number of image pads than the images that are read now, which shows, if at all, as an error in the middle
of training. The record is written last, so a folder without one is unfinished, or somebody else's.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import UserError, changed_settings
from ..jsonl import write_json

RECORD = "adcopilot.json"

#: Settings of LlamaFactory's that decide what is in the samples.
_DATA = (
    *("cutoff_len", "val_size", "max_samples", "mask_history", "train_on_prompt", "packing", "neat_packing"),
    *("default_system", "tool_format", "enable_thinking", "mix_strategy", "interleave_probs"),
)
#: Those that are left out of a YAML once the folder is there.
_NAMES = ("dataset", "eval_dataset")


def made_with(data_args, *, ours: bool, stage: str, tokenizer, processor) -> dict[str, Any]:
    """What decides about the tokens of a sample, in JSON; `ours`: whether the template is adcopilot's."""
    images = getattr(processor, "image_processor", None)
    vocabulary = json.dumps(sorted(tokenizer.get_vocab().items())).encode()
    made = {
        "template": "adcopilot" if ours else data_args.template,
        "stage": stage,
        "tokenizer": hashlib.sha256(vocabulary).hexdigest()[:16],
        "num_comparison_tokens": getattr(processor, "num_comparison_tokens", None),
        "comparison_of_first": getattr(processor, "comparison_of_first", True),
        "image_max_pixels": getattr(processor, "image_max_pixels", None),
        "image_min_pixels": getattr(processor, "image_min_pixels", None),
        "image_processor": {key: getattr(images, key, None) for key in ("patch_size", "merge_size")}
        | {"size": dict(getattr(images, "size", None) or {})},
        **{key: getattr(data_args, key) for key in (*_DATA, *_NAMES)},
    }
    return json.loads(json.dumps(made, default=str))


def check(folder: str | Path, now: dict[str, Any]) -> None:
    """Compare a folder that holds samples with what they would be made with now.

    Raises:
        UserError: it has no record, or another; each setting that differs is named with both values.
    """
    path = Path(folder, RECORD)
    remedy = "delete the folder to have the samples made again, or name another tokenized_path"
    try:
        # folders from before the setting existed were made as its default makes them
        made = {"comparison_of_first": True, **json.loads(path.read_text("utf-8"))["made_with"]}
        compared = [key for key in now if not (key in _NAMES and now[key] is None)]
        differs = changed_settings({key: made[key] for key in compared}, {key: now[key] for key in compared})
    except FileNotFoundError:
        what = "unfinished, or not made with template adcopilot"
        raise UserError(f"tokenized_path {folder}: {what}; {remedy}") from None
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        raise UserError(f"{path}: cannot be read as the record of this folder; {remedy}") from None
    if differs:
        raise UserError(
            f"tokenized_path {folder}: its samples were made with other settings ({'; '.join(differs)}); {remedy}"
        )


def write(folder: str | Path, made: dict[str, Any]) -> None:
    """Keep what a finished folder was made with.

    Raises:
        UserError: it cannot be written.
    """
    write_json(Path(folder, RECORD), {"made_with": made, "adcopilot": __version__})


def holds_data(folder: str | Path) -> bool:
    """Whether LlamaFactory would load a folder instead of making it."""
    path = Path(folder)
    return path.is_dir() and any(path.iterdir())


def is_ours(folder: str | Path) -> bool:
    """Whether a folder has a record."""
    return Path(folder, RECORD).is_file()
