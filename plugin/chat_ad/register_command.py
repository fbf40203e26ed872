"""`adcopilot data register`: check a file of Chat-AD records and add it to LlamaFactory's `dataset_info.json`.

Every record is looked at: form, number of `<image>` marks, images that open, boxes inside them. Then the file is read
once as LlamaFactory will read it, because a field that changes its type half way stops that reader, too.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..records import check_record, record_boxes, record_image_sizes
from .general.json_stream import json_items
from .registration import add_entries, entry

__all__ = ["check_file", "register"]

_NAMED = 20  # bad records that the error quotes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to `parser`."""
    add = parser.add_argument
    add("name", help="what a YAML's `dataset` will call it")
    add("file", type=Path, help="records in Chat-AD's form: JSON lines, or a JSON list")
    add("--info", type=Path, default=Path("dataset_info.json"), help="where to register it (./dataset_info.json)")
    add(
        "--media-dir",
        type=Path,
        help="the YAML's media_dir, which the records' image paths are relative to (`data` beside --info)",
    )
    add("--amount", type=int, help="train on so many records, drawn by LlamaFactory; without it, all")
    add("--replace", action="store_true", help="also over another file of that name in --info")


def run(args: argparse.Namespace) -> int:
    """Register and say what a YAML needs.

    Raises:
        UserError: as `register`.
    """
    media_dir = args.media_dir or args.info.parent / "data"
    counts = register(
        name=args.name,
        file=args.file,
        info=args.info,
        media_dir=media_dir,
        amount=args.amount,
        replace=args.replace,
    )
    print(
        f"{args.file}: {counts['records']} records with {counts['images']} images and {counts['boxes']} boxes, sound"
    )
    print(f"{args.info}: {args.name} {'added' if counts['changed'] else 'was registered already'}")
    print(f"in a training YAML:\ndataset_dir: {args.info.parent}\nmedia_dir: {media_dir}\ndataset: {args.name}")
    return 0


def register(
    *, name: str, file: Path, info: Path, media_dir: Path, amount: int | None = None, replace: bool = False
) -> dict[str, Any]:
    """Check all records of a file, then register it.

    Args:
        name: of the data set.
        file: JSON lines or a JSON list of records.
        info: the `dataset_info.json`, made when absent.
        media_dir: what image paths are relative to.
        amount: LlamaFactory's `num_samples`.
        replace: also over another entry of that name.

    Returns:
        The counts of `check_file`, and whether the entry is new.

    Raises:
        UserError: records are bad (none is registered then), the name is taken, or `info` is broken.
    """
    if amount is not None and amount < 1:
        raise UserError(f"--amount {amount}: expected 1 or more")
    counts = check_file(file, media_dir=media_dir)
    value = entry(_relative(file, info.parent), images=counts["with_images_field"] > 0)
    if amount is not None:
        value["num_samples"] = amount
    return counts | {"changed": bool(add_entries(info, {name: value}, replace=replace))}


def check_file(file: Path, *, media_dir: Path) -> dict[str, int]:
    """Look at every record of a file.

    Returns:
        `records`, `images` and `boxes` in it, and `with_images_field`: records that have the field `images`.

    Raises:
        UserError: it names the first bad records and says how many there are.
    """
    if file.suffix not in (".jsonl", ".json"):
        raise UserError(f"{file}: suffix {file.suffix!r}, expected .jsonl or .json, by which LlamaFactory reads it")
    counts: Counter[str] = Counter()
    faults: list[str] = []
    bad = 0
    for number, record in json_items(file):
        where = f"{file}:{number}"
        counts["records"] += 1
        try:
            if "messages" not in record and "conversations" in record:
                raise UserError(f"{where}: has 'conversations' (from, value), expected 'messages' (role, content)")
            check_record(record, name=where)
            sizes = record_image_sizes(record, name=where, media_dir=media_dir)
            check_record(record, name=where, sizes=sizes)
        except UserError as error:
            bad += 1
            faults += [str(error)] if len(faults) < _NAMED else []
            continue
        counts["images"] += len(sizes)
        counts["boxes"] += sum(1 for _ in record_boxes(record, name=where))
        counts["with_images_field"] += "images" in record
        if counts["records"] % 10_000 == 0:
            print(f"{file}: {counts['records']} records looked at", file=sys.stderr, flush=True)
    if bad:
        more = f"; and {bad - len(faults)} more" if bad > len(faults) else ""
        raise UserError(f"{bad} of {counts['records']} records cannot be trained on: {'; '.join(faults)}{more}")
    if not counts["records"]:
        raise UserError(f"{file}: empty, expected a record a line")
    if 0 < counts["with_images_field"] < counts["records"]:
        raise UserError(
            f"{file}: {counts['records'] - counts['with_images_field']} of {counts['records']} records have no field "
            "'images'; give them an empty list"
        )
    _read_as_llamafactory(file)
    return {key: counts[key] for key in ("records", "images", "boxes", "with_images_field")}


def _read_as_llamafactory(file: Path) -> None:
    """Refuse what the `datasets` library cannot read as one table, though each record is sound by itself."""
    import datasets

    with tempfile.TemporaryDirectory(prefix="adcopilot-register-") as cache:
        shown = datasets.utils.logging.is_progress_bar_enabled()
        datasets.disable_progress_bars()
        try:
            datasets.load_dataset("json", data_files=[str(file)], split="train", cache_dir=cache)
        except Exception as error:
            while error.__cause__ is not None:
                error = error.__cause__
            reason = " ".join(str(error).split())[:300]
            raise UserError(
                f"{file}: the records do not make one table ({reason}); a field must have the same type in all of "
                "them: an empty text instead of null, lists of one kind"
            ) from None
        finally:
            if shown:
                datasets.enable_progress_bars()


def _relative(file: Path, folder: Path) -> str:
    """How LlamaFactory finds the file from `dataset_dir`; absolute when it lies elsewhere."""
    relative = os.path.relpath(os.path.abspath(file), os.path.abspath(folder))
    outside = relative.split(os.sep)[0] == os.pardir
    return os.path.abspath(file) if outside else Path(relative).as_posix()
