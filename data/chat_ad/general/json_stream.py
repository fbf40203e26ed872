"""Read the items of a large JSON list one by one, in memory that does not grow with the file.

Python's own decoder parses each item out of a window of the text, so this is as fast as `json.load` and needs no
further package. JSON lines are read too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from ...errors import UserError, reason_of
from ...jsonl import read_jsonl

__all__ = ["json_items"]

_CHUNK = 1 << 22  # characters
_MAX_ITEM = 1 << 26  # characters; the longest conversation of the published sets has a few hundred thousand


def json_items(path: str | os.PathLike) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield `(number from 1, object)` for a list of objects, or for JSON lines.

    Raises:
        UserError: the file cannot be read, is neither, ends too early, or an item is no object; it names the item.
    """
    path = Path(path)
    try:
        with open(path, encoding="utf-8-sig") as file:
            start = file.read(_CHUNK)
            while start.isspace():
                start = file.read(_CHUNK)
            kind = start.lstrip()[:1]
            if kind == "[":
                yield from _list_items(file, start, path)
                return
    except (OSError, UnicodeDecodeError) as error:
        remedy = "copy it again"
        if isinstance(error, UnicodeDecodeError) and error.object[:2] in (b"\xff\xfe", b"\xfe\xff"):
            remedy = "it is UTF-16: convert it with `iconv -f UTF-16 -t UTF-8 OLD > NEW`"
        raise UserError(f"{path}: cannot be read ({reason_of(error)}), expected JSON in UTF-8; {remedy}") from None
    if kind != "{":
        raise UserError(f"{path}: starts with {start.lstrip()[:20]!r}, expected a JSON list of objects; copy it again")
    yield from read_jsonl(path)


def _list_items(file: TextIO, text: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    decoder = json.JSONDecoder()
    at = text.index("[") + 1
    before = 0  # characters already dropped from the window
    number = 0
    want_comma = False
    while True:
        at, text, before, there = _next_character(file, text, at, before)
        where = f"{path}: item {number + 1} (character {before + at})"
        if not there:
            raise UserError(f"{where}: the file ends inside its list, expected ']'; it was not copied whole")
        if text[at] == "]":
            break
        if want_comma:
            if text[at] != ",":
                raise UserError(f"{where}: {text[at : at + 20]!r}, expected ',' or ']'; repair or copy the file again")
            want_comma, at = False, at + 1
            continue
        if text[at] != "{":
            raise UserError(f"{where}: {text[at : at + 20]!r}, expected a JSON object; repair or copy the file again")
        while True:
            try:
                item, end = decoder.raw_decode(text, at)
                break
            except RecursionError:
                raise UserError(f"{where}: nested too deeply to be a sample; repair the file") from None
            except json.JSONDecodeError as error:
                more = "" if _is_certain(error, text) or len(text) - at > _MAX_ITEM else file.read(_CHUNK)
                if not more:
                    raise UserError(f"{where}: not JSON ({error.msg}); repair the file, or copy it again") from None
                text, before, at = text[at:] + more, before + at, 0
        number += 1
        yield number, item
        want_comma, at = True, end
    at, text, before, there = _next_character(file, text, at + 1, before)
    if there:
        raise UserError(f"{path}: {text[at : at + 20]!r} after the list's end, expected nothing; repair the file")


def _next_character(file: TextIO, text: str, at: int, before: int) -> tuple[int, str, int, bool]:
    """Move to the next character that is not white space, reading on at the window's end."""
    while True:
        while at < len(text) and text[at] in " \t\r\n":
            at += 1
        if at < len(text):
            return at, text, before, True
        before, at, text = before + len(text), 0, file.read(_CHUNK)
        if not text:
            return 0, "", before, False


def _is_certain(error: json.JSONDecodeError, text: str) -> bool:
    """Whether more text cannot cure this error: it lies well before the window's end."""
    return not error.msg.startswith("Unterminated string") and error.pos < len(text) - 16
