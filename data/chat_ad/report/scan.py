"""Which files of a folder are what, and their lines one by one."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...pages.text import clean, shorten

__all__ = ["MAX_LINE", "Faults", "Files", "Line", "find_files", "read_line", "read_lines"]

#: Bytes of a line, at most: a record is a conversation, not a file.
MAX_LINE = 16 << 20

# How deep files are looked for, and folders in which there are only pictures, often a million of them.
_DEPTH = 2
_PICTURES = frozenset({"images", "masks", "media", "crops"})

# Lines that are looked at to see what a file holds.
_SNIFFED = 50

_NAMED = 5


@dataclass(kw_only=True)
class Faults:
    """What could not be used: all of it counted, the first of each kind named.

    Attributes:
        counts: by (file, kind).
        first: (file, kind) → one-line texts, `_NAMED` at most.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    first: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def add(self, file: str, kind: str, text: str) -> None:
        """Count one, and keep its text if it is among the first."""
        self.counts[file, kind] += 1
        named = self.first.setdefault((file, kind), [])
        if len(named) < _NAMED:
            named.append(shorten(text, 240))

    @property
    def total(self) -> int:
        """All of them."""
        return self.counts.total()


@dataclass(frozen=True, kw_only=True)
class Files:
    """The files of a folder by what they hold, each list in order of names.

    Attributes:
        records: training records: the JSONL files with `messages`, of the highest level that has any.
        listings: JSONL files with what was dropped or refused and why.
        leaks: `*leaks.json` of builds.
        manifests: what was asked for, as JSON.
        other: JSONL files that are none of these.
    """

    records: list[Path]
    listings: list[Path]
    leaks: list[Path]
    manifests: list[Path]
    other: list[Path]


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of JSON.

    Attributes:
        number: from 1.
        offset, length: in bytes, for `read_line`.
        raw: its bytes.
        value: the JSON object.
    """

    number: int
    offset: int
    length: int
    raw: bytes
    value: dict[str, Any]


def find_files(folder: Path, faults: Faults) -> Files:
    """Look into a folder and, two levels deep, into those within it; links to folders are not followed.

    Raises:
        UserError: it is no folder, cannot be read, or has no training records.
    """
    if not folder.is_dir():
        kind = "is a file" if folder.exists() else "no such folder"
        raise UserError(f"{folder}: {kind}, expected the folder that holds the training files (*.jsonl)")
    found = Files(records=[], listings=[], leaks=[], manifests=[], other=[])
    level, empty = [folder], []
    for _ in range(_DEPTH + 1):
        # Below a level with records lie parts or copies of them, which must not be counted twice.
        records = found.other if found.records else found.records
        places = {"records": [], "listings": found.listings, "leaks": found.leaks, "manifests": found.manifests,
            "other": found.other, "empty": empty, "none": []}  # fmt: skip
        below: list[Path] = []
        for place in level:
            files, folders = _listing(place, faults, must=place == folder)
            below += [one for one in folders if one.name not in _PICTURES and not one.name.startswith(".")]
            for path in files:
                places[_kind(path, faults)].append(path)
        records += places["records"]
        level = below
    if not found.records:
        seen = [path.name for path in (*empty, *found.other, *found.listings)]
        have = f"has {', '.join(sorted(seen)[:3])} but" if seen else "has"
        raise UserError(f"{folder}: {have} no file of training records, expected *.jsonl with 'messages' in each line")
    return found


def read_lines(path: Path, name: str, faults: Faults) -> Iterator[Line]:
    """The JSON objects of a file; every other line is a fault and is passed over.

    Args:
        path: the file.
        name: as `faults` calls it.
        faults: filled.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            number = offset = 0
            while raw := file.readline(MAX_LINE + 1):
                number += 1
                start, offset = offset, offset + len(raw)
                if len(raw) > MAX_LINE:
                    while raw and not raw.endswith(b"\n"):
                        raw = file.readline(MAX_LINE)
                        offset += len(raw)
                    faults.add(name, "line too long", f"line {number}: longer than {MAX_LINE >> 20} MiB")
                    continue
                if not raw.strip():
                    continue
                try:
                    value = _parse(raw)
                except ValueError as error:
                    faults.add(name, "not JSON", f"line {number}: {error}")
                    continue
                yield Line(number=number, offset=start, length=len(raw), raw=raw, value=value)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the file") from None


def read_line(path: Path, offset: int, length: int) -> dict[str, Any]:
    """One line again.

    Raises:
        UserError: it is not there any more.
    """
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            return _parse(file.read(length))
    except (OSError, ValueError):
        raise UserError(f"{path}: changed while it was read; run the report again") from None


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at column {error.pos + 1}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError(f"a JSON {type(value).__name__}, expected an object")
    return value


def _listing(folder: Path, faults: Faults, *, must: bool) -> tuple[list[Path], list[Path]]:
    try:
        with os.scandir(folder) as entries:
            entries = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        if must:
            raise UserError(f"{folder}: cannot be read ({error.strerror}); check its permissions") from None
        faults.add(clean(folder.name), "folder", f"cannot be read ({error.strerror})")
        return [], []
    files = [Path(entry) for entry in entries if entry.name.endswith((".jsonl", ".json")) and entry.is_file()]
    return files, [Path(entry) for entry in entries if entry.is_dir(follow_symlinks=False)]


def _kind(path: Path, faults: Faults) -> str:
    """The field of `Files` that a file belongs to, "empty" or "none"."""
    name = path.name
    if name.endswith(".json"):
        if name.endswith("leaks.json"):
            return "leaks"
        return "manifests" if name.endswith("manifest.json") else "none"
    if name.endswith("dropped.jsonl"):
        return "listings"
    kind = "empty"
    sniffed = Faults()
    try:
        for number, line in enumerate(read_lines(path, name, sniffed)):
            if "messages" in line.value:
                return "records"
            kind = "other"
            if number + 1 == _SNIFFED:
                break
    except UserError as error:
        faults.add(clean(name), "file", str(error))
        return "none"
    if sniffed.total:
        (_, what), _ = sniffed.counts.most_common(1)[0]
        faults.add(clean(name), what, next(iter(sniffed.first.values()))[0])
    return kind
