"""`adcopilot transfer`: a trained comparison encoder in another Qwen2.5-VL, without training (paper, Table VIII)."""

import argparse
from pathlib import Path

from .init_command import find_base, seed_number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, type=Path, metavar="DIR|ID", help="model with the trained encoder")
    parser.add_argument("--base", required=True, help="Qwen2.5-VL checkpoint to put it into: folder, or id on the hub")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder to write; must not exist")
    parser.add_argument("--hub", choices=("huggingface", "modelscope"), default="huggingface")
    parser.add_argument("--revision", help="branch, tag or commit of --base on the hub")
    parser.add_argument(
        "--seed", type=seed_number, default=0, help="of the tokens that the reported fit has not seen (0)"
    )


def run(args: argparse.Namespace) -> int:
    from ..inspect.hub import model_folder
    from ..inspect.loading import check_folder

    args.model = model_folder(args.model)
    check_folder(args.model)  # before the imports and the download
    base = find_base(args.base, hub=args.hub, revision=args.revision)
    from .add_fixture import add_fixture
    from .transfer import REPORT_FILE, transfer

    found = transfer(source=args.model, base=base, output=args.output, seed=args.seed)
    fit = found["alignment"]["held_out"]
    print(f"wrote {args.output}")
    print(
        f"token embeddings of width {found['widths'][0]} as linear images in width {found['widths'][1]}: of "
        f"{found['alignment']['held_out_tokens']:,} tokens that a fit to the others had not seen, "
        f"{100 * fit['explained']:.1f} % of the squared length is explained, cosine {fit['cosine']:.3f}, "
        f"{100 * fit['nearest']:.1f} % land nearest to themselves"
    )
    print(f"vision towers are {100 * found['vision_towers_apart']:.1f} % apart; see {args.output / REPORT_FILE}")
    if lacks := add_fixture(args.output):
        print(lacks)
    return 0
