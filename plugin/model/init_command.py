"""`adcopilot init`: make an AD-Copilot checkpoint from Qwen2.5-VL."""

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path

TINY_BASE = Path(__file__).parent / "tiny_base"

#: Weights up to which the new folder is loaded once for the fixture of `adcopilot check`. Shards of larger ones are
#: copied one at a time, on machines that need not hold them all.
MOST_BYTES_TO_CHECK = 2**30


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
    parser.add_argument("--seed", type=int, default=0, help="of the comparison encoder's Gaussian weights (0)")
    parser.add_argument("--num-comparison-tokens", type=int, help="comparison tokens of each image (100; tiny: 8)")
    parser.add_argument("--comparison-num-heads", type=int, help="heads of the encoder (the vision tower's)")
    parser.add_argument("--comparison-position-encoding", choices=("none", "rope2d"), help="(none; tiny: rope2d)")
    parser.add_argument("--comparison-position-ids", choices=("scaled", "fixed"), help="(scaled)")


def find_base(name: str, *, hub: str, revision: str | None) -> Path:
    """A local folder as it is; anything else is downloaded from the hub.

    Raises:
        UserError: neither a folder nor to be had from the hub.
    """
    from ..errors import UserError

    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise UserError(f"{name} is not a folder, nor a hub id of the form owner/name: check --base")
    patterns = ["*.json", "*.safetensors", "*.txt", "*.jinja"]
    try:
        if hub == "modelscope":
            from modelscope import snapshot_download

            return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except Exception as error:  # each hub has its own errors; all of them mean that there is no base
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{name} could not be had from {hub} ({reason}): check the id and the network") from None


def run(args: argparse.Namespace) -> int:
    from .conversion import convert

    preset = PRESETS[args.preset] if args.preset else Preset(base=args.base)
    fields = (
        "num_comparison_tokens",
        "comparison_num_heads",
        "comparison_position_encoding",
        "comparison_position_ids",
    )
    given = {name: getattr(args, name) for name in fields if getattr(args, name) is not None}
    base = find_base(preset.base, hub=args.hub, revision=args.revision)
    convert(base=base, output=args.output, seed=args.seed, **{**preset.options, **given})
    print(f"wrote {args.output}")
    _add_fixture(args.output)
    return 0


def _add_fixture(folder: Path) -> None:
    """Write the fixture of `adcopilot check` where that is cheap; where it fails, the folder is whole without."""
    from ..errors import one_line
    from ..inspect.loading import load_model
    from .check import make_fixture, stored_dtype, write_fixture

    if sum(file.stat().st_size for file in folder.glob("*.safetensors")) > MOST_BYTES_TO_CHECK:
        return
    try:
        dtype = stored_dtype(json.loads((folder / "config.json").read_text(encoding="utf-8")))
        write_fixture(folder, make_fixture(*load_model(folder, device="cpu", dtype=dtype, attention="sdpa")))
    except Exception as error:  # upstream's: a machine or a version on which the model does not run
        print(f"it has no fixture ({one_line(error)}); `adcopilot check {folder} --write` makes it")
