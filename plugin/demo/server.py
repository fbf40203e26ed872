"""Runs the page: gradio's own server behind a guard."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from typing import Any

import gradio as gr
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import UserError
from .limits import Limits
from .store import Store

__all__ = ["Guard", "serve"]

#: Nothing is loaded from, sent to or framed by other hosts. Gradio's page writes scripts and styles into itself.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
#: Conversations that are remembered at once; the one that was used longest ago is forgotten.
MOST_SESSIONS = 300
#: A file's address that is another host's.
ELSEWHERE = re.compile(r"file[=/]+https?:", re.IGNORECASE)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


class Guard:
    """ASGI middleware: headers, no redirects or proxies to other hosts, no uploads beyond the limits.

    Args:
        app: gradio's.
        store: is asked whether there is room.
        limits: `unpacked_bytes` hold for one request.
    """

    def __init__(self, app: ASGIApp, *, store: Store, limits: Limits) -> None:
        self.app, self.store, self.limits = app, store, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI wants it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *own]}
            await send(message)

        refusal = self._refusal(scope)
        app = self.app if refusal is None else refusal
        await app(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        path = scope["path"]
        # Gradio redirects to any http(s) address behind `file=`, and forwards to other gradio apps behind `proxy=`.
        if "proxy=" in path or ELSEWHERE.search(path):
            return PlainTextResponse("not here", 404)
        if scope["method"] != "POST":
            return None
        length = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        if not length.isdigit():
            return PlainTextResponse("Please say how long the request is.", 411)
        if int(length) > self.limits.unpacked_bytes:
            return PlainTextResponse("That is too much at once. Please add fewer pictures.", 413)
        if path.rstrip("/").endswith("/upload") and self.store.is_full():
            return PlainTextResponse("There is no room for more pictures just now. Please try again later.", 507)
        return None


def serve(
    page: gr.Blocks, *, store: Store, limits: Limits, host: str, port: int | None, auth: list[tuple[str, str]]
) -> None:
    """Serve a page until SIGINT or SIGTERM.

    Args:
        page: as `build_page` makes it.
        store: its files.
        limits: how much visitors may bring.
        host, port: where to listen; without a port, the first free one from 7860 on.
        auth: (name, password) of those who may use the page; empty for everybody who can reach it.

    Raises:
        UserError: the port is taken, or the host is none of this machine's.
    """
    # launch() asks the page it has just started, and would ask a proxy of the environment instead.
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1", "localhost", host]))
    options: dict[str, Any] = {"middleware": [Middleware(Guard, store=store, limits=limits)]}
    try:
        page.launch(
            server_name=host,
            server_port=port,
            auth=auth or None,
            auth_message="Please log in." if auth else None,
            app_kwargs=options,
            max_file_size=limits.upload_bytes,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            show_error=False,  # what our own code raises for visitors (gr.Error) is shown all the same
            show_api=False,
            enable_monitoring=False,
            ssr_mode=False,
            pwa=False,
            # Gradio's own 10,000 would keep the pictures of thousands of visitors who have left without saying so.
            state_session_capacity=MOST_SESSIONS,
            allowed_paths=[],
            blocked_paths=[str(store.work)],
        )
    except OSError as error:
        raise UserError(
            f"--host {host}, --port {port or 'any'}: cannot listen there ({error}); choose another"
        ) from None
    print(f"Open {page.local_url} in a browser. Ctrl-C ends it.", flush=True)
    if not host.startswith("127.") and host != "localhost" and not auth:
        print(
            "warning: everybody who can reach this machine can use the page; --auth asks for a password",
            file=sys.stderr,
        )
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()
    page.close(verbose=False)
