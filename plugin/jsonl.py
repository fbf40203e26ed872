"""Append-only JSON lines with content keys: the one form of resumable work in this package.

A record is on disk (fsync) before the next one is started, a resumed run skips the keys it finds, and nothing is ever
rewritten. A process killed in the middle of a line leaves a torn last line: the next one to open the file cuts it off
and does that item again.
"""

from __future__ import annotations

import codecs
import hashlib
import io
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from .errors import UserError, reason_of
from .files import not_a_file

try:
    import fcntl
except ImportError:  # Windows: two writers on one file are not noticed there
    fcntl = None

__all__ = [
    "JsonlLog",
    "atomic_write",
    "content_key",
    "file_digest",
    "read_jsonl",
    "write_json",
    "write_jsonl",
    "write_text",
]

#: A longer whole number is no float any more.
_MOST_DIGITS = 300


def content_key(*parts: Any) -> str:
    """32 hexadecimal digits that depend on the JSON content of `parts` alone (dictionaries in any order)."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    # A file name that is not UTF-8 holds lone surrogates.
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:32]


def file_digest(path: str | os.PathLike) -> str:
    """SHA-256 of a file's bytes, hexadecimal.

    Raises:
        UserError: the file cannot be read, or is a pipe or a device, which may never end.
    """
    try:
        info = os.stat(path)
        if kind := not_a_file(info):
            raise UserError(f"{os.fspath(path)}: is {kind}, expected a file; check the path")
        if not info.st_size:  # not opened: files of the kernel (a link to /proc/kmsg) say so too, and may never end
            return hashlib.sha256().hexdigest()
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except UserError:
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"{os.fspath(path)}: cannot be read ({reason_of(error)}); check the path") from None


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
        raise UserError(f"{path}: cannot be written ({reason_of(error)})") from error


def write_text(path: str | os.PathLike, text: str, *, errors: str = "strict") -> None:
    """Write a file of text by `atomic_write`; `errors`, as `str.encode` has them, are names that no UTF-8 can hold."""
    atomic_write(path, lambda file: file.write(text.encode(errors=errors)))


def write_json(path: str | os.PathLike, value: Any, *, indent: int | None = 2, **options: Any) -> None:
    """Write a JSON file by `atomic_write`, readable; further `options` are those of `json.dumps`."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, **options) + "\n"
    write_text(path, text, errors="backslashreplace")


def write_jsonl(path: str | os.PathLike, records: Iterable[dict]) -> None:
    """Write a whole file of JSON lines atomically."""
    atomic_write(path, lambda file: file.writelines(map(_line, records)))


def read_jsonl(path: str | os.PathLike) -> Iterator[tuple[int, dict]]:
    """Yield `(line number from 1, record)`; empty lines are passed over, and a byte order mark at the start.

    Raises:
        UserError: the file cannot be read, or a line is not a JSON object (NaN and Infinity are not JSON, nor are
            numbers too large for a float); it names the line.
    """
    path = os.fspath(path)
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
                if line.strip():
                    yield number, _parse(line, f"{path}:{number}")
    except UserError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise UserError(f"{path}: cannot be read ({reason_of(error)}); check the path") from None


