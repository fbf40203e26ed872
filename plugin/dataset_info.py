"""LlamaFactory's `dataset_info.json`: entries for Chat-AD records, added so that nothing else in the file changes."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .errors import UserError, reason_of
from .jsonl import write_json

try:
    import fcntl
except ImportError:  # Windows: two processes that register at the same moment are not kept apart there
    fcntl = None

__all__ = ["BOM", "add_entries", "entry", "first_bytes", "read_entries"]

#: The byte order mark of UTF-8, which editors on Windows write and LlamaFactory's readers stop at.
BOM = b"\xef\xbb\xbf"


def entry(file_name: str, *, images: bool = True) -> dict[str, Any]:
    """The entry for a file of Chat-AD records.

    Args:
        file_name: relative to the folder of `dataset_info.json`.
        images: whether the records have the field; a column that does not exist would stop LlamaFactory.
    """
    return {
        "file_name": file_name,
        "formatting": "sharegpt",
        "columns": {"messages": "messages", "images": "images"} if images else {"messages": "messages"},
        "tags": {
            "role_tag": "role",
            "content_tag": "content",
            "user_tag": "user",
            "assistant_tag": "assistant",
            # Without it, LlamaFactory drops every sample that begins with a system message.
            "system_tag": "system",
        },
    }


def first_bytes(path: Path) -> bytes:
    """The first three bytes of a file, where a byte order mark stands.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read(3)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({reason_of(error)}); check the path") from None


def read_entries(path: Path) -> dict[str, Any]:
    """What a `dataset_info.json` registers; nothing when there is no such file.

    Raises:
        UserError: it cannot be read, or is no JSON object of objects.
    """
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UserError(f"{path}: cannot be read ({reason}), expected LlamaFactory's registrations") from None
    try:
        found = json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        raise UserError(f"{path}: nested too deeply for LlamaFactory's registrations; repair it") from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}), expected LlamaFactory's registrations; repair it") from None
    if not isinstance(found, dict) or not all(isinstance(value, dict) for value in found.values()):
        raise UserError(f"{path}: not a JSON object of objects, expected LlamaFactory's registrations; repair it")
    return found


def add_entries(path: Path, entries: Mapping[str, Mapping[str, Any]], *, replace: bool = False) -> list[str]:
    """Register data sets; the file is replaced in one step, and every other entry stays as it was.

    Args:
        path: the `dataset_info.json`, made when absent.
        entries: by name.
        replace: also over an entry of that name which says something else.

    Returns:
        The names that were added or changed.

    Raises:
        UserError: the file is broken or cannot be written, a name cannot be one, or is taken.
    """
    for name in entries:
        if not name or name != name.strip() or "," in name or any(char.isspace() for char in name):
            raise UserError(
                f"data set name {name!r}: LlamaFactory splits lists of names at commas and white space; choose another"
            )
    with _locked(path):
        found = read_entries(path)
        for name, value in entries.items():
            if name in found and found[name] != value and not replace:
                raise UserError(
                    f"{path}: {name} is registered already, for {found[name].get('file_name', 'something else')}; "
                    "choose another name, or add --replace"
                )
        changed = [name for name, value in entries.items() if found.get(name) != value]
        if changed:
            write_json(path, found | {name: dict(entries[name]) for name in changed})
    return changed


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keeps two converters that end at the same moment from losing each other's entry."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The folder is locked: the file itself is replaced, and a lock file would be left behind.
        handle = os.open(path.parent, os.O_RDONLY) if fcntl else None
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({reason_of(error)})") from None
    try:
        if handle is not None:
            with contextlib.suppress(OSError):  # some network file systems have no locks
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # json keeps the last of two equal keys; writing that back would delete the first.
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} stands there twice")
    return found
