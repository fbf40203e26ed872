"""A stand-in for an OpenAI-style endpoint: it says what the test tells it to, so that pixels can be checked."""

import math
import threading
from contextlib import contextmanager

from ..evaluation.backends.endpoint import Endpoint, completion


class Stub:
    """What the endpoint says next, and what it was asked."""

    def __init__(self):
        self.url, self.may_answer = "", threading.Event()
        self.reset()

    def reset(self):
        """As at its start."""
        self.text, self.yes, self.status = "No.", 0.2, 200
        self.logprobs = ...  # of "Yes" and "No", instead of those of `yes`; None for an endpoint that tells none
        self.replies = []  # (text, yes) of the next questions, before what `text` and `yes` say
        self.requests = []
        self.may_answer.set()  # so that no question of another test is kept waiting
        self.may_answer = threading.Event()
        self.may_answer.set()

    def respond(self, body, number):
        """As `Endpoint` wants it."""
        self.requests.append(body)
        self.may_answer.wait()  # as long as the test wants; `reset` after it lets go
        if self.status != 200:
            return self.status, {}, b"secret-host.internal says no"
        text, yes = self.replies.pop(0) if self.replies else (self.text, self.yes)
        logprobs = [math.log(yes), math.log(1 - yes)] if self.logprobs is ... else self.logprobs
        words = [
            {"token": token, "logprob": logprob} for token, logprob in zip(("Yes", "No"), logprobs or (), strict=False)
        ]
        answer = completion(text)
        if body.get("logprobs") and words:
            answer["choices"][0]["logprobs"] = {"content": [{**words[0], "top_logprobs": words}]}
        return answer


@contextmanager
def endpoint():
    """A running endpoint; the `Stub` that steers it."""
    stub = Stub()
    with Endpoint(stub.respond) as server:
        stub.url = server.url
        yield stub
