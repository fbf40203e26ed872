"""`adcopilot data build RECIPE.yaml --output DIR`: from what is on a disk to the files of a training stage.

`--until index|select|pair` stops at the tables of the datasets (`pipeline.tables`), for a look at them.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from ...damage import share_of
from ...errors import UserError
from ..pipeline.build import build
from ..pipeline.dataset import UNTIL
from ..pipeline.losses import MAX_LEFT_OUT, OPTION, find_losses
from ..readers import READERS
from ..recipe.reading import load_recipe

__all__ = ["add_arguments", "run", "summary"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to `parser`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _options_help()
    add = parser.add_argument
    add("recipe", type=Path, help="YAML file, see examples/data and docs/data.md")
    add("--output", type=Path, help="folder to write; a build that was killed goes on in it")
    add("--workers", type=int, default=1, help="processes that make shards (1)")
    add("--ray", action="store_true", help="make shards on Ray: a local one of --workers CPUs, or that of RAY_ADDRESS")
    add("--skip-missing", action="store_true", help="build what is there when the folders of some datasets are not")
    add("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
        help="replace a value of the recipe, as datasets.mpdd.root=/data/MPDD; may be repeated")  # fmt: skip
    add("--until", choices=UNTIL, help="stop there and write the datasets' tables instead of records: what is found, "
        "what stays of it, what is compared with what; the recipe needs no outputs then")  # fmt: skip
    add("--max-left-out", metavar="SHARE", help="the largest share of a dataset's or an output's images that may be "
        f"lost, in place of the recipe's max_left_out ({MAX_LEFT_OUT}); with more the files are written and the exit "
        "status is 1")  # fmt: skip
    add("--check", action="store_true", help="only check the recipe, which needs no --output")


def run(args: argparse.Namespace) -> int:
    """Build, then say what was lost and what came out; 1 when too much was lost.

    Raises:
        UserError: the recipe is wrong, a dataset has problems, or a file cannot be read or written.
    """
    most = 4 * (os.cpu_count() or 1)
    if not 1 <= args.workers <= most:
        raise UserError(f"--workers is {args.workers}, expected 1 to {most}")
    settings = list(args.settings)
    if args.max_left_out is not None:
        settings.append(f"max_left_out={share_of(args.max_left_out, OPTION)}")
    recipe = load_recipe(args.recipe, settings=settings, tables=args.until is not None)
    if args.check:
        print(f"{args.recipe}: {len(recipe.datasets)} datasets, {len(recipe.outputs) + len(recipe.converts)} outputs")
        return 0
    if args.output is None:
        raise UserError("--output is missing, expected the folder to write; only --check needs none")
    manifest = build(
        recipe, args.output, workers=args.workers, ray=args.ray, skip_missing=args.skip_missing, until=args.until
    )
    print(summary(manifest, recipe.name, args.output))
    return int(any(loss.too_much for loss in find_losses(manifest, recipe.name)))


def summary(manifest: dict[str, Any], name: str, output: Path) -> str:
    """A few lines for a person, what was lost first."""
    lines = [loss.line for loss in find_losses(manifest, name)]
    own, tables = manifest["recipes"][name], manifest.get("tables")
    for dataset, counts in manifest["datasets"].items():
        if dataset in (own["values"].get("datasets") or {}) and f"datasets.{dataset}" not in own["skipped"]:
            more = ""
            pairs = f", {counts['pairs']:,} pairs" if counts["pairs"] or not tables else ""
            for title, key in (("left out", "left_out"), ("noted", "noted")):
                listed = ", ".join(f"{reason} {count}" for reason, count in counts[key].items())
                more += f"; {title}: {listed}" if listed else ""
            lines.append(
                f"{dataset}: {counts['images']:,} images ({counts['normal']:,} normal, {counts['anomalous']:,} "
                f"anomalous){pairs}{more}"
            )
    if tables:
        return "\n".join([*lines, *tables])
    for data_set, found in manifest["outputs"].items():
        if found["recipe"] == name:
            tasks = ", ".join(f"{task} {count:,}" for task, count in found["tasks"].items())
            wanted = found["wanted"]
            short = f" of {wanted:,} wanted" if isinstance(wanted, int) and found["records"] < wanted else ""
            lines.append(f"{output / data_set}.jsonl: {found['records']:,} records{short} ({tasks})")
            lines += [_about_hints(found["hints"])] if "hints" in found else []
    if own["skipped"]:
        lines.append(f"not there, skipped: {', '.join(own['skipped'])}")
    lines.append(f"{output / 'manifest.json'}: recipe, counts, digests; train with dataset_dir: {output}")
    return "\n".join(lines)


def _about_hints(hints: dict[str, Any]) -> str:
    """How many questions have hints, and the threshold that gives the same ones at inference."""
    told = hints["questions"]
    count = told["marked"] + told["no_place"]
    line = f"hints of the map in {count:,} of {count + told['no_hint']:,} questions, {told['marked']:,} with places"
    limits = {category: value for of in hints["thresholds"].values() for category, value in of.items()}
    if len(limits) == 1 and None not in limits.values() and hints["map"] == {"kind": "pixels"}:
        return f"{line}; the same at inference: adcopilot inspect --hints map --map-threshold {limits.popitem()[1]!r}"
    few = sorted(category for category, value in limits.items() if value is None)
    more = f"; too few good pairs for a threshold of {', '.join(few[:3])}{' …' if len(few) > 3 else ''}" if few else ""
    return f"{line}{more}; map and thresholds: manifest.json, outputs.NAME.hints"


def _options_help() -> str:
    datasets: dict[str, list[str]] = {}
    for dataset, reader in READERS.items():
        for name, option in reader.module.OPTIONS.items():
            choices = [choice for choice in option.choices or () if choice]
            values = "|".join(choices) if 0 < len(choices) < 6 else f"{choices[0]}…{choices[-1]}" if choices else "…"
            default = f" ({option.default})" if option.default else ""
            datasets.setdefault(f"  {name}: {values}{default}\n      {option.help}", []).append(dataset)
    lines = [f"{text} [{', '.join(names)}]" for text, names in datasets.items()]
    return "\n".join([f"readers: {', '.join(READERS)}", "their options (datasets.NAME.options):", *lines])
