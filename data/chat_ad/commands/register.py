"""`adcopilot data register`: check a file of Chat-AD records and add it to LlamaFactory's `dataset_info.json`.

Every record is looked at: form, number of `<image>` marks, images that open, boxes inside them and in the notation
that training maps. Then the file is read once as LlamaFactory will read it, because a field that changes its type half
way stops that reader, too.

With `--boxes` the boxes are converted first, into a file beside the given one, which stays as it is; LlamaFactory
reads files as they are, so the converted one is registered. It appears whole, by a rename, and the same command makes
the same bytes again.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...boxes.named import NOTATIONS, Notation, about, remedy
from ...cli.saying import say
from ...dataset_info import BOM, add_entries, entry, first_bytes
from ...errors import UserError, one_line
from ...jsonl import file_digest, write_jsonl
from ...records import check_form, check_record, foreign_boxes, record_boxes, record_image_sizes, unnamed_boxes
from ..box_conversion import Evenness, convert_record, notations_of
from ..general.json_stream import json_items

__all__ = ["add_arguments", "run"]

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
    add("--replace", action="store_true", help="also over another file of that name in --info, or at --output")
    kinds = "; ".join(f"{name}: {notation.about}" for name, notation in NOTATIONS.items())
    add("--boxes", metavar="NOTATION", help=f"what the boxes are, and convert them; several with commas. {kinds}")
    add("--output", type=Path, help="where converted records go (beside FILE, with .bbox_2d before .jsonl)")


def run(args: argparse.Namespace) -> int:
    """Check all records of a file, register it, and say what a YAML needs.

    Raises:
        UserError: records are bad (none is registered then), the name is taken, or `--info` is broken.
    """
    if args.amount is not None and args.amount < 1:
        raise UserError(f"--amount {args.amount}: expected 1 or more")
    media_dir = args.media_dir or args.info.parent / "data"
    file, counts = _converted(args, media_dir) if args.boxes is not None else _as_it_is(args, media_dir)
    value = entry(_relative(file, args.info.parent), images=counts["with_images_field"] > 0)
    if args.amount is not None:
        value["num_samples"] = args.amount
    changed = add_entries(args.info, {args.name: value}, replace=args.replace)
    if args.boxes:
        where = "it is registered as it is" if file == args.file else f"written to {file}"
        print(f"{args.file}: {counts['converted']} boxes converted, {where}")
    print(f"{file}: {counts['records']} records with {counts['images']} images and {counts['boxes']} boxes, sound")
    if counts["unnamed"]:
        print(
            f"warning: {file}: {counts['unnamed']} lists of four numbers stand under no key, and training leaves them "
            'as they are; if they are boxes, write them as "bbox_2d": [x1, y1, x2, y2] in pixels',
            file=sys.stderr,
        )
    print(f"{args.info}: {args.name} {'added' if changed else 'was registered already'}")
    print(f"in a training YAML:\ndataset_dir: {args.info.parent}\nmedia_dir: {media_dir}\ndataset: {args.name}")
    return 0


def _as_it_is(args: argparse.Namespace, media_dir: Path) -> tuple[Path, Counter[str]]:
    """The file, and what was counted in its records (`_Check`)."""
    if args.output is not None:
        raise UserError(
            f"--output {args.output}: only converted records are written; name their notation with --boxes"
        )
    if args.file.suffix not in (".jsonl", ".json"):
        raise UserError(
            f"{args.file}: suffix {args.file.suffix!r}, expected .jsonl or .json, by which LlamaFactory reads it"
        )
    check = _Check(args.file, media_dir=media_dir)
    for _ in check.records():
        pass
    return args.file, check.counts_of(args.file)


def _converted(args: argparse.Namespace, media_dir: Path) -> tuple[Path, Counter[str]]:
    """The file of the converted records, or the given one where no box was converted, and what was counted."""
    notations, target = notations_of(args.boxes), args.output or args.file.with_name(f"{args.file.stem}.bbox_2d.jsonl")
    if target.suffix != ".jsonl":
        raise UserError(f"--output {target}: suffix {target.suffix!r}, expected .jsonl")
    if target.resolve() == args.file.resolve():
        raise UserError(f"--output {target}: is the file itself, which stays as it is; name another")
    check = _Check(args.file, media_dir=media_dir, notations=notations)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".adcopilot-register-") as folder:
            fresh = Path(folder, target.name)
            write_jsonl(fresh, check.records())
            counts = check.counts_of(fresh)
            if not counts["converted"]:
                return args.file, counts
            if target.exists() and not args.replace and file_digest(target) != file_digest(fresh):
                raise UserError(f"{target}: holds something else; add --replace, or name another with --output")
            os.replace(fresh, target)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{target}: cannot be written ({reason}); name another with --output") from None
    return target, counts


class _Check:
    """Looks at the records of a file one by one, and converts their boxes where `notations` says what they are.

    Counted are `records`, `images` and `boxes`, `with_images_field` (records that have the field `images`), boxes that
    were `converted`, and `unnamed` ones.
    """

    def __init__(self, file: Path, *, media_dir: Path, notations: Sequence[Notation] = ()) -> None:
        self.file, self.media_dir, self.notations = file, media_dir, notations
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        self.bad = 0
        self.foreign: dict[str, Counter[str]] = {}
        self.evenness = Evenness()

    def records(self) -> Iterator[dict[str, Any]]:
        """The records that are sound, converted."""
        for number, record in json_items(self.file):
            self.counts["records"] += 1
            try:
                record = self._checked(record, name=f"{self.file}:{number}", number=number)
            except RecursionError:
                self._fault(f"{self.file}:{number}: nested too deeply for a record")
            except UserError as error:
                self._fault(str(error))
            else:
                yield record
            if self.counts["records"] % 10_000 == 0:
                say(f"{self.file}: {self.counts['records']} records looked at")

    def _fault(self, reason: str) -> None:
        self.bad += 1
        self.faults += [reason] if len(self.faults) < _NAMED else []

    def _checked(self, record: dict[str, Any], *, name: str, number: int) -> dict[str, Any]:
        if "messages" not in record and "conversations" in record:
            raise UserError(f"{name}: has 'conversations' (from, value), expected 'messages' (role, content)")
        if "images" not in record and "image" in record:
            raise UserError(f"{name}: has 'image', expected 'images', a list of file names")
        check_form(record, name=name)
        if self.notations:
            sizes = record_image_sizes(record, name=name, media_dir=self.media_dir)
            record, converted = convert_record(record, sizes, self.notations, name=name)
            self.counts["converted"] += converted
        for syntax, (count, _) in foreign_boxes(record).items():
            seen = self.foreign.setdefault(syntax, Counter())
            seen.update(boxes=count, records=1)
            seen.setdefault("first", number)
        check_record(record, name=name)
        sizes = record_image_sizes(record, name=name, media_dir=self.media_dir)
        check_record(record, name=name, sizes=sizes)
        self.counts["images"] += len(sizes)
        for image, box in record_boxes(record, name=name):
            self.counts["boxes"] += 1
            self.evenness.add(box, sizes[image])
        self.counts["unnamed"] += unnamed_boxes(record)
        self.counts["with_images_field"] += "images" in record
        return record

    def counts_of(self, written: Path) -> Counter[str]:
        """What was counted, once all records are sound and LlamaFactory can read `written`, the file of them.

        Raises:
            UserError: they are not; it names the first bad records and says how many there are.
        """
        counts, file = self.counts, self.file
        if self.bad:
            more = f"; and {self.bad - len(self.faults)} more" if self.bad > len(self.faults) else ""
            named = [self._foreign_line(syntax, seen) for syntax, seen in self.foreign.items()] + self.faults
            raise UserError(
                f"{self.bad} of {counts['records']} records cannot be trained on: {'; '.join(named)}{more}"
            )
        if not counts["records"]:
            raise UserError(f"{file}: empty, expected a record a line")
        if 0 < counts["with_images_field"] < counts["records"]:
            raise UserError(
                f"{file}: {counts['records'] - counts['with_images_field']} of {counts['records']} records have no "
                "field 'images'; give them an empty list"
            )
        if not self.notations and self.evenness.is_thousandths:
            raise UserError(
                f"{file}: none of the {len(self.evenness)} boxes in images of more than 1000 pixels a side goes "
                "beyond 1000, so they look like 0 to 1000 of the sides and not like pixels; convert them with "
                "--boxes thousand, or say --boxes pixels if they are"
            )
        _read_as_llamafactory(written)
        return counts

    def _foreign_line(self, syntax: str, seen: Counter[str]) -> str:
        return (
            f"{seen['boxes']} boxes in {seen['records']} records, from record {seen['first']} on, are {about(syntax)} "
            f"({syntax}): {remedy(syntax)}"
        )


def _read_as_llamafactory(file: Path) -> None:
    """Refuse what the `datasets` library cannot read as one table, though each record is sound by itself."""
    import datasets

    with tempfile.TemporaryDirectory(prefix="adcopilot-register-") as cache:
        shown = datasets.utils.logging.is_progress_bar_enabled()
        datasets.disable_progress_bars()
        try:
            # as `llamafactory/data_checks.py` has it read
            encoding = "utf-8-sig" if first_bytes(file) == BOM else "utf-8"
            datasets.load_dataset("json", data_files=[str(file)], split="train", cache_dir=cache, encoding=encoding)
        except Exception as error:
            while error.__cause__ is not None:
                error = error.__cause__
            reason = one_line(error)
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
