"""The code that lies beside a model's weights: what an export writes there, and the classes made from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import UserError, one_line

__all__ = ["AUTO_FILES", "differing", "own_classes", "todays_code"]

#: Files of this package that hold a class which an auto class finds; what they import relatively goes with them.
AUTO_FILES = ("configuration.py", "modeling.py", "processing.py")


def todays_code() -> dict[str, bytes]:
    """File name -> content of all that an export by this package puts beside the weights, by name."""
    from transformers.dynamic_module_utils import get_relative_import_files  # what `save_pretrained` goes by

    here = Path(__file__).parent
    paths = {here / name for name in AUTO_FILES}
    for name in AUTO_FILES:
        paths |= {Path(path) for path in get_relative_import_files(here / name)}
    return {path.name: path.read_bytes() for path in sorted(paths)}


def differing(folder: Path) -> list[str]:
    """Names of today's code files that a folder lacks or has with another content, by name."""
    return [name for name, content in todays_code().items() if _content(folder / name) != content]


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def own_classes(folder: Path, auto_map: Any) -> tuple[type, type]:
    """Classes of model and processor by the folder's own code, which is run: only for who trusts it.

    Not by the auto classes: where this package is installed, newer transformers take the installed classes there,
    whatever `trust_remote_code` says.

    Args:
        folder: of the model.
        auto_map: of its config.json.

    Raises:
        UserError: auto_map names no such classes, or others than of this folder, or the code does not run.
    """
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    found = []
    for name in ("AutoModelForImageTextToText", "AutoProcessor"):
        path = auto_map.get(name) if isinstance(auto_map, dict) else None
        # "owner/name--module.Class" is the code of another folder, on the hub
        if not isinstance(path, str) or path.count(".") != 1 or not path.replace(".", "").isidentifier():
            raise UserError(f"{folder / 'config.json'}: auto_map has {path!r} for {name}, expected 'module.Class'")
        try:
            found.append(get_class_from_dynamic_module(path, str(folder), local_files_only=True))
        except Exception as error:  # it is somebody's code, and may be broken in any way
            raise UserError(
                f"{folder / (path.split('.')[0] + '.py')}: the class {path.split('.')[1]} cannot be had from it "
                f"({type(error).__name__}: {one_line(error)})"
            ) from error
    return found[0], found[1]