class JsonlLog:
    """An open log: `append` records, ask for the keys that are already there.

    Use as a context manager. One process at a time may hold a log (an advisory lock says so to a second one). What was
    appended is also looked for: a file that somebody removes, renames, replaces or cuts while it is open is an error
    at the next `append`, or at the end.

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
            if kind := self.path.exists() and not_a_file(self.path.stat()):
                raise UserError(f"{self.path}: is {kind}, expected a file or a new name")
            # Without a buffer, which would hold what did not fit on a full disk and try it again while closing.
            self._file = open(self.path, "a+b", buffering=0)  # noqa: SIM115 - closed in close()
        except UserError:
            raise
        except (OSError, ValueError) as error:
            raise UserError(f"{self.path}: cannot be opened for writing ({reason_of(error)})") from None
        try:
            self._lock()
            self._recover()
            self._size = os.fstat(self._file.fileno()).st_size
            # Some network file systems give a file another number each time that it is asked for.
            self._numbered = self._same_number()
        except OSError as error:
            self._file.close()
            raise UserError(f"{self.path}: cannot be used as a log ({reason_of(error)}); name another file") from None
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> JsonlLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:  # what has gone wrong already is what counts
            self._file.close()

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def append(self, *records: dict) -> None:
        """Write records and return only when they are on the disk. A key already present is refused.

        Raises:
            ValueError: a key is missing or already in the file.
            UserError: the disk is full or gone, or the file is no longer where it was.
        """
        keys = [record.get(self.key) for record in records]
        for index, key in enumerate(keys):
            if not isinstance(key, str) or key in self._keys or key in keys[:index]:
                raise ValueError(f"{self.path}: {self.key} {key!r} is missing or already there")
        data = b"".join(map(_line, records))
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            with suppress(OSError):  # the next record must not follow half a line
                self._file.truncate(self._size)
            raise UserError(f"{self.path}: cannot be written ({reason_of(error)}); what is in it is kept") from error
        self._size += len(data)
        self._check_place()
        self._keys.update(keys)

    def records(self) -> Iterator[dict]:
        """Yield what is in the file, in order."""
        for _, record in read_jsonl(self.path):
            yield record

    def close(self) -> None:
        """Close the file and release the lock.

        Raises:
            UserError: the file is no longer where it was, or the disk refuses what was written.
        """
        if self._file.closed:
            return
        try:
            self._check_place()
            self._file.close()
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({reason_of(error)})") from error
        finally:
            self._file.close()

    def _same_number(self) -> bool:
        mine, there = os.fstat(self._file.fileno()), os.stat(self.path)
        return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)

    def _check_place(self) -> None:
        """Refuse to go on where the path has another file than the open one, or less of it than was written."""
        try:
            if self._numbered and not self._same_number():
                what = "was replaced by another file"
            elif os.fstat(self._file.fileno()).st_size < self._size:
                what = "was cut"
            else:
                return
        except OSError as error:
            what = f"was removed or renamed ({reason_of(error)})"
        raise UserError(
            f"{self.path}: {what} while this command was writing to it, so results are not in it; start the command "
            "again, and leave the file where it is until it ends"
        )

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
        reader = io.BufferedReader(self._file)
        try:
            end, last, number = 0, b"", 0
            for number, line in enumerate(reader, 1):
                end += len(line)
                line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
                if not line.endswith(b"\n"):
                    last = line
                elif line.strip():
                    self._remember(_parse(line, f"{self.path}:{number}"), number)
        finally:
            reader.detach()  # it would close the file with itself
        if not last:
            return
        try:
            record = _parse(last, f"{self.path}:{number}")
        except UserError:
            if last.lstrip(b" \0")[:1] not in (b"", b"{"):
                raise  # never a line of a log: somebody's own file was named by mistake
            self._file.truncate(end - len(last))
        else:
            self._remember(record, number)
            self._file.write(b"\n")

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
        record = json.loads(line, parse_constant=_refuse_number, parse_float=_float, parse_int=_int)
    except RecursionError:
        raise UserError(f"{where}: JSON nested too deeply; remove or repair this line") from None
    except ValueError as error:
        raise UserError(f"{where}: not JSON ({reason_of(error)}); remove or repair this line") from None
    if not isinstance(record, dict):
        raise UserError(f"{where}: expected a JSON object, got {type(record).__name__}; remove or repair this line")
    return record


def _refuse_number(text: str) -> NoReturn:
    shown = text if len(text) <= 20 else f"{text[:17]}…"
    raise ValueError(f"{shown} is no number of JSON's, or too large for one")


def _float(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse_number(text)


def _int(text: str) -> int:
    return int(text) if len(text) <= _MOST_DIGITS else _refuse_number(text)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
