"""`adcopilot examples --output DIR`: what stands in a checkout besides the code, for who has installed a wheel.

    DIR/examples/            the YAMLs of training, export, GRPO, chat, serving and data, and DeepSpeed's settings
    DIR/dataset_info.json    what their `dataset` names
    DIR/data/sample/         the sample set that the tiny ones train on
    DIR/constraints/         the versions that were tried together, for pip's -c

The folders are those of a checkout, where the YAMLs' paths start: `cd DIR`, then the lines of examples/README.md.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from ..errors import UserError, writing

#: What is copied, relative to a checkout; in a wheel it is below the package, in the folder `checkout`.
NAMES = ("examples", "dataset_info.json", "data/sample", "constraints")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to copy them into")


def run(args: argparse.Namespace) -> int:
    """Copy the files, none over another.

    Raises:
        UserError: one of them is there already, or cannot be written; nothing was written in the first case.
    """
    source = where()
    files = [file for name in NAMES for file in files_of(source / name)]
    targets = {file: args.output / file.relative_to(source) for file in files}
    there = [target for target in targets.values() if target.exists()]
    if there:
        raise UserError(
            f"{there[0]}: is there already, one of {len(there)} of {len(targets)} files; nothing was copied: give "
            "another --output, or take them away"
        )
    with writing(args.output, "make room, take away what was copied, and run the same command again"):
        for file, target in targets.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    print(f"cd {args.output} && adcopilot init --preset tiny --output saves/tiny/base")
    print("llamafactory-cli train examples/train/tiny/stage0.yaml")
    return 0


def files_of(path: Path) -> list[Path]:
    """The files below a path, sorted; the path itself if it is one."""
    return (
        [path]
        if path.is_file()
        else sorted(file for file in path.rglob("*") if file.is_file() and file.suffix != ".pyc")
    )


def where() -> Path:
    """The folder that `NAMES` are in: of the installed package, else the checkout.

    Raises:
        UserError: they are in neither.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "checkout", package.parent):
        if all((folder / name).exists() for name in NAMES):
            return folder
    raise UserError(f"{package}: this installation lacks {', '.join(NAMES)}; install adcopilot again")
