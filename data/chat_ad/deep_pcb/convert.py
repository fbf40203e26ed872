"""`adcopilot data convert deeppcb`: the public DeepPCB dataset as Chat-AD files for LlamaFactory.

    OUTPUT/dataset_info.json         for `dataset_dir: OUTPUT` (and `media_dir: OUTPUT` if a YAML names one)
    OUTPUT/deeppcb_stage{0,1,2}.jsonl, deeppcb_test.jsonl
    OUTPUT/images/{train,test}/NAME/NN_{template,query}.png
    OUTPUT/pairs.jsonl               what was cut from each source pair; also the record a killed run goes on from
    OUTPUT/recipe.json, report.json  what was asked for; counts, dropped defects, checksums

All stages share the training pairs and ask different things about them. The same recipe gives the same bytes, killed
in between or not.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import shutil
import sys
from pathlib import Path

from ...errors import UserError
from ...jsonl import JsonlLog, atomic_write, file_digest, write_jsonl
from ..cutting import NORMALS, CutRules
from .files import registrations, stage_records, write_cuts
from .source import LISTS, SourcePair, find_root, list_path, read_split
from .summary import make_report, summary

#: Raised when the same arguments no longer give the same bytes.
VERSION = 1

# One merged patch of Qwen2.5-VL is 28 pixels wide.
MIN_SIDE = 28


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to `parser`."""
    add = parser.add_argument
    add("--root", type=Path, required=True, help="the DeepPCB repository, or its PCBData")
    add("--output", type=Path, required=True, help="folder to write; a run that was killed goes on there")
    add("--crop", type=int, help="cut windows of so many original pixels a side; without it, whole images (640)")
    add(
        "--size", type=int, help="resize the longer side of what is cut to so many pixels; without it, original pixels"
    )
    add("--split", choices=[*LISTS, "all"], default="all", help="the authors' split (all)")
    add("--limit", type=int, help="so many source pairs of each split, drawn at random; without it, all")
    add("--normals", choices=NORMALS, default="auto", help="normal queries: windows without defects (clean), defects "
        "overwritten by the template (repair), clean where there is such a window (auto), or none")  # fmt: skip
    add("--normal-ratio", type=float, default=1.0, help="normal pairs for each defective one (1.0)")
    add(
        "--min-visible", type=float, default=0.5, help="share of a defect that a window must show, or none of it (0.5)"
    )
    add("--seed", type=int, default=0, help="of windows, questions and order (0)")


def run(args: argparse.Namespace) -> int:
    """Convert, then print where to go on.

    Raises:
        UserError: an option is out of range, the source is incomplete or wrong, or the output holds something else.
    """
    rules = CutRules(
        crop=args.crop, min_visible=args.min_visible, normals=args.normals, normal_ratio=args.normal_ratio
    )
    report = convert(
        root=args.root,
        output=args.output,
        rules=rules,
        size=args.size,
        splits=list(LISTS) if args.split == "all" else [args.split],
        limit=args.limit,
        seed=args.seed,
    )
    print(summary(report, args.output))
    return 0


def convert(
    *,
    root: Path,
    output: Path,
    rules: CutRules,
    size: int | None = None,
    splits: list[str],
    limit: int | None = None,
    seed: int = 0,
) -> dict:
    """Write the files described above and return the report.

    Args:
        root: the dataset, or the folder that holds its `PCBData`.
        output: folder to write.
        rules: how images are cut.
        size: longer side of the images written in pixels, None for the window's own.
        splits: of `LISTS`.
        limit: source pairs of each split, None for all.
        seed: of all random choices.

    Raises:
        UserError: as `run`. Everything in the source is checked before anything is written.
    """
    _check_options(rules, size, limit)
    root = find_root(root)
    if output.resolve().is_relative_to(root.resolve()):
        raise UserError(f"--output {output}: inside the dataset {root}, expected a folder outside it")
    sources = {split: read_split(root, split) for split in splits}
    _check_sources(sources, rules, root)
    if limit is not None:
        sources = {split: _draw(pairs, limit, f"{seed}:{split}") for split, pairs in sources.items()}
    recipe = {
        "version": VERSION,
        **dataclasses.asdict(rules),
        "size": size,
        "splits": splits,
        "limit": limit,
        "seed": seed,
        "lists": {split: file_digest(list_path(root, split)) for split in splits},
    }
    _claim(output, recipe)
    with JsonlLog(path=output / "pairs.jsonl") as log:
        # Left by a killed run; nobody else is writing, the log is locked.
        for leftover in [*output.glob(".*.tmp"), *output.glob("images/*/*/.*.tmp")]:
            leftover.unlink(missing_ok=True)
        _write_pairs(sources, output, log, rules, size, seed)
        # In the sources' order, whatever order they were written in.
        written = {record["key"]: record for record in log.records()}
    pairs = {split: [written[f"{split}/{pair.name}"] for pair in found] for split, found in sources.items()}
    files = stage_records(pairs, seed=seed)
    for name, records in files.items():
        write_jsonl(output / f"{name}.jsonl", records)
    registrations(output, list(files))
    _copy_licence(root, output)
    report = make_report(output, recipe, pairs, files)
    _write_json(output / "report.json", report)
    return report


