"""What the commands `adcopilot data convert NAME` of the general sources have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..recipe.table_one import default_amount
from .source import GeneralSource
from .writing import Request, convert

__all__ = ["AGAIN", "add_box_share", "add_common_arguments", "run_source", "summary"]


#: What helps a file that is damaged or not the published one.
AGAIN = "copy it again"


def add_common_arguments(parser: argparse.ArgumentParser, name: str, *, root: str, images: bool = True) -> None:
    """Add the options that all sources share.

    Args:
        parser: of the command.
        name: the source's, as in Table I.
        root: what `--root` has to be.
        images: whether its records have images.
    """
    add = parser.add_argument
    add("--root", type=Path, required=True, help=root)
    add("--output", type=Path, required=True, help=f"folder for {name}.jsonl and its manifest (data/built)")
    if images:
        add(
            "--media-dir",
            type=Path,
            default=Path("data"),
            help="the YAML's media_dir: records name images relative to it, so they must lie in it (data)",
        )
    add(
        "--amount",
        type=_amount,
        default="table",
        help=f"records to draw, or `all` (Table I's {default_amount(name)}, or all if there are fewer)",
    )
    add("--seed", type=int, default=0, help="of the draw, the order and the wording (0)")
    add(
        "--skip-problems",
        action="store_true",
        help="leave out items whose images are missing or broken; without it they stop the run (both list them)",
    )
    add("--overwrite", action="store_true", help="also replace a result that was made with other options")


def add_box_share(parser: argparse.ArgumentParser) -> None:
    """Add the option of sources whose pairs may have boxes."""
    parser.add_argument("--box-share", type=_share, default=0.5, help="of the pairs with a box, how many ask for it")


def run_source(opened: Callable[[argparse.Namespace], GeneralSource], args: argparse.Namespace) -> int:
    """Convert the source that the options name, and say what came out.

    Raises:
        UserError: as `writing.convert`, or the source's.
    """
    source = opened(args)
    amounts = {"table": default_amount(source.name), "all": None}
    request = Request(
        output=args.output,
        amount=amounts.get(args.amount, args.amount),
        by_default=args.amount == "table" or getattr(args, "at_most", False),  # a recipe's amount is a wish
        seed=args.seed,
        skip_problems=args.skip_problems,
        overwrite=args.overwrite,
    )
    print(summary(convert(source, request), request.output))
    return 0


def summary(manifest: dict[str, Any], output: Path) -> str:
    """What the command prints."""
    name, records, asked = manifest["dataset"], manifest["records"], manifest["amount"]
    lines = [f"{output / name}.jsonl: {records} records of {manifest['items']} items, {manifest['boxes']} boxes"]
    if asked != "all" and records < asked:
        lines.append(f"asked for {asked}: there were only {records} that can be used")
    for kind, reasons in manifest["dropped"].items():
        if reasons:
            told = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
            lines.append(f"left out ({kind}): {told}; listed in {output / name}.dropped.jsonl")
    lines += [f"licence: {manifest['licence']}", f"{output / name}.manifest.json: counts, options, digests"]
    return "\n".join(lines)


def _amount(text: str) -> int | str:
    if text in ("all", "table"):
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}, expected a number or `all`") from None


def _share(text: str) -> float:
    """An argparse type: 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}, expected 0 to 1")
    return value
