"""What stands before gradio: who may come in, with how much, and how often."""

from __future__ import annotations

import asyncio
import math
import re
import sys
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..limits import Limits
from ..store import Store
from .bodies import Body, declared_length
from .throttle import Throttle

__all__ = ["Guard", "where"]

#: Nothing is loaded from, sent to or framed by other hosts. Gradio's page writes scripts and styles into itself.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
#: A file's address that is another host's.
ELSEWHERE = re.compile(r"file[=/]+https?:", re.IGNORECASE)
#: Bytes of a name and a password.
LOGIN_BYTES = 8 << 10
#: Where gradio says whether a request is one of somebody who has logged in.
LOGIN_CHECK = "/gradio_api/login_check"
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


class Guard:
    """ASGI middleware: headers, no redirects or proxies to other hosts, and nothing of a request's body is read before
    it is known to be wanted: by its size, after a login where one is needed, and not too many passwords at a time.

    Args:
        app: gradio's.
        store: is asked whether there is room.
        limits: `unpacked_bytes` hold for one upload, `request_bytes` for any other request.
        throttle: slows wrong passwords; None where nobody logs in.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        store: Store,
        limits: Limits,
        throttle: Throttle | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.app, self.store, self.limits, self.throttle, self.sleep = app, store, limits, throttle, sleep
        self._uploading = 0  # bytes that are on their way

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI wants it."""
        if scope["type"] == "websocket":  # gradio takes messages there before a login; this page has none
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *own]}
            await send(message)

        path = scope["path"].rstrip("/")
        # Gradio redirects to any http(s) address behind `file=`, and forwards to other gradio apps behind `proxy=`. It
        # remembers, for everybody and for ever, the name of an upload whose progress is asked for.
        if "proxy=" in path or ELSEWHERE.search(path) or path.endswith("/upload_progress"):
            await PlainTextResponse("not here", 404)(scope, receive, send_with_headers)
        elif scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._bounded(scope, self.limits.request_bytes, receive, send_with_headers)
        else:
            await self._take(scope, path, receive, send_with_headers)

    async def _take(self, scope: Scope, path: str, receive: Receive, send: Send) -> None:
        """A request with a body."""
        is_login, is_upload = path.endswith("/login"), path.endswith("/upload")
        if not is_login and not await self._is_logged_in(scope):
            await PlainTextResponse("Please log in first.", 401)(scope, receive, send)
            return
        most = LOGIN_BYTES if is_login else self.limits.unpacked_bytes if is_upload else self.limits.request_bytes
        length = declared_length(scope)
        if length is None:
            refusal = PlainTextResponse("Please say how long the request is.", 411)
        elif length > most:
            refusal = PlainTextResponse("That is too much at once. Please add fewer pictures.", 413)
        elif is_upload and self.store.is_full(coming=self._uploading + length):
            refusal = PlainTextResponse("There is no room for more pictures just now. Please try again later.", 507)
        else:
            refusal = None
        if refusal is not None:
            await refusal(scope, receive, send)
        elif is_login and self.throttle is not None:
            await self._log_in(scope, most, receive, send, throttle=self.throttle)
        elif is_upload:
            self._uploading += length
            try:
                # Without its name, which gradio would remember for ever.
                await self._bounded({**scope, "query_string": b""}, most, receive, send)
            finally:
                self._uploading -= length
        else:
            await self._bounded(scope, most, receive, send)

    async def _is_logged_in(self, scope: Scope) -> bool:
        """What gradio says of the request's cookies; always True where there is no login."""
        status = 0

        async def nothing() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def keep(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)

        headers = [(name, value) for name, value in scope["headers"] if name in (b"cookie", b"host")]
        asked = {**scope, "method": "GET", "path": LOGIN_CHECK, "raw_path": LOGIN_CHECK.encode()}
        await self.app({**asked, "query_string": b"", "headers": headers}, nothing, keep)
        return status == 200

    async def _log_in(self, scope: Scope, most: int, receive: Receive, send: Send, *, throttle: Throttle) -> None:
        address = scope["client"][0] if scope.get("client") else ""
        wait = throttle.attempt(address)
        if wait is None:
            again = str(math.ceil(throttle.retry_after(address)) or 1)
            words = "Too many wrong passwords. Please wait a little."
            await PlainTextResponse(words, 429, headers={"retry-after": again})(scope, receive, send)
            return
        if wait:
            await self.sleep(wait)

        async def look(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 200:
                throttle.was_right(address)
            await send(message)

        await self._bounded(scope, most, receive, look)

    async def _bounded(self, scope: Scope, most: int, receive: Receive, send: Send) -> None:
        """Gradio's answer. What goes wrong in it is written down without its message, which may quote the request."""
        body, refusal = Body(scope, receive, send, most=most), None
        try:
            await self.app(scope, body.receive, body.send)
        except Exception as error:
            if not body.is_too_much:
                print(f"server: {where(error)}", file=sys.stderr, flush=True)
                refusal = PlainTextResponse("Something went wrong here.", 500)
        if body.is_too_much:
            refusal = PlainTextResponse("That is too much at once. Please add fewer pictures.", 413)
        if refusal is not None and not body.has_begun:
            await refusal(scope, receive, send)


def where(error: BaseException) -> str:
    """An exception's type and where it was raised, on one line; its message may quote what a visitor sent."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    return f"{type(error).__name__} at " + " < ".join(
        f"{Path(one.filename).name}:{one.lineno} {one.name}" for one in reversed(frames)
    )
