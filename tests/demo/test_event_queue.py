"""Gradio's queue with our memory: every answer arrives, and nothing of it stays."""

import json
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

gr = pytest.importorskip("gradio", reason="needs gradio: pip install adcopilot[web]")

from adcopilot.demo.event_queue import with_queue  # noqa: E402

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def page():
    """A page that answers with what it is given, `slow` only when it may; two at once."""
    may_answer = threading.Event()

    def answer(text):
        if text == "slow":
            assert may_answer.wait(60)
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
    with httpx.Client(base_url=page.local_url, timeout=60, trust_env=False) as client:
        yield client


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

    for number in range(20):
        visit(number)
        assert remembered(page._queue) <= 2  # the last one's, and its task
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(visit, range(40)))
    visit(0)
    assert remembered(page._queue) <= 2
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
    assert not {event, waiting} & page._queue.event_ids_to_events.keys()
    assert gone not in page._queue.pending_event_ids_session
