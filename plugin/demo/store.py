"""Visitors' files: where they lie, whose they are, and that they go away again.

The store is one private temporary folder. `served` holds uploads and what is handed out (gradio serves files from
there and from nowhere else, each under a folder whose name is a hash or random); `work` holds what is only read here,
such as an unpacked zip. A file is deleted when the last visitor who uses it leaves, when nobody has used it for a
while, and when the server ends.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import UserError

__all__ = ["SHOWN", "Store"]

#: The folder, beside a file that no browser shows, with the PNG that is shown instead.
SHOWN = "shown"


class Store:
    """The files of all visitors.

    Args:
        seconds: a file that was not used for so long is deleted.
        stored_bytes: from this much on nothing more is taken.
    """

    def __init__(self, *, seconds: int, stored_bytes: int) -> None:
        self._seconds, self._stored_bytes = seconds, stored_bytes
        self.root = Path(tempfile.mkdtemp(prefix="adcopilot-demo-")).resolve()
        self.served, self.work = self.root / "served", self.root / "work"
        for folder in (self.served, self.work):
            folder.mkdir()
        self._users: dict[Path, set[str]] = {}  # which visitors use a file; gradio stores equal files once
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._sweeper = threading.Thread(target=self._sweep_for_ever, name="store", daemon=True)
        self._sweeper.start()

    def close(self) -> None:
        """Delete everything."""
        self._ended.set()
        shutil.rmtree(self.root, ignore_errors=True)

    def use(self, path: str | os.PathLike, *, visitor: str) -> Path:
        """A visitor's file, which is kept for some time from now on.

        Raises:
            UserError: it is not (any more) among the visitors' files. A path of this machine that somebody sends
                instead of an upload ends here.
        """
        try:
            found = Path(path).resolve(strict=True)
            if not (found.is_file() and found.is_relative_to(self.served)):
                raise FileNotFoundError
            os.utime(found)
        except (OSError, ValueError):
            raise UserError(
                "A picture is no longer here (it may have been too long ago). Please add it again."
            ) from None
        with self._lock:
            self._users.setdefault(found, set()).add(visitor)
        return found

    def original(self, path: str | os.PathLike, *, visitor: str) -> Path:
        """The upload itself, where `path` may be the PNG that is shown instead.

        Raises:
            UserError: as `use`.
        """
        found = self.use(path, visitor=visitor)
        if found.parent.name != SHOWN:
            return found
        uploads = [one for one in found.parent.parent.iterdir() if one.is_file() and one.stem == found.stem]
        return self.use(uploads[0], visitor=visitor) if uploads else found

    def new_file(self, name: str, *, visitor: str) -> Path:
        """Where to write a file that a visitor may download; nobody else can guess its address."""
        folder = self.served / secrets.token_hex(16)
        folder.mkdir()
        path = folder / name
        with self._lock:
            self._users[path] = {visitor}
        return path

    def save(self, picture: Image.Image, name: str, *, visitor: str, **options: Any) -> str:
        """A picture as a file of the visitor's, by `new_file`; gradio would keep its own copy longer.

        Args:
            options: of Pillow's `save`.
        """
        path = self.new_file(name, visitor=visitor)
        picture.save(path, **options)
        return str(path)

    def shown_file(self, found: Path, *, visitor: str) -> Path:
        """Where to write the PNG that is shown instead of a file which no browser shows."""
        path = found.parent / SHOWN / f"{found.stem}.png"
        path.parent.mkdir(exist_ok=True)
        with self._lock:
            self._users.setdefault(path, set()).add(visitor)
        return path

    @contextmanager
    def work_folder(self) -> Iterator[Path]:
        """An empty folder that is not served and goes away at the end of the block."""
        folder = Path(tempfile.mkdtemp(dir=self.work))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def leave(self, visitor: str) -> None:
        """A visitor has left: delete the files that nobody else uses."""
        with self._lock:
            mine = [path for path, users in self._users.items() if visitor in users]
            for path in mine:
                self._users[path].discard(visitor)
                if not self._users[path]:
                    del self._users[path]
                    _delete(path)

    def is_full(self, *, coming: int = 0) -> bool:
        """Whether no more uploads can be taken, so many bytes being on their way."""
        return self.size() + coming >= self._stored_bytes

    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for _, size, _ in self._files())

    def sweep(self) -> None:
        """Delete files that nobody has used for `seconds`."""
        oldest = time.time() - self._seconds
        with self._lock:
            for path, _, used in self._files():
                if used < oldest:
                    self._users.pop(path, None)
                    _delete(path)

    def _files(self) -> Iterator[tuple[Path, int, float]]:
        for folder, _, names in os.walk(self.root):
            for name in names:
                path = Path(folder, name)
                with suppress(OSError):  # deleted meanwhile
                    found = path.stat()
                    yield path, found.st_size, found.st_mtime

    def _sweep_for_ever(self) -> None:
        while not self._ended.wait(min(60, self._seconds)):
            self.sweep()


def _delete(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
        path.parent.rmdir()  # if it was the last file in it
        if path.parent.name == SHOWN:
            path.parent.parent.rmdir()
