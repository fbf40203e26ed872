"""`adcopilot data leaks`: which images of a table are also in an evaluation set.

`--against` takes tables, and folders of images: MMAD's own, for one. Of a folder all images count except masks (in
folders named `mask`, `rgb_mask`, `rbg_mask`, `ground_truth`). `adcopilot data filter --leaks` drops what was found.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

from ...errors import UserError
from ...inspect.pairs import find_images
from ...jsonl import atomic_write, file_digest
from ..fitness.duplicates import SameLimits
from ..fitness.fingerprints import VERSION, Fingerprints, measure_table
from ..fitness.leaks import KINDS, LeakOptions, Suspect, leak_report, leaks_shard
from ..pipeline.work_folder import WorkFolder
from ..sources.references import format_reference
from ..table import BATCH_ROWS, table_root
from .filter import measured_shards

__all__ = ["MASK_FOLDERS", "add_arguments", "find_leaks", "folder_rows", "run"]

#: Folders of a benchmark that hold masks, which are no evidence of anything.
MASK_FOLDERS = frozenset({"mask", "masks", "rgb_mask", "rbg_mask", "ground_truth"})

_DEFAULT = LeakOptions()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to `parser`."""
    add = parser.add_argument
    add("table", type=Path, help="table of training images that `adcopilot data index` wrote")
    add("--against", type=Path, nargs="+", required=True, help="tables, or folders of images such as MMAD's")
    add("--output", type=Path, required=True, help="JSON report to write; a run that was killed goes on")
    add("--same-largest", type=float, default=_DEFAULT.same.largest, help="grey levels in which two files of one "
        "photograph may differ anywhere (12)")  # fmt: skip
    add("--same-mean", type=float, default=_DEFAULT.same.mean, help="… and on average (2)")
    add("--similar", type=int, help="also report images whose perceptual hashes differ in at most so many of 64 bits")
    add("--most", type=int, default=_DEFAULT.most, help="matches named for each image (5)")
    add("--skip-problems", action="store_true", help="go on where an image cannot be read, instead of stopping")
    add("--workers", type=int, default=os.cpu_count() or 1, help="threads that decode images (all cores)")


def run(args: argparse.Namespace) -> int:
    """Compare, then print the counts.

    Raises:
        UserError: an option is out of range, or a file cannot be read or written.
    """
    for name, low, high in (("same_largest", 0, 255), ("same_mean", 0, 255), ("most", 1, 10**6), ("workers", 1, 1024)):
        if not low <= getattr(args, name) <= high:
            raise UserError(f"--{name.replace('_', '-')} is {getattr(args, name)}, expected {low} to {high}")
    if args.similar is not None and not 0 <= args.similar <= 64:
        raise UserError(f"--similar is {args.similar}, expected 0 to 64")
    same = SameLimits(largest=args.same_largest, mean=args.same_mean)
    report = find_leaks(
        table=args.table,
        against=args.against,
        output=args.output,
        options=LeakOptions(same=same, similar=args.similar, most=args.most),
        skip_problems=args.skip_problems,
        workers=args.workers,
    )
    print(f"{report['leaking_images']} of {report['images']} images are in an evaluation set: {args.output}")
    for name, kinds in report["by_set"].items():
        print(f"{name}: " + ", ".join(f"{kind} {kinds[kind]}" for kind in KINDS))
    return 0


