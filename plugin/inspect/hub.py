"""A model's folder, by its path or by its id on a hub.

Whatever takes a model's folder takes `owner/name` too. Weights in safetensors and what belongs to them are had, and no
code unless it is to be run.
"""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import UserError, one_line
from ..files import stored_object

__all__ = ["HUBS", "download", "hub_kind", "is_hub_id", "model_folder", "model_title"]

HUBS = ("huggingface", "modelscope")
#: Of a model, and of a line (`inspection.json` and the templates that it names).
_FILES = ("*.json", "*.safetensors", "*.txt", "*.jinja", "templates/*")


def is_hub_id(name: str | Path) -> bool:
    """Whether a name is meant as a hub's `owner/name`: it has that form, and no folder `owner` is here."""
    path = Path(name)
    return bool(re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", str(name))) and not (path.exists() or path.parent.is_dir())


def model_folder(name: str | Path, *, option: str = "--model", code: bool = False) -> Path:
    """The folder of a model: a hub id is downloaded (once), anything else is taken as a path, there or not.

    Args:
        name: path or hub id.
        option: what it was given by, for errors.
        code: whether the model's own code is had as well.

    Raises:
        UserError: the hub has no such model, or cannot be reached.
    """
    if not is_hub_id(name):
        return Path(name)
    return download(str(name), option=option, files=(*_FILES, "*.py") if code else _FILES)


def hub_kind(name: str, *, option: str = "--model") -> str | None:
    """The `model_type` of a model on the hub, of which no more than config.json is had.

    Raises:
        UserError: as `model_folder`.
    """
    return stored_object(download(name, option=option, files=("config.json",)) / "config.json").get("model_type")


def download(
    name: str,
    *,
    option: str,
    hub: str = "huggingface",
    revision: str | None = None,
    files: tuple[str, ...] = _FILES,
) -> Path:
    """The files of a model on a hub, in the hub's own cache.

    Args:
        name: `owner/name`.
        option: what it was given by, for errors.
        hub: one of `HUBS`.
        revision: branch, tag or commit; the newest by default.
        files: patterns of those that are had.

    Raises:
        UserError: as `model_folder`.
    """
    try:
        if hub == "modelscope":
            from modelscope import snapshot_download
        else:
            from huggingface_hub import snapshot_download

        return Path(snapshot_download(name, revision=revision, allow_patterns=list(files)))
    except Exception as error:  # each hub has its own errors; all of them mean that there is no model
        raise UserError(
            f"{option} {name}: no such folder, and not to be had from {hub} ({one_line(error)}); check the name and "
            "the network"
        ) from None


def model_title(folder: Path) -> str:
    """What a model is called: its folder's name after that of the one above (`tiny/merged`: most are called merged),
    or in the hub's cache its id."""
    folder = folder.resolve()
    above = folder.parent
    if above.name == "snapshots" and above.parent.name.startswith("models--"):
        return above.parent.name.removeprefix("models--").replace("--", "/")
    return "/".join(folder.parts[-2:]).lstrip("/")
