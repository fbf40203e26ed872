"""Pairs with images on disk, and an endpoint of our own that can misbehave in every way."""

import json
import re
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from adcopilot.chat_ad.generation import PairView, PromptFiles, generate_records
from adcopilot.chat_ad.generation.endpoint import EndpointGenerator, EndpointSettings
from adcopilot.chat_ad.generation.words import Words
from adcopilot.chat_ad.recipe.model import checked

from ...evaluation.backends import endpoint as server


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
        return replace(pair, root=str(tmp_path / "media"))

    return write


class Endpoint(server.Endpoint):
    """A local endpoint. Each request is answered by the next of `script`, or honestly when that is empty.

    A step of the script is a function of the request's body, giving (status, headers, bytes), or None for an honest
    answer. `requests` keeps (time, headers, body) of everything that came.
    """

    def __init__(self):
        super().__init__(self._respond)
        self.script = []
        self.requests = []
        self.always = None
        self.delay = 0.0
        self._order = threading.Lock()

    def _respond(self, body, number):
        with self._order:
            self.requests.append((time.monotonic(), self.headers[number], body))
            step = self.script.pop(0) if self.script else self.always
        time.sleep(self.delay)
        return (step(body) if step else None) or honest(body)


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
    with Endpoint() as started:
        yield started


@pytest.fixture
def make(endpoint, prompts, tmp_path):
    """A function that makes an impatient generator on the local server."""
    made = []

    def generator(**changes):
        given = {
            "url": endpoint.url,
            "model": "some-vl-model",
            "first_wait": 0.01,
            "longest_wait": 5.0,
            "timeout": 60.0,
            "attempts": 4,
            "concurrency": 4,
            "rounds": 1,
        }
        cache = changes.pop("cache", tmp_path / "answers.jsonl")
        settings = checked(EndpointSettings, {**given, **changes}, "generator")
        one = EndpointGenerator(settings=settings, prompts=prompts, cache=cache)
        made.append(one)
        return one

    yield generator
    for one in made:
        one.close()


def run(generator, pairs, tasks=("caption",), *, seed=0, **more):
    """The records of some pairs, those of a pair in the tasks' order; and the lines about those that were refused."""
    refused, more = [], {"generator": generator, "seed": seed, **more}
    records = [one for task in tasks for one in generate_records(pairs, task=task, on_refused=refused.append, **more)]
    places = {pair.images: place for place, pair in enumerate(pairs)}
    return sorted(records, key=lambda record: places[tuple(record["images"])]), refused
