"""`adcopilot data convert m4-instruct`: conversations about several images.

ROOT/m4_instruct_annotations.json      a list of {sample_id, image, conversations, metadata}, about 1 GB
ROOT/…                                 the images, as unpacked from the archives beside it
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from ...errors import UserError
from ...files import first_there
from .command import add_common_arguments, run_source
from .conversations import LlavaList

NAME = "M4_Instruct"
LICENCE = "M4-Instruct-Data (lmms-lab): mixed, of the data sets it is made of; look them up before redistributing"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to `parser`."""
    add_common_arguments(parser, NAME, root="the folder that holds m4_instruct_annotations.json")
    parser.add_argument("--images", type=Path, help="the folder that its image paths begin in (--root)")
    parser.add_argument("--max-images", type=int, help="leave out items with more images; without it, none")


def opened(args: argparse.Namespace) -> LlavaList:
    """The source that the options name."""
    file = first_there(
        args.root,
        "m4_instruct_annotations.json",
        option="--root",
        what="M4-Instruct-Data as downloaded, archives unpacked",
    )
    if args.max_images is not None and args.max_images < 1:
        raise UserError(f"--max-images {args.max_images}: expected 1 or more")
    return LlavaList(
        name=NAME,
        licence=LICENCE,
        root=args.root,
        file=file,
        images=args.images or args.root,
        media_dir=args.media_dir,
        id_key="sample_id",
        max_images=args.max_images,
    )


run = partial(run_source, opened)
