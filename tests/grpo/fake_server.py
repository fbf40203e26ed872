"""A stand-in for `vllm serve` that answers as told: it checks requests as vLLM does and misbehaves on demand."""

import json
import threading
from collections.abc import Callable
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class FakeServer:
    """State of a server.

    Attributes:
        answer: request's body -> (status, body as a dictionary, text or bytes); by default `n` completions of the ids
            `[10 + choice, 2]`.
        prompt_ids: what it says the prompt's tokens are.
        requests: (path, body) of all requests.
        adapters: loaded ones, name -> folder.
        healthy: what /health says.
    """

    def __init__(self, prompt_ids: list[int]) -> None:
        self.prompt_ids = prompt_ids
        self.answer: Callable[[dict], tuple] = self.completions
        self.requests: list[tuple[str, dict]] = []
        self.adapters: dict[str, str] = {}
        self.healthy = True
        self.lock = threading.Lock()
        self.http: ThreadingHTTPServer | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def completions(self, body: dict) -> tuple:
        choices = [{"index": k, "token_ids": [10 + k, 2], "finish_reason": "stop"} for k in range(body["n"])]
        return 200, {"prompt_token_ids": self.prompt_ids, "choices": choices}

    def asked(self, path: str = "/v1/chat/completions") -> list[dict]:
        return [body for where, body in self.requests if where == path]

    def start(self) -> None:
        state = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def reply(self, status, body):
                data = (
                    body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
                )
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self):
                self.reply(200 if state.healthy else 503, "")

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with state.lock:
                    state.requests.append((self.path, body))
                if self.path == "/v1/load_lora_adapter":
                    if not Path(body["lora_path"], "adapter_config.json").is_file():
                        self.reply(404, {"error": {"message": f"No adapter found for {body['lora_path']}"}})
                    elif body["lora_name"] in state.adapters:
                        self.reply(400, {"error": {"message": "The lora adapter has already been loaded."}})
                    else:
                        state.adapters[body["lora_name"]] = body["lora_path"]
                        self.reply(200, "Success")
                elif self.path == "/v1/unload_lora_adapter":
                    self.reply(200 if state.adapters.pop(body["lora_name"], None) else 404, "")
                elif body["model"] not in state.adapters:
                    self.reply(404, {"error": {"message": f"The model `{body['model']}` does not exist."}})
                else:
                    found = state.answer(body)
                    if found is None:  # the connection breaks
                        self.connection.close()
                        return
                    self.reply(*found)

        self.http = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.http.daemon_threads = True
        self.port = self.http.server_port
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """The process is gone, and with it the adapters it had."""
        if self.http is not None:
            self.http.shutdown()
            self.http.server_close()
            self.http = None
        self.adapters.clear()


@contextmanager
def running(*servers: FakeServer):
    try:
        for server in servers:
            server.start()
        yield servers
    finally:
        for server in servers:
            server.stop()
