"""Gradio's queue with our memory: every answer arrives, and nothing of it stays."""

import asyncio
import json
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

gr = pytest.importorskip("gradio", reason="needs gradio: the extra web")

from gradio.queueing import Queue  # noqa: E402

from adcopilot.demo.event_queue import with_queue  # noqa: E402

from ..helpers.waiting import until  # noqa: E402


@pytest.fixture(scope="module")
def page():
    """A page that answers with what it is given, `slow` only when it may; two at once."""
    may_answer = threading.Event()

    def answer(text):
        if text == "slow":
            may_answer.wait()
        if text == "wrong":
            raise gr.Error("no")
        return text

    with gr.Blocks(analytics_enabled=False) as blocks:
        box = gr.Textbox()
        gr.Button().click(answer, box, box, api_name="answer", concurrency_limit=2)
    with_queue(blocks, waiting=64)
    blocks.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, share=False, ssr_mode=False)
    blocks.may_answer = may_answer
    yield blocks
    blocks.close(verbose=False)


@pytest.fixture
def client(page):
    page.may_answer.clear()
    with httpx.Client(base_url=page.local_url, timeout=300, trust_env=False) as client:
        yield client
    page.may_answer.set()  # whatever came of the test, nobody waits any more


def join(client, session, text):
    body = {"data": [text], "fn_index": 0, "session_hash": session}
    return client.post("/gradio_api/queue/join", json=body).json()["event_id"]


def take(client, session) -> dict:
    """Event → what came of it, until the server closes the stream."""
    found = {}
    with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as stream:
        for line in stream.iter_lines():
            event = json.loads(line[6:]) if line.startswith("data: ") else {}
            if event.get("msg") == "process_completed":
                found[event["event_id"]] = event["output"].get("data", ["an error"])[0]
    return found


def remembered(queue) -> int:
    """How many events there is something of."""
    sessions = queue.pending_event_ids_session.keys() | queue.pending_messages_per_session.keys()
    return max(len(queue.event_ids_to_events), len(queue.event_analytics), len(queue._asyncio_tasks), len(sessions))


def test_many_visitors_leave_nothing(page, client):
    def visit(number):
        session = secrets.token_hex(6)
        event = join(client, session, f"{number}")
        assert take(client, session) == {event: f"{number}"}

    def settled():
        """Whether no more than the last visitor's event and its task are left; each visit forgets those before it."""
        visit("again")
        return remembered(page._queue) <= 2

    for number in range(20):
        visit(number)
    until(settled, "one visitor after another to be forgotten")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(visit, range(40)))
    until(settled, "visitors at the same time to be forgotten")
    assert page._queue.cached_event_analytics_summary == {"functions": {}}


def test_two_questions_of_one_visitor_and_one_that_fails(page, client):
    """The second is answered, and others are, while the first is under way: its answer still arrives."""
    session, other = secrets.token_hex(6), secrets.token_hex(6)
    slow, quick = join(client, session, "slow"), join(client, session, "quick")
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(take, client, session)
        for text in ("a", "wrong", "b"):
            event = join(client, other, text)
            assert take(client, other) == {event: "an error" if text == "wrong" else text}
        assert slow in page._queue.event_ids_to_events
        page.may_answer.set()
        assert taken.result() == {slow: "slow", quick: "quick"}


def test_an_event_is_kept_until_gradio_has_done_with_it(page, client, monkeypatch):
    """Its answer was taken, and another question is answered, while gradio still puts its iterators away."""
    errors, original, reset = [], Queue.process_events, page._queue.reset_iterators

    async def process_events(self, *args):
        try:
            await original(self, *args)
        except Exception as error:
            errors.append(error)
            raise

    async def reset_iterators(event):
        while event == first and not may_end.is_set():
            await asyncio.sleep(0.02)
        await reset(event)

    monkeypatch.setattr(Queue, "process_events", process_events)
    monkeypatch.setattr(page._queue, "reset_iterators", reset_iterators)
    may_end = threading.Event()
    session = secrets.token_hex(6)
    first = join(client, session, "slow")
    page.may_answer.set()
    assert take(client, session) == {first: "slow"}
    other = secrets.token_hex(6)
    event = join(client, other, "b")
    assert take(client, other) == {event: "b"}
    assert first in page._queue.event_ids_to_events
    may_end.set()
    until(lambda: first not in page._queue.event_ids_to_events, "the event to be forgotten")
    assert errors == []


def test_who_leaves_is_forgotten_with_the_session(page, client):
    gone = secrets.token_hex(6)
    event = join(client, gone, "slow")
    join(client, gone, "slow")
    waiting = join(client, gone, "slow")  # behind the two
    del page._queue.pending_messages_per_session[gone]  # as gradio does to a session, or to the oldest of 2,000
    page.may_answer.set()
    for text in ("a", "b"):
        session = secrets.token_hex(6)
        mine = join(client, session, text)
        assert take(client, session) == {mine: text}
    # the one that had waited may end after those two
    until(lambda: not {event, waiting} & page._queue.event_ids_to_events.keys(), "all three to be forgotten")
    assert gone not in page._queue.pending_event_ids_session
