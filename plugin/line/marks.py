"""What somebody said of pictures, above all where a verdict was wrong: JSON lines, one a picture, the last one counts.

    {"query": "today/17.png", "digest": "5f0c…", "good": false, "kind": "scratch", "when": "2026-11-27T10:00:00Z"}

A picture is known by its digest, so a mark stays with it under another name. A report page makes the lines, or
the demo's page; `adcopilot adapt` and `adcopilot calibrate` take them by `--marks`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ..errors import UserError, shortened
from ..jsonl import file_digest, read_jsonl

__all__ = ["Mark", "append_mark", "find_marked", "read_marks"]


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What a picture is.

    Attributes:
        query: its path when it was marked.
        digest: SHA-256 of the file's bytes, as `jsonl.file_digest` gives it.
        good: whether the part is good.
        kind: of defect, "" where it is not said.
    """

    query: str
    digest: str
    good: bool
    kind: str = ""


def append_mark(path: Path, *, query: Path, good: bool, kind: str = "") -> None:
    """Write one mark at the end of a file, made if it is not there: all of the line or nothing, after whatever stands
    there, whoever else writes.

    Raises:
        UserError: the picture cannot be read, or the file not be written.
    """
    when = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    mark = {"query": str(query), "digest": file_digest(query), "good": good, "kind": kind, "when": when}
    line = f"{json.dumps(mark)}\n".encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
                # somebody wrote it by hand, or was killed
                line = line if file.read(1) == b"\n" else b"\n" + line
            if file.write(line) < len(line):
                file.truncate(size)
                raise UserError(f"{path}: the disk is full, so the mark was not kept; make room")
            os.fsync(file.fileno())
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); give another --marks FILE") from None


def read_marks(path: Path) -> dict[str, Mark]:
    """Digest → mark; of several about one picture the last.

    Raises:
        UserError: the file cannot be read, or a line is none of marks.
    """
    found: dict[str, Mark] = {}
    for number, line in read_jsonl(path):
        where = f"{path}:{number}: {shortened(str(line))}"
        query, digest, good, kind = (line.get(name) for name in ("query", "digest", "good", "kind"))
        if not isinstance(query, str) or not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{16,64}", digest):
            raise UserError(f"{where}, expected a mark with `query` and the picture's `digest`")
        if not isinstance(good, bool) or not isinstance(kind or "", str):
            raise UserError(f"{where}, expected `good`: true or false, and `kind` a text")
        found[digest] = Mark(query=query, digest=digest, good=good, kind=(kind or "").strip())
    if not found:
        raise UserError(
            f"{path}: no marks in it; mark pictures on a report page (`adcopilot inspect --report`) or on the demo's "
            f"(`adcopilot demo --marks {path}`)"
        )
    return found


def find_marked(marks: dict[str, Mark], folders: Iterable[Path]) -> list[tuple[Path, Mark]]:
    """Where the marked pictures are: at their paths, or below one of these folders.

    Raises:
        UserError: one is nowhere.
    """
    from ..inspect.pairs import find_images

    left = dict(marks)
    found = []
    for digest, mark in marks.items():
        path = Path(mark.query)
        if path.is_file() and file_digest(path) == digest:
            found.append((path, left.pop(digest)))
    for folder in folders:
        for path in find_images(folder) if left else ():
            digest = file_digest(path)
            if digest in left:
                found.append((path, left.pop(digest)))
    if left:
        one = next(iter(left.values()))
        raise UserError(
            f"{one.query}: {len(left)} of {len(marks)} marked pictures are not there with the same content; copy them "
            "back to where they were"
        )
    return found
