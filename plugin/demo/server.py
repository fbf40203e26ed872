"""Runs the page: gradio's own server behind a guard."""

from __future__ import annotations

import os
import signal
import sys
import threading

import gradio as gr
from starlette.middleware import Middleware

from .door.guard import Guard
from .door.throttle import Throttle
from .limits import Limits
from .listening import cannot_listen
from .store import Store
from .words import languages

__all__ = ["serve"]

#: Conversations that are remembered at once; the one that was used longest ago is forgotten.
MOST_SESSIONS = 300


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
    guard = Middleware(Guard, store=store, limits=limits, throttle=Throttle() if auth else None)
    try:
        page.launch(
            server_name=host,
            server_port=port,
            auth=auth or None,
            auth_message="Please log in." if auth else None,
            app_kwargs={"middleware": [guard]},
            max_file_size=limits.upload_bytes,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            show_error=False,  # what our own code raises for visitors (gr.Error) is shown all the same
            show_api=False,
            enable_monitoring=False,
            ssr_mode=False,
            pwa=False,
            i18n=languages(),
            # Gradio's own 10,000 would keep the pictures of thousands of visitors who have left without saying so.
            state_session_capacity=MOST_SESSIONS,
            allowed_paths=[],
            blocked_paths=[str(store.work)],
        )
    except OSError as error:
        raise cannot_listen(host, port, error) from None
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
