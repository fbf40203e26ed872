"""A stand-in for an OpenAI-style endpoint: it says what the test tells it to, so that pixels can be checked."""

import json
import math
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Stub:
    """What the endpoint says next, and what it was asked."""

    def __init__(self):
        self.url, self.may_answer = "", threading.Event()
        self.reset()

    def reset(self):
        """As at its start."""
        self.text, self.yes, self.status = "No.", 0.2, 200
        self.logprobs = ...  # of "Yes" and "No", instead of those of `yes`; None for an endpoint that tells none
        self.requests = []
        self.may_answer.set()  # so that no question of another test is kept waiting
        self.may_answer = threading.Event()
        self.may_answer.set()


@contextmanager
def endpoint():
    """A running endpoint; the `Stub` that steers it."""
    stub = Stub()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            stub.requests.append(body)
            stub.may_answer.wait()  # as long as the test wants; `reset` after it lets go
            if stub.status != 200:
                self.send_error(stub.status, "secret-host.internal says no")
                return
            logprobs = [math.log(stub.yes), math.log(1 - stub.yes)] if stub.logprobs is ... else stub.logprobs
            words = [
                {"token": token, "logprob": logprob}
                for token, logprob in zip(("Yes", "No"), logprobs or (), strict=False)
            ]
            choice = {"message": {"role": "assistant", "content": stub.text}, "finish_reason": "stop"}
            if body.get("logprobs") and words:
                choice["logprobs"] = {"content": [{**words[0], "top_logprobs": words}]}
            answer = json.dumps({"choices": [choice]}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    stub.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
