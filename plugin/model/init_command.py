"""`adcopilot init`: make an AD-Copilot checkpoint from Qwen2.5-VL."""

import argparse
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import UserError, shortened

TINY_BASE = Path(__file__).parent / "tiny_base"


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A base checkpoint and the encoder options that go with it."""

    base: str
    options: dict = field(default_factory=dict)


PRESETS = {
    # images of 4 x 4 patches: as many comparison tokens as make two steps per patch of the diagonal
    "tiny": Preset(
        base=str(TINY_BASE), options={"num_comparison_tokens": 8, "comparison_position_encoding": "rope2d"}
    ),
    "3b": Preset(base="Qwen/Qwen2.5-VL-3B-Instruct"),
    "7b": Preset(base="Qwen/Qwen2.5-VL-7B-Instruct"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--preset", choices=PRESETS, help="tiny: bundled, no download; 3b, 7b: Qwen2.5-VL-Instruct of that size"
    )
    source.add_argument("--base", help="folder of a Qwen2.5-VL checkpoint, or its id on the hub")
    parser.add_argument("--output", required=True, type=Path, help="folder to write; must not exist")
    parser.add_argument("--hub", choices=("huggingface", "modelscope"), default="huggingface")
    parser.add_argument("--revision", help="branch, tag or commit on the hub")
    parser.add_argument("--seed", type=seed_number, default=0, help="of the comparison encoder's Gaussian weights (0)")
    parser.add_argument("--num-comparison-tokens", type=int, help="comparison tokens of each image (100; tiny: 8)")
    parser.add_argument("--comparison-num-heads", type=int, help="heads of the encoder (the vision tower's)")
    parser.add_argument("--comparison-position-encoding", choices=("none", "rope2d"), help="(none; tiny: rope2d)")
    parser.add_argument("--comparison-position-ids", choices=("scaled", "fixed"), help="(scaled)")
    parser.add_argument(
        "--comparison-of-first",
        action=argparse.BooleanOptionalAction,
        help="comparison tokens of a conversation's first image, which is compared with itself (yes, as the paper)",
    )


def seed_number(text: str) -> int:
    """A seed that torch takes, as argparse's `type`."""
    seed = int(text)
    if not -(1 << 63) <= seed < 1 << 64:
        raise argparse.ArgumentTypeError(f"{shortened(text)} is no number of 64 bits")
    return seed


def find_base(name: str, *, hub: str, revision: str | None) -> Path:
    """A local folder as it is; anything else is downloaded from the hub.

    Raises:
        UserError: neither a folder nor to be had from the hub.
    """
    from ..inspect.hub import download

    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise UserError(f"{name} is not a folder, nor a hub id of the form owner/name: check --base")
    return download(name, option="--base", hub=hub, revision=revision)


def run(args: argparse.Namespace) -> int:
    from ..cards.model import write_base_card
    from ..inspect.hub import model_title
    from .add_fixture import add_fixture
    from .conversion import convert_base

    preset = PRESETS[args.preset] if args.preset else Preset(base=args.base)
    fields = (
        "num_comparison_tokens",
        "comparison_num_heads",
        "comparison_position_encoding",
        "comparison_position_ids",
        "comparison_of_first",
    )
    given = {name: getattr(args, name) for name in fields if getattr(args, name) is not None}
    base = find_base(preset.base, hub=args.hub, revision=args.revision)
    convert_base(base=base, output=args.output, seed=args.seed, **{**preset.options, **given})
    named = "adcopilot's bundled tiny base" if args.preset == "tiny" else preset.base
    write_base_card(args.output, model_title(base) if base == Path(named).expanduser() else named)
    print(f"wrote {args.output}")
    if lacks := add_fixture(args.output):
        print(lacks)
    return 0
