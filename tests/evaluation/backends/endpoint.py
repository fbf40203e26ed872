"""An OpenAI-style endpoint on this machine, whose answers and failures a test decides."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: (status, headers, body) or a body for 200; None breaks the connection off.
Response = tuple[int, dict[str, str], Any] | dict[str, Any] | None


def completion(text: str | None, *, finish: str = "stop", **more: Any) -> dict[str, Any]:
    """A chat completion; `more` goes into its message."""
    message = {"role": "assistant", "content": text, **more}
    return {"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": finish}]}


class Endpoint:
    """`with Endpoint(respond) as endpoint:` serves `endpoint.url`; `respond(body, number)` answers request `number`.

    Args:
        respond: as above.
        models: what it says that it serves, where somebody asks for that (or anything else that is got).

    Attributes:
        bodies: what was asked, in order of arrival.
        headers: the headers of each.
        most: the most requests that were under way at once.
    """

    def __init__(self, respond: Callable[[dict[str, Any], int], Response], *, models: Any = None) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.most = self._running = 0
        lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with lock:
                    number = len(outer.bodies)
                    outer.bodies.append(body)
                    outer.headers.append({name.lower(): value for name, value in self.headers.items()})
                    outer.paths.append(self.path)
                    outer._running += 1
                    outer.most = max(outer.most, outer._running)
                try:
                    response = respond(body, number)
                finally:
                    with lock:
                        outer._running -= 1
                if response is None:
                    self.close_connection = True
                    self.connection.close()
                    return
                self.reply(response)

            def do_GET(self) -> None:
                self.reply(models or (404, {}, b""))

            def reply(self, response: Any) -> None:
                status, headers, content = response if isinstance(response, tuple) else (200, {}, response)
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                try:
                    self.send_response(status)
                    for name, value in {"content-type": "application/json", **headers}.items():
                        self.send_header(name, value)
                    self.send_header("content-length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)
                except OSError:
                    pass  # the client has given up waiting

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Endpoint:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """No further connections."""
        self._server.shutdown()
        self._server.server_close()


def question(body: dict[str, Any]) -> str:
    """The last text of a request."""
    return body["messages"][-1]["content"][-1]["text"]
