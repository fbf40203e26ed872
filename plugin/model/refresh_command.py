"""`adcopilot refresh FOLDER`: today's code beside the weights of an older export.

A folder keeps the code that it was exported with, and transformers goes on. Nothing but code, what names it, and
two fields that only transformers 5 reads as older code left them there are changed: weights, tokenizer, processor
settings and the fixture of `adcopilot check` stay as they are, byte for byte, so the fixture then says whether today's
code answers as the old one did. A folder without a fixture gets one.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
from pathlib import Path
from typing import Any

from ..errors import UserError, one_line, shortened
from ..files import read_json
from ..jsonl import atomic_write

#: Where a saved processor names its class: in the first always, in the others an older transformers reads it.
_PROCESSOR_FILES = (
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "tokenizer_config.json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="of an AD-Copilot model")


def run(args: argparse.Namespace) -> int:
    """Refresh a folder, and say of each file what was changed.

    Raises:
        UserError: as `refresh`.
    """
    from .add_fixture import add_fixture
    from .check import FIXTURE

    changes = refresh(args.folder)
    for name, change in changes.items():
        print(f"{args.folder / name}: {change}")
    if not changes:
        print(f"{args.folder}: nothing to change")
    fixture = args.folder / FIXTURE
    if not fixture.exists():
        lacks = add_fixture(args.folder)
        print(lacks or f"{fixture}: added, of what today's code answers; what the old code answered is not known")
    elif changes:
        print(f"`adcopilot check {args.folder} --trust-remote-code` says whether it answers as before")
    return 0


def refresh(folder: Path) -> dict[str, str]:
    """Put today's code into a model folder, each file by one rename; what was changed, by file name, in the order of
    writing. Killed in the middle, it does the rest when it is called again.

    All is read and checked before anything is written.

    Args:
        folder: of an AD-Copilot model, by whatever version of this package.

    Raises:
        UserError: no such folder, no config.json or another model's, files that are not JSON objects, settings that
            today's code does not take, weights by names that it does not find, or a folder that cannot be written to.
    """
    from .folder_code import todays_code

    config = _read_config(folder)
    _check_weight_names(folder, config)
    new = {name: (content, _code_change(folder / name, content)) for name, content in todays_code().items()}
    # the names after the code, so that nothing is ever named that is not there
    for name, (fields, change) in _named(folder, config).items():
        new[name] = (_json(fields), change)
    new = {name: (content, change) for name, (content, change) in new.items() if change}
    if new and not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(
            f"{folder}: cannot be written to, and {len(new)} files in it are to be changed; "
            f"`chmod u+w {folder}`, or refresh a copy of it"
        )
    for name, (content, _) in new.items():
        atomic_write(folder / name, lambda file, content=content: file.write(content))
    return {name: change for name, (_, change) in new.items()}


def _read_config(folder: Path) -> dict[str, Any]:
    """The folder's config.json, once it is known to be of a model that today's code takes."""
    from .configuration import AdCopilotConfig

    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give one that `llamafactory-cli export` or `adcopilot init` wrote")
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(f"{path}: not found, expected the folder of a whole AD-Copilot model; give another folder")
    config = _read(path)
    if config.get("model_type") != AdCopilotConfig.model_type:
        raise UserError(
            f"{path}: model_type is {shortened(repr(config.get('model_type')))}, expected 'adcopilot'; nothing was "
            "changed: give another folder"
        )
    try:
        AdCopilotConfig.from_dict(copy.deepcopy(config))  # transformers 5 rewrites what it is given
    except Exception as error:  # upstream's, by what stands in which field
        raise UserError(
            f"{path}: today's code does not take it ({type(error).__name__}: {one_line(error)}); nothing was changed: "
            "correct that field, or use the adcopilot that wrote the folder"
        ) from error
    return config


def _check_weight_names(folder: Path, config: dict[str, Any]) -> None:
    """Refuse weights by the names of an old Qwen2-VL: under transformers 5.0 to 5.5 this package's first code wrote
    them so and read them again, under others, and by today's code, they are not found.

    Raises:
        UserError: there are such.
    """
    from safetensors import safe_open

    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                old = next((name for name in file.keys() if name.startswith("model.layers.")), None)
        except Exception:  # damaged, which says whoever loads it
            continue
        if old is not None:
            raise UserError(
                f"{path}: has {old}, as older code named it under transformers 5.0 to 5.5 (config.json: "
                f"{shortened(str(config.get('transformers_version')))}), expected model.language_model.{old[6:]}; "
                "nothing was changed: export the model again, or keep the folder's code and that transformers"
            )


def _code_change(path: Path, content: bytes) -> str | None:
    if not path.is_file():
        return "added"
    return None if path.read_bytes() == content else "replaced by today's"


def _named(folder: Path, config: dict[str, Any]) -> dict[str, tuple[dict[str, Any], str | None]]:
    """The JSON files that name the code: what they are to hold, and what is changed in them, None for nothing."""
    from .. import __version__
    from .configuration import AUTO_MAP, TRANSFORMERS_TRIED, rope_as_transformers_4
    from .processing import special_tokens_as_transformers_4

    processor = {"auto_map": {"AutoProcessor": AUTO_MAP["AutoProcessor"]}}
    found = {"config.json": config}
    wanted = {
        "config.json": {
            "auto_map": AUTO_MAP,
            "adcopilot_version": __version__,
            "transformers_tried": list(TRANSFORMERS_TRIED),
        }
    }
    for name in _PROCESSOR_FILES:
        if (folder / name).is_file():
            found[name] = _read(folder / name)
            is_named = name == "processor_config.json" or "auto_map" in found[name]
            wanted[name] = processor if is_named else {}
    changed = {}
    for name, fields in wanted.items():
        other = [field for field, value in fields.items() if found[name].get(field) != value]
        said = [f"{field} was {shortened(json.dumps(found[name].get(field)))}" for field in other]
        new = {**found[name], **fields}
        # what transformers 5 wrote into folders of older code, and transformers 4 does not read
        if name == "config.json" and isinstance(text := new.get("text_config"), dict):
            new["text_config"] = rope_as_transformers_4(text)
            said += ["text_config had rope_parameters"] if new["text_config"] is not text else []
        if name == "tokenizer_config.json":
            written = special_tokens_as_transformers_4(new)
            said += ["extra_special_tokens was a list"] if written is not new else []
            new = written
        changed[name] = (new, f"{', '.join(said)}; now today's" if said else None)
    return changed


def _read(path: Path) -> dict[str, Any]:
    remedy = "nothing was changed: copy or export the model again"
    return read_json(path, check=remedy, again=remedy, kind=dict)


def _json(fields: dict[str, Any]) -> bytes:
    # sorted and escaped, as transformers writes its own
    return (json.dumps(fields, indent=2, sort_keys=True) + "\n").encode()
