"""An output of a build that a general source's converter writes (`adcopilot data convert …`)."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
from pathlib import Path
from types import ModuleType
from typing import Any

from ...cli.saying import say
from ...errors import UserError
from ...jsonl import file_digest
from ..recipe.specs import ConvertSpec

__all__ = ["convert_arguments", "convert_output"]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise UserError(message)


def convert_arguments(
    spec: ConvertSpec, *, seed: int, output: Path, media_dir: Path
) -> tuple[ModuleType, argparse.Namespace]:
    """The converter's module and what it is told; nothing is read or written.

    Args:
        spec: which, and how.
        seed: of the draw.
        output: folder of the file.
        media_dir: what its names are relative to.

    Raises:
        UserError: it has no such option, or not such a value.
    """
    module = importlib.import_module(f"adcopilot.chat_ad.general.{spec.command.replace('-', '_')}")
    parser = _Parser(prog=f"adcopilot data convert {spec.command}", add_help=False)
    module.add_arguments(parser)
    known = {text for action in parser._actions for text in action.option_strings}
    words = ["--root", str(spec.root), "--output", str(output), "--seed", str(seed), "--overwrite"]
    words += ["--amount", "all" if spec.amount is None else str(spec.amount)]
    if "--media-dir" in known:
        words += ["--media-dir", str(media_dir)]
    if spec.skip_problems:
        words.append("--skip-problems")
    for key, value in spec.options.items():
        option = f"--{key.replace('_', '-')}"
        if option not in known or option in words:
            raise UserError(
                f"outputs.{spec.name}.options.{key}: `adcopilot data convert {spec.command}` has no such option, or "
                "the recipe has a key for it"
            )
        words += [option] if value is True else [] if value is False else [option, str(value)]
    try:
        args = parser.parse_args(words)
    except UserError as error:
        raise UserError(f"outputs.{spec.name}.options: {error}") from None
    args.at_most = True  # fewer are a line in the summary, as for every output of a build
    return module, args


def convert_output(spec: ConvertSpec, *, seed: int, output: Path, media_dir: Path) -> dict[str, Any]:
    """Run the converter as the command would, and return what the manifest says of it.

    Args:
        spec, seed, output, media_dir: as `convert_arguments`.

    Raises:
        UserError: the converter's.
    """
    module, args = convert_arguments(spec, seed=seed, output=output, media_dir=media_dir)
    path = output / f"{spec.name}.jsonl"
    with contextlib.redirect_stdout(io.StringIO()) as told:  # the build has its own summary
        module.run(args)
    say(told.getvalue().rstrip())
    manifest = json.loads((output / f"{spec.name}.manifest.json").read_text("utf-8"))
    return {
        "convert": spec.command,
        "records": manifest["records"],
        "wanted": spec.amount,
        "available": manifest["usable"],
        "tasks": manifest["tasks"],
        "licence": manifest["licence"],
        "sha256": file_digest(path),
    }
