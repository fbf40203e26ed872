"""Append-only JSON lines with content keys: the one form of resumable work in this package.

A record is on disk (fsync) before the next one is started, a resumed run skips the keys it finds, and nothing is ever
rewritten. A process killed in the middle of a line leaves a torn last line: the next one to open the file cuts it off
and does that item again.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from .errors import UserError

try:
    import fcntl
except ImportError:  # Windows: two writers on one file are not noticed there
    fcntl = None

__all__ = ["JsonlLog", "atomic_write", "content_key", "file_digest", "read_jsonl", "write_jsonl"]


def content_key(*parts: Any) -> str:
    """32 hexadecimal digits that depend on the JSON content of `parts` alone (dictionaries in any order)."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def file_digest(path: str | os.PathLike) -> str:
    """SHA-256 of a file's bytes, hexadecimal.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError) as error:
        raise UserError(f"{os.fspath(path)}: cannot be read ({_reason(error)}); check the path") from None


def atomic_write(path: str | os.PathLike, write: Callable[[BinaryIO], Any]) -> None:
    """Let `write(file)` fill a temporary file beside `path`, then rename it: readers see all of it or none.

    Raises:
        UserError: the folder cannot be written to, or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        try:
            with open(handle, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())  # mkstemp's 0600 would hide results from a colleague
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({_reason(error)})") from error


def write_jsonl(path: str | os.PathLike, records: Iterable[dict]) -> None:
    """Write a whole file of JSON lines atomically."""
    atomic_write(path, lambda file: file.writelines(map(_line, records)))


def read_jsonl(path: str | os.PathLike) -> Iterator[tuple[int, dict]]:
    """Yield `(line number from 1, record)`; empty lines are passed over.

    Raises:
        UserError: the file cannot be read, or a line is not a JSON object; it names the line.
    """
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, _parse(line, f"{os.fspath(path)}:{number}")
    except OSError as error:
        raise UserError(f"{os.fspath(path)}: cannot be read ({_reason(error)}); check the path") from None


class JsonlLog:
    """An open log: `append` records, ask for the keys that are already there.

    Use as a context manager. One process at a time may hold a log (an advisory lock says so to a second one).

    Args:
        path: the file; made, with its folders, when absent.
        key: the field of each record that identifies it.

    Raises:
        UserError: the file cannot be opened, another process holds it, or a line other than the last is no JSON object
            with `key`.
    """

    def __init__(self, *, path: str | os.PathLike, key: str = "key") -> None:
        self.path = Path(path)
        self.key = key
        self._keys: set[str] = set()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "a+b")  # noqa: SIM115 - closed in close()
        except OSError as error:
            raise UserError(f"{self.path}: cannot be opened for writing ({_reason(error)})") from None
        try:
            self._lock()
            self._recover()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> JsonlLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def append(self, *records: dict) -> None:
        """Write records and return only when they are on the disk. A key already present is refused.

        Raises:
            ValueError: a key is missing or already in the file.
            UserError: the disk is full or gone.
        """
        keys = [record.get(self.key) for record in records]
        for index, key in enumerate(keys):
            if not isinstance(key, str) or key in self._keys or key in keys[:index]:
                raise ValueError(f"{self.path}: {self.key} {key!r} is missing or already there")
        try:
            self._file.write(b"".join(map(_line, records)))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({_reason(error)}); what is in it is kept") from error
        self._keys.update(keys)

    def records(self) -> Iterator[dict]:
        """Yield what is in the file, in order."""
        for _, record in read_jsonl(self.path):
            yield record

    def close(self) -> None:
        """Close the file and release the lock."""
        self._file.close()

    def _lock(self) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{self.path}: another process is writing to it; wait for it or use another file"
            ) from None
        except OSError:  # some network file systems have no locks
            pass

    def _recover(self) -> None:
        """Collect the keys; cut off a torn last line, or end a whole one that lost only its newline."""
        self._file.seek(0)
        end = 0
        for number, line in enumerate(self._file, 1):
            if line.endswith(b"\n"):
                if line.strip():
                    self._remember(_parse(line, f"{self.path}:{number}"), number)
                end += len(line)
                continue
            try:
                self._remember(_parse(line, ""), number)
            except UserError:
                self._file.truncate(end)
            else:
                self._file.write(b"\n")
            self._file.flush()

    def _remember(self, record: dict, number: int) -> None:
        key = record.get(self.key)
        if not isinstance(key, str):
            raise UserError(
                f"{self.path}:{number}: has no {self.key!r}; it was not written by this command, choose another file"
            )
        self._keys.add(key)


def _line(record: dict) -> bytes:
    # A lone surrogate (a file name that is not UTF-8) is escaped instead of failing at the encoder.
    text = json.dumps(record, ensure_ascii=False, allow_nan=False)
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(record, allow_nan=False).encode() + b"\n"


def _parse(line: bytes, where: str) -> dict:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where}: not JSON ({_reason(error)}); remove or repair this line") from None
    if not isinstance(record, dict):
        raise UserError(f"{where}: expected a JSON object, got {type(record).__name__}; remove or repair this line")
    return record


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split())