def find_leaks(
    *,
    table: Path,
    against: list[Path],
    output: Path,
    options: LeakOptions | None = None,
    skip_problems: bool = False,
    workers: int = 1,
) -> dict:
    """Write the report and return it.

    Args:
        table: of training images.
        against: tables or folders of the evaluation sets.
        output: JSON file to write (`leaks.leak_report`, with `table_sha256` and `unreadable`).
        options: what counts as a leak.
        skip_problems: go on where an image cannot be read; the report counts them.
        workers: threads that decode.

    Raises:
        UserError: a table or folder cannot be read, an image cannot (without `skip_problems`), or the report cannot be
            written.
    """
    options = options or LeakOptions()
    root = table_root(table)
    names = [path.name for path in against]
    names = [str(path) if names.count(path.name) > 1 else path.name for path in against]
    suspects, described, unreadable, folders = [], [], [], []
    for position, (name, path) in enumerate(zip(names, against, strict=True)):
        suspect, passed_over, work = _suspect(
            name, path, output.with_name(f"{output.name}.against{position}"), workers
        )
        folders.append(work)
        problems = [suspect.prints.problems[row] for row in sorted(suspect.prints.problems)]
        _stop(problems, len(suspect.images), path, skip_problems)
        unreadable += [{"set": name, "problem": problem} for problem in problems]
        suspects.append(suspect)
        described.append({"name": name, "images": len(suspect.images), "mask_images_passed_over": passed_over})
    digest = file_digest(table)
    work = WorkFolder(output=output, key=["leaks", digest, VERSION])
    leaks, images = [], 0
    for rows, measures in measured_shards(table, root, work, workers=workers):
        leaks += leaks_shard(rows, measures, suspects, options=options)
        problems = [problem for problem in measures["problem"].to_pylist() if problem is not None]
        _stop(problems, rows.num_rows, table, skip_problems)
        unreadable += [{"set": None, "problem": problem} for problem in problems]
        images += rows.num_rows
    report = leak_report(leaks, table=table.name, images=images, suspects=described, limits=asdict(options))
    report |= {"table_sha256": digest, "unreadable": unreadable}
    text = json.dumps(report, indent=1, ensure_ascii=False)
    atomic_write(output, lambda file: file.write(text.encode("utf-8", "backslashreplace") + b"\n"))
    for folder in (*folders, work):
        folder.remove()
    return report


def folder_rows(folder: Path) -> tuple[Iterator[pa.Table], int]:
    """The images of a folder as shards with the columns `image` and (empty) `sha256`, and how many masks it has.

    Raises:
        UserError: there is no such folder, or no image in it.
    """
    names, masks = [], 0
    for file in find_images(folder):
        relative = file.relative_to(folder)
        if MASK_FOLDERS.intersection(relative.parts[:-1]):
            masks += 1
        else:
            names.append(format_reference(relative.as_posix()))
    if not names:
        raise UserError(f"{folder}: all of its images are in folders of masks, expected pictures")
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise UserError(f"{folder}: the file name {name!r} is not UTF-8; rename it") from None
    shards = (names[start : start + BATCH_ROWS] for start in range(0, len(names), BATCH_ROWS))
    return (pa.table({"image": shard, "sha256": [""] * len(shard)}) for shard in shards), masks


def _suspect(name: str, path: Path, output: Path, workers: int) -> tuple[Suspect, int, WorkFolder]:
    """The fingerprints of a table or a folder, how many of its mask images were passed over, and where shards are."""
    images, measures, masks = [], [], 0
    if path.is_dir():
        shards, masks = folder_rows(path)
        # A folder has no digest; its images' names, sizes and times stand for it in the key of the finished shards.
        states = [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in find_images(path)]
        work = WorkFolder(output=output, key=["leaks", states, VERSION])
        for index, shard in enumerate(shards):
            images += shard["image"].to_pylist()
            measures.append(work.make(index, lambda shard=shard: measure_table(shard, path, workers=workers)))
            print(f"{name}: {len(images)} images measured", file=sys.stderr, flush=True)
    else:
        work = WorkFolder(output=output, key=["leaks", file_digest(path), VERSION])
        for rows, found in measured_shards(path, table_root(path), work, workers=workers):
            images += rows["image"].to_pylist()
            measures.append(found)
    return Suspect(name=name, images=images, prints=Fingerprints(measures)), masks, work


def _stop(problems: list[str], count: int, path: Path, skip: bool) -> None:
    if problems and not skip:
        raise UserError(
            f"{path}: {len(problems)} of {count} images cannot be read, the first: {problems[0]}; a leak among them "
            "would go unnoticed: repair them (name a linked folder itself after --against), or give --skip-problems"
        )
