"""Fetch images that a data set names by URL: in parallel, limited in size and time, each once, results kept.

    FOLDER/ab/abcdef….jpg     the file as the server sent it, by the SHA-256 of its URL
    FOLDER/fetched.jsonl      each URL that was tried, with the file or the reason why there is none

A second run asks for nothing that is in the log, so it draws the same images even after more links have died.
"""

from __future__ import annotations

import hashlib
import io
import ipaddress
import os
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from PIL import Image

from ... import __version__
from ...errors import UserError
from ...images import FORMATS, open_image
from ...jsonl import JsonlLog, read_jsonl

__all__ = ["Fetched", "Fetcher", "is_web_url", "url_key"]

_SUFFIXES = {
    "PNG": ".png",
    "JPEG": ".jpg",
    "MPO": ".jpg",
    "WEBP": ".webp",
    "BMP": ".bmp",
    "GIF": ".gif",
    "TIFF": ".tif",
}
#: A server that sends a byte now and then must not hold a worker for ever.
FILE_TIMEOUTS = 10
#: For errors that may pass (no connection, 408, 429, 5xx).
TRIES = 3
_LONGEST_WAIT = 30.0  # seconds that a server may ask us to wait before another try


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What became of a URL: `file` relative to the folder, or "" and the `reason`."""

    file: str
    reason: str = ""


class Fetcher:
    """Use as a context manager; `get` may be called from several threads.

    Args:
        folder: where files and log go.
        download: ask servers; without it only what the log has is known.
        retry_failed: ask again for what failed in an earlier run.
        timeout: seconds for a connection and for each read; a file takes `FILE_TIMEOUTS` times as long at most.
        max_bytes: a larger file is refused.
        private_hosts: also servers on private or local addresses; URLs come from the data set, and should not make
            this machine ask its own network.

    Raises:
        UserError: the folder cannot be written to, or another process is downloading into it.
    """

    def __init__(
        self,
        *,
        folder: Path,
        download: bool,
        retry_failed: bool = False,
        timeout: float = 20.0,
        max_bytes: int = 50_000_000,
        private_hosts: bool = False,
    ) -> None:
        self.folder = folder
        self._max_bytes, self._private_hosts = max_bytes, private_hosts
        self._lock = threading.Lock()
        self._known: dict[str, Fetched] = {}
        self._tried_now: set[str] = set()
        self._retry_failed = retry_failed
        self._log, self._client = None, None
        path = folder / "fetched.jsonl"
        if download:
            self._log = JsonlLog(path=path, key="try")
            self._client = {
                "timeout": timeout,
                "follow_redirects": True,
                "max_redirects": 5,
                "headers": {"User-Agent": f"adcopilot/{__version__} (data set download)"},
                "event_hooks": {"request": [self._check_host]},
            }
            self._seconds = FILE_TIMEOUTS * timeout
        for _, line in read_jsonl(path) if path.is_file() else ():
            self._known[line["key"]] = Fetched(file=line["file"], reason=line["reason"])

    def __enter__(self) -> Fetcher:
        return self

    def __exit__(self, *_: object) -> None:
        if self._log is not None:
            self._log.close()

    @property
    def downloads(self) -> bool:
        """Whether it asks servers."""
        return self._client is not None

    def known(self, url: str) -> Fetched | None:
        """What is known of a URL without asking; None when it would have to be asked for."""
        key = url_key(url)
        found = self._known.get(key)
        again = found and not found.file and self._retry_failed and self._client and key not in self._tried_now
        return None if again else found

    def get(self, url: str) -> Fetched:
        """Fetch a URL unless it is known already.

        Raises:
            UserError: the disk is full. What a server does is no error, but a `Fetched` with a reason.
        """
        found = self.known(url)
        if found is not None:
            return found
        if self._client is None:
            return Fetched(file="", reason="not downloaded")
        key = url_key(url)
        try:
            content = self._ask(url)
            suffix = _suffix(content)
            found = Fetched(file=f"{key[:2]}/{key}{suffix}")
            self._write(found.file, content)
        except _Unusable as reason:
            found = Fetched(file="", reason=str(reason))
        with self._lock:
            self._known[key] = found
            self._tried_now.add(key)
            # A key of its own for each try: the log only grows.
            line = {"try": f"{key}/{len(self._log)}", "key": key, "url": url}
            self._log.append(line | {"file": found.file, "reason": found.reason})
        return found

    def _ask(self, url: str) -> bytes:
        import httpx

        from ...endpoint.exchange import TooLarge, exchange_now

        for attempt in range(1, TRIES + 1):
            wait = min(2.0 ** (attempt - 1), _LONGEST_WAIT)
            try:
                response = exchange_now(
                    "GET", url, client=self._client, seconds=self._seconds, most_bytes=self._max_bytes
                )
                if response.status_code == 200:
                    return response.content
                reason = f"HTTP {response.status_code}"
                if response.status_code not in (408, 429) and response.status_code < 500:
                    raise _Unusable(reason)
                asked = response.headers.get("retry-after", "")
                wait = min(float(asked), _LONGEST_WAIT) if asked.isdigit() else wait
            except TooLarge:
                raise _Unusable(f"larger than {self._max_bytes} bytes") from None
            except (httpx.TimeoutException, TimeoutError):
                reason = "time-out"
            except httpx.TransportError as error:
                reason = f"no connection ({type(error).__name__})"
            except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
                raise _Unusable(f"{type(error).__name__}: {error!s:.100}") from None
            if attempt < TRIES:
                time.sleep(wait)
        raise _Unusable(reason)

    async def _check_host(self, request) -> None:
        """Called before each request, so for each redirect too."""
        if self._private_hosts:
            return
        try:
            found = socket.getaddrinfo(request.url.host, None)
        except (OSError, UnicodeError):
            return  # the request itself will say so, or a proxy knows the name
        for *_, address in found:
            if not ipaddress.ip_address(address[0].partition("%")[0]).is_global:
                raise _Unusable(f"{request.url.host} is a private address")

    def _write(self, name: str, content: bytes) -> None:
        path = self.folder / name
        temporary = path.with_name(f".{path.name}.{threading.get_ident()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(content)
            os.replace(temporary, path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise UserError(f"{path}: cannot be written ({error.strerror or error}); free some space") from None


class _Unusable(Exception):
    """Why a URL gives no image."""


def url_key(url: str) -> str:
    """The name of a URL's file without suffix."""
    return hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()


def is_web_url(url: object) -> bool:
    """Whether something is an http or https URL with a host."""
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
    except ValueError:
        return False
    return bool(parts and parts.scheme in ("http", "https") and parts.hostname)


def _suffix(content: bytes) -> str:
    """The suffix for a file that decodes to the end."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            suffix = _SUFFIXES.get(image.format or "")
        if suffix is None:
            raise _Unusable(f"an image of format {image.format}")
        open_image(content, name="image")
    except _Unusable:
        raise
    except Exception as error:  # HTML, half a file, a decompression bomb
        raise _Unusable(f"not a usable image ({error!s:.100})") from None
    return suffix
