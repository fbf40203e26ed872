"""From a general source to a file of records: check all, draw some, write them, count and name the rest.

    OUTPUT/NAME.jsonl           the records, shuffled
    OUTPUT/NAME.dropped.jsonl   every item that cannot be used, with the reason
    OUTPUT/NAME.manifest.json   what was asked for, of what, and what came out; digests
    OUTPUT/dataset_info.json    NAME, for a YAML with `dataset_dir: OUTPUT`

An item's place in the draw is a hash of the seed and its key: the same draw whatever is read first, a larger amount
keeps what a smaller one had, and nothing is drawn twice. Memory holds 12 bytes an item and 24 a record, no texts.
"""

from __future__ import annotations

import json
import os
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ... import __version__
from ...cli.saying import say
from ...dataset_info import add_entries, entry
from ...errors import UserError, changed_settings
from ...files import stored_object
from ...jsonl import atomic_write, file_digest, write_json
from ..draws import dice, rank64
from ..dropped import Dropped
from ..line_order import OrderedLines
from ..runners import in_order
from .source import GeneralSource, RawSample, Rejected

__all__ = ["Request", "convert"]

_NAMED = 5  # problems that an error quotes


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a user asks of every source.

    Attributes:
        output: folder to write.
        amount: records to draw, None for all there are.
        by_default: the amount is Table I's: fewer items are then a line in the summary, not an error.
        seed: of the draw, of wording and order.
        skip_problems: leave out what cannot be used instead of stopping.
        overwrite: also over a result of other options.
    """

    output: Path
    amount: int | None
    by_default: bool = False
    seed: int = 0
    skip_problems: bool = False
    overwrite: bool = False


def convert(source: GeneralSource, request: Request) -> dict[str, Any]:
    """Write the files described above and return the manifest.

    Raises:
        UserError: the source is broken or too small, the output holds something else, or items have problems and
            `skip_problems` is off; nothing but the list of dropped items is written then.
    """
    _check_output(source, request)
    recipe = _recipe(source, request)
    paths = {kind: request.output / f"{source.name}.{kind}" for kind in ("jsonl", "dropped.jsonl", "manifest.json")}
    _claim(paths["manifest.json"], recipe, request)
    _folder(request.output)
    for leftover in request.output.glob(f".{source.name}.*.tmp"):  # of a killed run
        leftover.unlink(missing_ok=True)
    with tempfile.TemporaryFile(dir=request.output) as dropped_file:
        dropped = _Dropped(file=dropped_file, path=paths["dropped.jsonl"], source=source)
        order, total = _survey(source, request, dropped)
        dropped.stop_unless(request.skip_problems, total)
        if not len(order):
            dropped.save()
            why = paths["dropped.jsonl"]
            raise UserError(f"{source.name}: none of the {total} items in {source.root} can be used; {why} says why")
        wanted = len(order) if request.amount is None else request.amount
        if wanted > len(order) and not request.by_default:
            raise UserError(
                f"--amount {wanted}: {source.name} in {source.root} has {len(order)} usable of {total} items; ask for "
                f"at most that, or `--amount all` ({paths['dropped.jsonl'].name} would name the others)"
            )
        with OrderedLines(folder=request.output) as lines:
            # By place in the draw, not in the source: LlamaFactory's max_samples takes the first ones.
            counts = _collect(source, request, order, wanted, lines, dropped)
            dropped.stop_unless(request.skip_problems, total)
            records = len(lines.write(paths["jsonl"]))
        dropped.save()
    manifest = {
        **recipe,
        "adcopilot": __version__,
        "licence": source.licence,
        "items": total,
        "usable": len(order),
        "records": records,
        **counts,
        "skip_problems": request.skip_problems,
        "dropped": dropped.counts(),
        "sha256": file_digest(paths["jsonl"]),
    }
    write_json(paths["manifest.json"], manifest, indent=1)
    add_entries(request.output / "dataset_info.json", {source.name: entry(paths["jsonl"].name)}, replace=True)
    return manifest


def _survey(source: GeneralSource, request: Request, dropped: _Dropped) -> tuple[np.ndarray, int]:
    """All items once: `(usable ordinals in the order of the draw, number of items)`."""
    scores, usable = array("Q"), array("I")
    for item in source.items():
        scores.append(rank64(f"{request.seed}:{source.name}:{item.key}"))
        try:
            source.check(item)
        except Rejected as fault:
            dropped.add(item, fault)
        else:
            usable.append(item.ordinal)
        if len(scores) % 100_000 == 0:
            say(f"{source.name}: {len(scores)} items looked at")
    ordinals = np.array(usable, np.int64)
    # Stable: of equal keys the first comes first.
    return ordinals[np.argsort(np.array(scores, np.uint64)[ordinals], kind="stable")], len(scores)


def _collect(
    source: GeneralSource, request: Request, order: np.ndarray, wanted: int, lines: OrderedLines, dropped: _Dropped
) -> dict[str, Any]:
    """Write `wanted` records to `lines` in the source's order; counts for the manifest.

    What fails now is replaced by the next in the draw, so the result is the first `wanted` of those that succeed.
    """
    tasks, boxes, images = Counter(), 0, 0
    tried = 0
    while len(lines) < wanted and tried < len(order):
        chosen = order[tried : tried + wanted - len(lines)].tolist()
        places = {ordinal: place for place, ordinal in enumerate(chosen, tried)}
        tried += len(chosen)
        for item, result in _records(source, request.seed, source.items(places)):
            if isinstance(result, Rejected):
                dropped.add(item, result)
                continue
            lines.add(places[item.ordinal], json.dumps(result, ensure_ascii=False, allow_nan=False).encode())
            tasks[result["task"]] += 1
            boxes += len(result["boxes"])
            images += len(result["images"])
            if len(lines) % 5_000 == 0:
                say(f"{source.name}: {len(lines)} of {wanted} records")
        if dropped.problems and not request.skip_problems:
            break
    return {"tasks": dict(sorted(tasks.items())), "boxes": boxes, "images": images}


def _records(
    source: GeneralSource, seed: int, items: Iterable[RawSample]
) -> Iterator[tuple[RawSample, dict[str, Any] | Rejected]]:
    """Each item with its record or the reason against it, in order, made in `source.workers` threads."""

    def make(item: RawSample) -> dict[str, Any] | Rejected:
        try:
            return source.record(item, rng=dice(seed, source.name, item.key))
        except Rejected as fault:
            return fault

    if source.workers <= 1:
        for item in items:
            yield item, make(item)
        return
    with ThreadPoolExecutor(source.workers) as pool:
        started = (partial(_with, item, pool.submit(make, item)) for item in items)
        try:
            yield from in_order(started, ahead=4 * source.workers)
        finally:
            pool.shutdown(cancel_futures=True)


def _with(item: RawSample, made: Future) -> tuple[RawSample, dict[str, Any] | Rejected]:
    return item, made.result()


class _Dropped:
    """The list of items that cannot be used, on disk, and how many there are of each reason."""

    def __init__(self, *, file: BinaryIO, path: Path, source: GeneralSource) -> None:
        self._file, self._path, self._source = file, path, source
        self._counts: Counter[tuple[bool, str]] = Counter()
        self._first: list[str] = []

    @property
    def problems(self) -> int:
        """Items dropped for a reason that is not expected."""
        return sum(count for (expected, _), count in self._counts.items() if not expected)

    def add(self, item: RawSample, fault: Rejected) -> None:
        self._counts[fault.expected, fault.reason] += 1
        if not fault.expected and len(self._first) < _NAMED:
            self._first.append(f"{item.where}: {fault}")
        step = "filter" if fault.expected else "read"
        line = Dropped(step=step, key=item.key, where=item.where, reason=fault.reason, detail=fault.detail).line()
        # Escaped: a detail may quote a name that is not UTF-8.
        self._file.write(json.dumps(line).encode() + b"\n")

    def counts(self) -> dict[str, dict[str, int]]:
        """For the manifest."""
        result: dict[str, dict[str, int]] = {"filters": {}, "problems": {}}
        for (expected, reason), count in sorted(self._counts.items()):
            result["filters" if expected else "problems"][reason] = count
        return result

    def save(self) -> None:
        """Put the list in its place."""
        self._file.seek(0)
        atomic_write(self._path, lambda file: file.writelines(iter(lambda: self._file.read(1 << 20), b"")))

    def stop_unless(self, skip: bool, total: int) -> None:
        """End the run if there are problems and they are not to be skipped."""
        if not self.problems or skip:
            return
        self.save()
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.counts()["problems"].items())
        more = f"; and {self.problems - len(self._first)} more" if self.problems > len(self._first) else ""
        raise UserError(
            f"{self._source.name}: {self.problems} of {total} items cannot be used ({reasons}): "
            f"{'; '.join(self._first)}{more}; all are listed in {self._path}; complete the data set, or add "
            "--skip-problems to go on without them"
        )


def _recipe(source: GeneralSource, request: Request) -> dict[str, Any]:
    files = {}
    for path in source.files:
        name = path.relative_to(source.root).as_posix() if path.is_relative_to(source.root) else path.name
        files[name] = {"bytes": path.stat().st_size, "sha256": file_digest(path)}
    return {
        "dataset": source.name,
        "version": source.version,
        "options": source.options,
        "amount": "all" if request.amount is None else request.amount,
        "seed": request.seed,
        "files": files,
    }


def _claim(path: Path, recipe: dict[str, Any], request: Request) -> None:
    """Refuse to replace the result of another recipe unasked."""
    if request.overwrite or not path.exists():
        return
    found = stored_object(path)
    if not found:
        raise UserError(f"{path}: not a manifest of this command; choose another --output, or add --overwrite")
    changed = changed_settings({key: found.get(key) for key in recipe}, recipe)
    if changed:
        raise UserError(f"{path}: made with {'; '.join(changed[:3])}; choose another --output, or add --overwrite")


def _check_output(source: GeneralSource, request: Request) -> None:
    if request.amount is not None and request.amount < 1:
        raise UserError(f"--amount {request.amount}: expected 1 or more, or `all`")
    if request.output.resolve().is_relative_to(source.root.resolve()):
        raise UserError(f"--output {request.output}: inside the data set {source.root}, expected a folder outside it")


def _folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {path}: cannot be made ({error.strerror}); name another folder") from None
    if not os.access(path, os.W_OK):
        raise UserError(f"--output {path}: cannot be written to; name another folder")