def _write_pairs(
    sources: dict[str, list[SourcePair]], output: Path, log: JsonlLog, rules: CutRules, size: int | None, seed: int
) -> None:
    done = {record["key"]: record for record in log.records()}
    total = sum(map(len, sources.values()))
    for number, (split, pair) in enumerate(((s, pair) for s, pairs in sources.items() for pair in pairs), 1):
        key = f"{split}/{pair.name}"
        record = done.get(key)
        if record is None or not _images_there(output, record):
            rng = random.Random(f"{seed}:{key}")
            made = {"key": key, "split": split, **write_cuts(rng, pair, output, f"images/{key}", rules, size)}
            if record is None:
                log.append(made)
            elif made != record:
                raise UserError(
                    f"{log.path}: {key} has changed in the dataset since it was cut; choose another --output or "
                    f"remove {output}"
                )
        if number % 50 == 0 or number == total:
            print(f"{number} of {total} source pairs", file=sys.stderr, flush=True)


def _images_there(output: Path, record: dict) -> bool:
    """Whether each image that a line of `pairs.jsonl` names is a file with something in it."""
    paths = [output / name for cut in record["cuts"] for name in cut["images"]]
    return all(path.is_file() and path.stat().st_size for path in paths)


def _check_options(rules: CutRules, size: int | None, limit: int | None) -> None:
    for name, value, low in (("--crop", rules.crop, MIN_SIDE), ("--size", size, MIN_SIDE), ("--limit", limit, 1)):
        if value is not None and value < low:
            raise UserError(f"{name} is {value}, expected {low} or more")
    if not 0 < rules.min_visible <= 1:
        raise UserError(f"--min-visible is {rules.min_visible}, expected more than 0 and at most 1")
    if not 0 <= rules.normal_ratio <= 100:
        raise UserError(f"--normal-ratio is {rules.normal_ratio}, expected 0 to 100")
    if rules.normals == "clean" and rules.crop is None:
        raise UserError(
            "--normals clean: every whole image of DeepPCB has a defect, so there is none; add --crop, or use repair"
        )


def _check_sources(sources: dict[str, list[SourcePair]], rules: CutRules, root: Path) -> None:
    pairs = [pair for found in sources.values() for pair in found]
    for pair in pairs:
        if rules.crop is not None and rules.crop > min(pair.size):
            raise UserError(
                f"--crop is {rules.crop}, expected at most {min(pair.size)}: {pair.query} has "
                f"{pair.size[0]}×{pair.size[1]} pixels"
            )
    both = {pair.name for pair in sources.get("train", ())} & {pair.name for pair in sources.get("test", ())}
    if both:
        raise UserError(
            f"{root / LISTS['test']}: {min(both)} is in {LISTS['train']} too, expected each pair in one list"
        )


def _draw(pairs: list[SourcePair], limit: int, seed: str) -> list[SourcePair]:
    """`limit` of the pairs in their order; the lists go group by group, so the first ones would be one board."""
    chosen = random.Random(seed).sample(range(len(pairs)), min(limit, len(pairs)))
    return [pairs[index] for index in sorted(chosen)]


def _claim(output: Path, recipe: dict) -> None:
    """Make the folder this recipe's, or refuse one that is another's."""
    path = output / "recipe.json"
    if path.exists():
        try:
            found = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            found = None
        # As JSON gives it back.
        if found != json.loads(json.dumps(recipe)):
            changed = [name for name in recipe if not isinstance(found, dict) or found.get(name) != recipe[name]]
            raise UserError(
                f"{path}: was made with another {', '.join(changed) or 'recipe'}; choose another --output or remove "
                f"{output}"
            )
        return
    if output.exists() and not output.is_dir():
        raise UserError(f"--output {output}: is a file, expected a folder")
    if (output / "pairs.jsonl").exists():
        raise UserError(f"--output {output}: holds a pairs.jsonl without its recipe.json; choose another folder")
    _write_json(path, recipe)


def _copy_licence(root: Path, output: Path) -> None:
    for path in (root / "LICENSE", root.parent / "LICENSE"):
        if path.is_file():
            atomic_write(output / "LICENSE.DeepPCB", lambda file, path=path: shutil.copyfileobj(path.open("rb"), file))
            return


def _write_json(path: Path, value: dict) -> None:
    atomic_write(path, lambda file: file.write((json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()))
