"""`adcopilot data index DATASET --root DIR --output table.parquet`: a dataset as the canonical table.

First the whole layout is read, names and annotation files only: what is wrong there stops the run before any image is
opened. Then images are hashed and masks decoded, in parts that are kept beside the output until it is complete, so a
run that was killed, or refused because of damaged files, goes on where it was. The same dataset gives the same bytes.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from ...errors import UserError
from ...jsonl import write_jsonl
from ...masks import INVERSIONS, MaskOptions, check_options
from ..readers import LICENCES, READERS, Item, Problem, make_source, measure, prescan, scan
from ..readers.measure import fingerprint
from ..sources.mask_counts import count_masks, mask_lines
from ..table import VERSION, make_metadata, read_batches, read_metadata, to_batch, write_table

__all__ = ["IndexReport", "add_arguments", "build_index", "run"]

#: Images of one part. A part is measured and written as a whole.
PART_ITEMS = 1024


@dataclass(kw_only=True)
class IndexReport:
    """What an index holds and what it does not.

    Attributes:
        rows: of the table.
        counts: rows by (category, label).
        splits: rows by split.
        problems: all that were met, in order; the blocking ones are images left out.
        masks: rows by the kind of their mask.
        same_masks: of each mask (by the pixels that it marks) the first images that have it.
        found: which of several possible forms of the layout was there, counted.
        passed_over: files that are no images, by suffix.
    """

    rows: int = 0
    counts: Counter = field(default_factory=Counter)
    splits: Counter = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    masks: Counter = field(default_factory=Counter)
    same_masks: dict[str, list[str]] = field(default_factory=dict)
    found: Counter = field(default_factory=Counter)
    passed_over: Counter = field(default_factory=Counter)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to `parser`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _options_help()
    add = parser.add_argument
    add("dataset", metavar="DATASET", help=", ".join(READERS))
    add("--root", type=Path, required=True, help="the dataset's folder; nothing in it is changed")
    add("--output", type=Path, required=True, help="the table to write, a .parquet file")
    add("--category", action="append", default=[], help="only this category; may be given several times")
    add("--option", action="append", default=[], metavar="KEY=VALUE", help="a setting of the dataset's reader, below")
    add("--min-area", type=int, default=1, help="regions of a mask of fewer pixels give no box (1)")
    add("--mask-threshold", type=float, metavar="SHARE", help="of the range of a mask of many values, cut there (0.5)")
    add(
        "--mask-inverted",
        default="none",
        choices=INVERSIONS,
        help="masks whose background is the defect (none)",
    )
    add("--mask-most", type=float, default=0.5, metavar="SHARE", help="of its image that a mask may mark (0.5)")
    add("--skip-problems", action="store_true", help="leave out what is wrong, listed in OUTPUT.problems.jsonl")
    add("--workers", type=int, default=min(4, os.cpu_count() or 1), help="threads that open files (%(default)s)")


def run(args: argparse.Namespace) -> int:
    """Index, then say what was found.

    Raises:
        UserError: the root is not the dataset, an option is wrong, or there are problems and no `--skip-problems`.
    """
    report = build_index(
        dataset=args.dataset,
        root=args.root,
        output=args.output,
        options=_options(args.option),
        categories=args.category,
        min_area=args.min_area,
        masks=MaskOptions(threshold=args.mask_threshold, inverted=args.mask_inverted, most=args.mask_most),
        skip_problems=args.skip_problems,
        workers=args.workers,
        progress=True,
    )
    print(summary(report, args.dataset, args.output))
    return 0


def build_index(
    *,
    dataset: str,
    root: str | os.PathLike,
    output: str | os.PathLike,
    options: Mapping[str, Any] | None = None,
    categories: Iterable[str] = (),
    min_area: int = 1,
    masks: MaskOptions = MaskOptions(),  # noqa: B008 - frozen
    skip_problems: bool = False,
    workers: int = 1,
    progress: bool = False,
) -> IndexReport:
    """Write a dataset's table to `output`, and `OUTPUT.problems.jsonl` beside it if anything was met.

    Args:
        dataset, root, options, categories, min_area, masks: as `readers.index`.
        output: the Parquet file.
        skip_problems: leave out what is wrong instead of refusing.
        workers: threads.
        progress: show a bar on stderr, when that is a terminal.

    Raises:
        UserError: as `run`.
    """
    root, output = Path(root), Path(output)
    if min_area < 1 or workers < 1:
        raise UserError(f"--min-area is {min_area} and --workers {workers}, expected 1 or more")
    source = make_source(dataset, root, options=options, categories=categories)
    _prepare(output, root)
    check_options(masks, threshold="--mask-threshold", most="--mask-most")
    total = prescan(source, scan(source))
    report = IndexReport(found=source.found, passed_over=source.passed_over, problems=source.problems)
    _stop_or_go(report, output, skip_problems, "no image was opened yet")
    if not total:
        raise UserError(
            f"{root}: no image of {dataset} that could be used; {_problem_counts(report) or 'it is empty'}"
        )

    settings = {
        "dataset": dataset,
        "options": dict(source.options),
        "min_area": min_area,
        "masks": asdict(masks),
        "version": VERSION,
    }
    parts = Path(f"{output}.parts")
    again = make_source(dataset, root, options=options, categories=categories)
    again.disputed, again.bits = source.disputed, source.bits
    worker = partial(measure, root=root, dataset=dataset, licence=LICENCES[dataset], min_area=min_area, masks=masks)
    files, usable = [], 0
    with _mapper(workers) as each, _bar(total, progress, dataset) as bar:
        for number, items in enumerate(_cut(scan(again), PART_ITEMS)):
            path = parts / f"{number:06d}.parquet"
            key = fingerprint(items, root=root, **settings)
            if _part_key(path) != key:
                _write_part(path, key, each(worker, items))
            files.append(path)
            problems = _part_problems(path)
            report.problems += problems
            usable += len(items) - len(problems)
            if not number and not usable:
                _stop_or_go(report, output, skip_problems, "none of the first images could be used")
            bar.update(len(items))
    if not usable:
        raise UserError(f"{root}: no image of {dataset} that could be used; {_problem_counts(report)}")
    _stop_or_go(report, output, skip_problems, f"{parts} keeps what was read for the next run")

    def rows() -> Iterator[pa.RecordBatch]:
        for file in files:
            for batch in read_batches(file):
                _count(report, batch)
                yield batch

    recorded = {
        **source.options,
        "min_area": min_area,
        "mask": asdict(masks),
        "categories": sorted(source.categories),
    }
    report.rows = write_table(output, rows(), metadata=make_metadata(root=root, dataset=dataset, options=recorded))
    shutil.rmtree(parts, ignore_errors=True)
    return report


def summary(report: IndexReport, dataset: str, output: Path) -> str:
    """A few lines for a person: what is in the table, what is not, and what was found on the way."""
    categories = sorted({category for category, _ in report.counts})
    normal, anomalous = (
        sum(count for (_, label), count in report.counts.items() if label == wanted)
        for wanted in ("normal", "anomalous")
    )
    noun = "category" if len(categories) == 1 else "categories"
    counts = f"{report.rows:,} images of {len(categories)} {noun}, {normal:,} normal and {anomalous:,} anomalous"
    lines = [f"{dataset}: {counts} → {output}"]
    splits = ", ".join(f"{name or 'no split'} {count:,}" for name, count in sorted(report.splits.items()))
    lines.append(f"  {splits}")
    lines += [f"  {what}{f': {count:,}' if count else ''}" for what, count in report.found.items()]
    lines += [f"  {line}" for line in mask_lines(report.masks, report.same_masks)]
    if report.passed_over:
        files = ", ".join(f"{count:,} {suffix}" for suffix, count in sorted(report.passed_over.items()))
        lines.append(f"  files that are no images, passed over: {files}")
    bare = [category for category in categories if not report.counts[category, "normal"]]
    if bare:
        shown = ", ".join(bare[:5]) + (f", … ({len(bare)})" if len(bare) > 5 else "")
        lines.append(f"  no normal image, so nothing to compare with, in: {shown}")
    notes = [problem for problem in report.problems if not problem.blocking]
    lines += [f"  {problem.file}: {problem.reason}" for problem in notes[:3]]
    if report.problems:
        lines.append(f"  {_problem_counts(report)}; listed in {output}.problems.jsonl")
    return "\n".join(lines)


def _prepare(output: Path, root: Path) -> None:
    """Refuse an output that cannot be, before the long work and not after it."""
    if output.is_dir():
        raise UserError(f"--output {output}: is a folder, expected the name of a .parquet file")
    if output.resolve().is_relative_to(root.resolve()):
        raise UserError(f"--output {output}: inside the dataset {root}, expected a place outside it")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        for leftover in output.parent.glob(f".{glob.escape(output.name)}.*.tmp"):
            leftover.unlink(missing_ok=True)  # of a run that was killed as it wrote
    except OSError as error:
        raise UserError(f"--output {output}: cannot be written ({error.strerror or error})") from None


def _stop_or_go(report: IndexReport, output: Path, skip_problems: bool, when: str) -> None:
    """Write down the problems so far, and refuse to go on with blocking ones unless told to."""
    listing = Path(f"{output}.problems.jsonl")
    if report.problems:
        write_jsonl(listing, map(asdict, report.problems))
    else:
        listing.unlink(missing_ok=True)
    blocking = [problem for problem in report.problems if problem.blocking]
    if blocking and not skip_problems:
        first = "; ".join(f"{problem.file or '.'}: {problem.reason}" for problem in blocking[:3])
        more = f"; and {len(blocking) - 3:,} more" if len(blocking) > 3 else ""
        raise UserError(
            f"{_problem_counts(report, blocking_only=True)}: {first}{more}. All are listed in {listing} ({when}); "
            "correct them, or leave these images out by --skip-problems"
        )


def _problem_counts(report: IndexReport, *, blocking_only: bool = False) -> str:
    def of(blocking: bool) -> str:
        kinds = Counter(problem.kind for problem in report.problems if problem.blocking == blocking)
        return ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items()))

    problems, notes = of(True), of(False)
    texts = [f"problems: {problems}"] if problems else []
    if notes and not blocking_only:
        texts.append(f"notes: {notes}")
    return "; ".join(texts)


@contextmanager
def _mapper(workers: int) -> Iterator[Callable]:
    """`map` in so many threads, in order; one thread is none at all."""
    if workers == 1:
        yield map
        return
    with ThreadPoolExecutor(workers) as pool:
        yield pool.map


def _cut(items: Iterator[Item], size: int) -> Iterator[list[Item]]:
    while part := list(islice(items, size)):
        yield part


def _write_part(path: Path, key: str, measured: Iterable[list | Problem]) -> None:
    entries, problems = [], []
    for result in measured:
        if isinstance(result, Problem):
            problems.append(asdict(result))
        else:
            entries += result
    metadata = {"key": key, "problems": json.dumps(problems)}
    write_table(path, [to_batch(entries)], metadata=metadata)


def _part_key(path: Path) -> str | None:
    try:
        return read_metadata(path).get("key")
    except UserError:
        return None


def _part_problems(path: Path) -> list[Problem]:
    return [Problem(**problem) for problem in json.loads(read_metadata(path)["problems"])]


def _count(report: IndexReport, batch: pa.RecordBatch) -> None:
    columns = (batch.column(name).to_pylist() for name in ("category", "label", "split"))
    for category, label, split in zip(*columns, strict=True):
        report.counts[category, label] += 1
        report.splits[split] += 1
    count_masks(batch, report.masks, report.same_masks)


def _options(texts: Sequence[str]) -> dict[str, str]:
    options = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--option {text}: expected KEY=VALUE")
        if name.strip() in options:
            raise UserError(f"--option {text}: {name.strip()} is given twice; expected once")
        options[name.strip()] = value
    return options


def _options_help() -> str:
    datasets: dict[str, list[str]] = {}
    for dataset, reader in READERS.items():
        for name, option in reader.OPTIONS.items():
            choices = [choice for choice in option.choices or () if choice]
            values = "|".join(choices) if 0 < len(choices) < 6 else f"{choices[0]}…{choices[-1]}" if choices else "…"
            default = f" ({option.default})" if option.default else ""
            datasets.setdefault(f"  {name}={values}{default}\n      {option.help}", []).append(dataset)
    lines = [f"{text} [{', '.join(names)}]" for text, names in datasets.items()]
    return "\n".join(["options of the readers (--option KEY=VALUE):", *lines])


def _bar(total: int, progress: bool, dataset: str):
    from tqdm import tqdm

    # None: only where stderr is a terminal.
    return tqdm(total=total, desc=dataset, unit="image", file=sys.stderr, disable=None if progress else True)
