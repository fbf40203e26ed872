"""`adcopilot data convert llava-mix`: LLaVA-1.5's instruction mixture, conversations about one image.

    ROOT/llava_v1_5_mix665k.json       a list of {id, image, conversations}
    ROOT/{coco/train2017,gqa/images,ocr_vqa/images,textvqa/train_images,vg/VG_100K,vg/VG_100K_2}/…

Table I counts it as dialogues about images, so its 40k items of text alone stay out unless asked for. So do the
conversations with boxes as shares of the image: AD-Copilot's are pixels, and one model should not learn both.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from ...files import first_there
from .command import add_common_arguments, run_source
from .conversations import LlavaList

NAME = "LLaVA_V1.5_mix665k"
LICENCE = "LLaVA-v1.5 mix665k: CC BY 4.0 text made with GPT-4 (OpenAI's terms); images keep their own data sets' terms"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to `parser`."""
    add_common_arguments(parser, NAME, root="the folder that holds llava_v1_5_mix665k.json")
    parser.add_argument("--images", type=Path, help="the folder of coco, gqa, ocr_vqa, textvqa and vg (--root)")
    parser.add_argument("--text-only", action="store_true", help="also items without an image")
    parser.add_argument("--relative-boxes", action="store_true", help="also conversations with boxes of 0 to 1")


def opened(args: argparse.Namespace) -> LlavaList:
    """The source that the options name."""
    return LlavaList(
        name=NAME,
        licence=LICENCE,
        root=args.root,
        file=first_there(
            args.root, "llava_v1_5_mix665k.json", option="--root", what="LLaVA-Instruct-150K as downloaded"
        ),
        images=args.images or args.root,
        media_dir=args.media_dir,
        id_key="id",
        text_only=args.text_only,
        relative_boxes=args.relative_boxes,
    )


run = partial(run_source, opened)
