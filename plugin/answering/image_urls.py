"""A benchmark's images as data URLs, each made once as long as they fit into a stated number of bytes."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

from PIL import Image

from ..cli.saying import say
from ..endpoint.images import JPEG_QUALITY, file_url, own_kind
from ..errors import UserError
from ..images import image_size
from .items import Item
from .sizing import Sizing

__all__ = ["ROOM", "ImageUrls"]

#: Bytes of data URLs that are kept.
ROOM = 1 << 30


class ImageUrls:
    """Path → data URL, for many threads.

    What `endpoint.images.file_url` encodes again is PNG where `exact`, so that a server finds the same pixels as a
    model on this machine; otherwise JPEG where the file is one, and PNG.

    Args:
        sizing: the resize before sending.
        exact: no loss, whatever the file.
        room: bytes that are kept at most, besides the one that is asked for. Beyond, what is needed last goes first.
    """

    def __init__(self, *, sizing: Sizing, exact: bool, room: int = ROOM) -> None:
        self.sizing, self.exact, self.room = sizing, exact, room
        self._lock = threading.Lock()
        self._urls: dict[Path, Future[str]] = {}
        self._places: dict[Path, deque[int]] = {}
        self._weights: dict[Path, int] = {}
        self._held = 0
        self._said = False

    def describe(self) -> dict[str, int]:
        """What answers depend on besides the sizes."""
        return {} if self.exact else {"jpeg_quality": JPEG_QUALITY}

    def expect(self, items: Sequence[Item]) -> None:
        """Say in which order images will be asked for; what was expected before is forgotten."""
        with self._lock:
            self._places = {}
            for place, item in enumerate(items):
                for path in item.images:
                    self._places.setdefault(path, deque()).append(place)

    def weight(self, path: Path) -> int:
        """About how many bytes a data URL will have, rather more than less, by the file's header."""
        if path not in self._weights:
            try:
                size = image_size(path)
                width, height = self.sizing.sent_size(size)
                unchanged = (width, height) == size and own_kind(path) is not None
                self._weights[path] = path.stat().st_size * 4 // 3 if unchanged else 4 * width * height
            except (UserError, OSError):
                self._weights[path] = 0  # said when it is asked for
        return self._weights[path]

    def __call__(self, path: Path) -> str:
        """The data URL.

        Raises:
            UserError: the image cannot be read.
        """
        with self._lock:
            found = self._urls.get(path)
            own = found is None
            if own:
                found = self._urls[path] = Future()
            if self._places.get(path):
                self._places[path].popleft()
        if own:
            try:
                found.set_result(self.encode(path))
            except BaseException as error:
                with self._lock:
                    del self._urls[path]  # the next question tries again
                found.set_exception(error)
                raise
            with self._lock:
                self._held += len(found.result())
                self._make_room(keep=path)
        return found.result()

    def _make_room(self, *, keep: Path) -> None:
        never = sys.maxsize
        while self._held > self.room:
            done = [path for path, url in self._urls.items() if url.done() and path != keep]
            if not done:
                return
            last = max(done, key=lambda path: self._places[path][0] if self._places.get(path) else never)
            self._held -= len(self._urls.pop(last).result())

    def encode(self, path: Path) -> str:
        """The data URL, made anew.

        Raises:
            UserError: the image cannot be read.
        """

        def resized(image: Image.Image) -> Image.Image:
            sent = self.sizing.apply(image)
            if self.sizing.largest_by_default and sent.size != image.size and not self._said:
                self._said = True
                say(
                    f"images are sent with at most {self.sizing.largest:,} pixels ({path.name} has "
                    f"{image.width * image.height:,}); --image-max-pixels N changes it",
                )
            return sent

        return file_url(path, resize=resized, lossless=lambda _: self.exact or not _is_jpeg(path))[0]


def _is_jpeg(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(3) == b"\xff\xd8\xff"
    except OSError:
        return False
