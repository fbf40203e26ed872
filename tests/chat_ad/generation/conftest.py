"""Pairs with images on disk, and an endpoint of our own that can misbehave in every way."""

import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from adcopilot.chat_ad.generation import PairView, PromptFiles
from adcopilot.chat_ad.generation.words import Words


def make_pair(number=0, **changes):
    """An anomalous pair of 300×200 pixels with a scratch at the top left, without files."""
    given = {
        "key": f"pair{number}",
        "images": (f"images/{number}_template.png", f"images/{number}_query.png"),
        "size": (300, 200),
        "category": "metal_nut",
        "source": "mvtec",
        "anomalous": True,
        "defect": "scratch",
        "boxes": ((20, 10, 60, 30),),
        "labels": ("scratch",),
        "other_defects": ("bent", "color", "flip"),
    }
    return PairView(**{**given, **changes})


def make_normal(number=0, **changes):
    """A normal pair."""
    return make_pair(number, **{"anomalous": False, "defect": "", "boxes": (), "labels": (), **changes})


@pytest.fixture(scope="session")
def prompts():
    return PromptFiles()


@pytest.fixture(scope="session")
def words(prompts):
    return Words(prompts=prompts)


@pytest.fixture
def on_disk(tmp_path):
    """A function that writes a pair's images (each its own content) and returns it with its root."""

    def write(number=0, **changes):
        pair = make_normal(number, **changes) if changes.get("anomalous") is False else make_pair(number, **changes)
        rng = np.random.default_rng(number)
        for name in (*pair.images, *([pair.marked] if pair.marked else [])):
            path = tmp_path / "media" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (pair.size[1], pair.size[0], 3), np.uint8)).save(path)
        return PairView(
            **{**{f: getattr(pair, f) for f in pair.__dataclass_fields__}, "root": str(tmp_path / "media")}
        )

    return write


class Endpoint:
    """A local endpoint. Each request is answered by the next of `script`, or honestly when that is empty.

    A step of the script is a function of the request's body, giving (status, headers, bytes), or None for an honest
    answer. `requests` keeps (headers, body) of everything that came.
    """

    def __init__(self):
        self.script = []
        self.requests = []
        self.always = None
        self.under_way = self.most_under_way = 0
        self.delay = 0.0
        self._lock = threading.Lock()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with endpoint._lock:
                    endpoint.requests.append((time.monotonic(), dict(self.headers), body))
                    step = endpoint.script.pop(0) if endpoint.script else endpoint.always
                    endpoint.under_way += 1
                    endpoint.most_under_way = max(endpoint.most_under_way, endpoint.under_way)
                time.sleep(endpoint.delay)
                try:
                    status, headers, content = (step(body) if step else None) or honest(body)
                finally:
                    with endpoint._lock:
                        endpoint.under_way -= 1
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                try:
                    self.wfile.write(content)
                except OSError:  # the client has given up
                    self.close_connection = True

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


def prompt_of(body):
    """The text of a request."""
    return body["messages"][1]["content"][-1]["text"]


def completion(text, *, finish="stop", refusal=None, usage=(1000, 100)):
    """(200, no headers, a chat completion)."""
    body = {
        "choices": [{"message": {"role": "assistant", "content": text, "refusal": refusal}, "finish_reason": finish}]
    }
    if usage:
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    return 200, {"Content-Type": "application/json"}, json.dumps(body).encode()


def honest(body):
    """What a good model would answer: true, and in the form that was asked for."""
    text = prompt_of(body)
    defects = re.findall(r"^- (.+?), (.+?)(?:, box (\[.*\]))?$", text.split("\n\n")[0], re.MULTILINE)
    found = "; ".join(f"{label} {place}" for label, place, _ in defects)
    if "Write a dialogue" in text:
        if "its answer begins with No" in text:
            turns = [("Is there a defect?", "No. The second image agrees with the template."), ("Sure?", "Yes, I am.")]
        else:
            turns = [("Is there a defect?", f"Yes. Unlike the template: {found}."), ("Does it matter?", "It may.")]
        return completion(json.dumps([{"question": q, "answer": a} for q, a in turns]))
    if "The right answer is" in text:
        known = re.search(r"What is known about the pair: (.*)", text)
        return completion(f"I compare the second image with the template. {known[1] if known else ''} So it is clear.")
    if "Check each statement" in text:
        return completion('{"ok": true, "problems": []}')
    caption = {
        "description": "Two products, compared with each other by someone who looks closely.",
        "defect_details": [{"bbox_2d": json.loads(box), "label": label} for label, _, box in defects if box],
        "defect_description": f"Unlike the template, the second image has this: {found}."
        if defects
        else "No defect: the second image agrees with the template.",
    }
    return completion(f"```json\n{json.dumps(caption)}\n```")


@pytest.fixture
def endpoint(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    started = Endpoint()
    yield started
    started.server.shutdown()
    started.server.server_close()
