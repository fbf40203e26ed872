"""`adcopilot.grpo.servers`: rollouts from servers that come, go, lie and stall."""

import base64
import io
import itertools
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from adcopilot.errors import UserError
from adcopilot.grpo import servers as module
from adcopilot.grpo.rollout_server import Sampling, check_servers
from adcopilot.grpo.servers import RolloutServers, publish_adapter

from ..helpers.refusals import refused
from ..helpers.waiting import until
from .fake_server import FakeServer, running

PROMPT_IDS = [5, 6, 7]
#: What the stand-in answers to three prompts of two copies each.
ANSWERS = [[10, 2], [11, 2]] * 3
MESSAGES = [{"role": "user", "content": [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "Where?"}]}]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "PROBE", 0.05)


@pytest.fixture
def said():
    return []


def sampling(**changes):
    settings = {
        "max_tokens": 8,
        "temperature": 0.9,
        "top_p": 1.0,
        "top_k": None,
        "min_p": None,
        "repetition_penalty": 1.0,
        "banned": (3, 4),
        "vocabulary": 100,
    }
    return Sampling(**{**settings, **changes})


def adapter(folder, name="policy-a-000001"):
    publish_adapter(folder / name, write)
    return str(folder / name)


def write(where):
    Path(where).mkdir()
    Path(where, "adapter_config.json").write_text("{}")


def client(urls, tmp_path, said=None, **changes):
    settings = {"concurrency": 4, "timeout": 60.0, "patience": 60.0, **changes}
    say = (said if said is not None else []).append
    return RolloutServers(urls=urls, sampling=sampling(), adapter_dir=tmp_path, say=say, **settings)


def pictures():
    return [Image.new("RGB", (30, 20), "red"), Image.new("RGB", (30, 20), "blue")]


def ask(rollouts, groups=3, size=2, prompt_ids=PROMPT_IDS):
    """`groups` prompts, `size` copies of each; equal ones share their images as the trainer's do."""
    images = [pictures() for _ in range(groups)]
    return rollouts.generate(
        prompts=[MESSAGES] * groups * size,
        images=[images[k // size] for k in range(groups * size)],
        prompt_ids=[list(prompt_ids)] * groups * size,
    )


@pytest.fixture
def server():
    with running(FakeServer(PROMPT_IDS)) as (server,):
        yield server


@pytest.fixture
def rollouts(server, tmp_path):
    """A client of that server, which has the first adapter."""
    rollouts = client([server.url], tmp_path)
    rollouts.set_policy(adapter(tmp_path))
    return rollouts


def test_equal_prompts_are_one_request_with_all_that_decides(server, rollouts):
    check_servers([server.url])
    assert ask(rollouts) == ANSWERS
    bodies = server.asked()
    assert len(bodies) == 3
    assert not any("seed" in body for body in bodies)  # vLLM 0.32.0 on a CPU stops at some that have one
    body = bodies[0]
    assert (body["model"], body["n"], body["max_tokens"]) == ("policy-a-000001", 2, 8)
    # All that generation_config.json could set otherwise.
    wanted = {"temperature": 0.9, "top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
    assert {key: body[key] for key in wanted} == wanted
    assert body["logit_bias"] == {"3": -100.0, "4": -100.0}
    content = body["messages"][0]["content"]
    assert [part["type"] for part in content] == ["image_url", "image_url", "text"]
    data = base64.b64decode(content[0]["image_url"]["url"].partition(",")[2])
    sent = Image.open(io.BytesIO(data))
    assert (sent.size, sent.getpixel((0, 0))) == ((30, 20), (255, 0, 0))


def test_adapters_follow_one_another(server, rollouts, tmp_path):
    for step in range(4):
        rollouts.set_policy(adapter(tmp_path, f"policy-b-{step:06d}"))
        ask(rollouts, groups=1)
        assert list(server.adapters) == [f"policy-b-{step:06d}"]
    # What is on disk: the current one, and the one that a slow server may still be reading.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["policy-b-000002", "policy-b-000003"]


def test_work_is_shared_and_bounded(tmp_path):
    one, two = FakeServer(PROMPT_IDS), FakeServer(PROMPT_IDS)
    running_now, most, lock = Counter(), Counter(), threading.Lock()
    turns = {one: threading.Semaphore(0), two: threading.Semaphore(0)}

    def in_turns(server, other):
        """Answers its first five only when the other has been asked as often."""
        numbers = itertools.count()

        def answer(body):
            with lock:
                running_now[server.url] += 1
                most[server.url] = max(most[server.url], running_now[server.url])
            turns[other].release()
            if next(numbers) < 5:
                turns[server].acquire(timeout=60)
            time.sleep(0.03)
            with lock:
                running_now[server.url] -= 1
            return server.completions(body)

        return answer

    one.answer, two.answer = in_turns(one, two), in_turns(two, one)
    with running(one, two):
        rollouts = client([one.url, two.url], tmp_path, concurrency=3)
        rollouts.set_policy(adapter(tmp_path))
        assert ask(rollouts, groups=24) == [[10, 2], [11, 2]] * 24
        assert len(one.asked()) + len(two.asked()) == 24
        assert min(len(one.asked()), len(two.asked())) > 4
        assert max(most.values()) <= 3


def test_a_server_lost_in_mid_step_costs_nothing_but_time(tmp_path, said):
    one, two = FakeServer(PROMPT_IDS), FakeServer(PROMPT_IDS)
    with running(one, two):
        count = {"now": 0}

        def dies(body):
            count["now"] += 1
            if count["now"] == 3:
                threading.Thread(target=one.stop).start()
                return None
            time.sleep(0.02)
            return one.completions(body)

        one.answer = dies
        two.answer = lambda body: (
            until(lambda: any("lost" in line for line in said), "the loss") and two.completions(body)
        )
        rollouts = client([one.url, two.url], tmp_path, said)
        rollouts.set_policy(adapter(tmp_path))
        assert ask(rollouts, groups=30) == [[10, 2], [11, 2]] * 30
        assert any("lost" in line and one.url in line for line in said)
        # It comes back, without its adapters, and is used again.
        one.answer = one.completions
        one.requests.clear()
        one.start()
        two.answer = lambda body: until(one.asked, "the server that came back") and two.completions(body)
        assert ask(rollouts, groups=30) == [[10, 2], [11, 2]] * 30
        assert len(one.asked()) > 0
        assert list(one.adapters) == ["policy-a-000001"]


def test_a_restart_nobody_noticed(server, rollouts):
    ask(rollouts)
    server.adapters.clear()
    assert ask(rollouts) == ANSWERS


def test_all_servers_gone_ends_with_one_line(server, tmp_path, said):
    rollouts = client([server.url], tmp_path, said, patience=0.6)
    rollouts.set_policy(adapter(tmp_path))
    server.stop()
    with refused(r"has answered for 1 s .* goes on from the last checkpoint"):
        ask(rollouts)
    assert len([line for line in said if "lost" in line]) == 1


def test_all_servers_gone_for_a_while(server, rollouts):
    server.stop()
    threading.Timer(0.7, server.start).start()
    assert ask(rollouts) == ANSWERS


def told(*choices: tuple[object, list]) -> tuple[int, dict]:
    """An answer of these choices: (index, ids of the tokens)."""
    made = [{"index": index, "token_ids": ids} for index, ids in choices]
    return 200, {"prompt_token_ids": PROMPT_IDS, "choices": made}


#: Asked for two completions.
GARBAGE = {
    "no JSON": (200, "<html>proxy error</html>"),
    "other JSON": (200, {"choices": "none"}),
    "too few": told((0, [10, 2])),
    "not ids": told((0, ["7"]), (1, [1])),
    "beyond the vocabulary": told((0, [100]), (1, [1])),
    "a pad": told((0, [3, 2]), (1, [1])),
    "empty": told((0, []), (1, [1])),
    "too long": told((0, [1] * 9), (1, [1])),
    "one index twice": told((0, [5, 2]), (0, [6, 2])),
    "an index too far": told((1, [5, 2]), (2, [6, 2])),
    "an index of another kind": told((False, [5, 2]), (1.0, [6, 2])),
    "an index that is a list": told(([0], [5, 2]), (1, [6, 2])),
    "too many": told((0, [10, 2]), (1, [11, 2]), (2, [12, 2])),
    "bytes": (200, b"\xff\xfe\x00"),
    "server error": (500, {"error": {"message": "boom"}}),
    "busy": (429, "later"),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_is_asked_again_and_not_for_ever(server, rollouts, name):
    numbers = itertools.count()
    server.answer = lambda body: GARBAGE[name] if next(numbers) < 2 else server.completions(body)
    assert ask(rollouts) == ANSWERS
    server.answer = lambda body: GARBAGE[name]
    with refused(r"a prompt failed 5 times"):
        ask(rollouts, groups=1)


def test_a_prompt_counted_otherwise_ends_the_run_at_once(server, rollouts):
    server.prompt_ids = [5, 6, 6, 7]
    with refused(r"reads a prompt of 3 tokens as 4 \(token 2 is 6, expected 7\)"):
        ask(rollouts)


def test_a_refused_prompt_says_what_the_server_said(server, rollouts):
    server.answer = lambda body: (400, {"error": {"message": "maximum context length is 16"}})
    with refused(r"refuses a prompt of 3 tokens .*maximum context length is 16"):
        ask(rollouts)


def test_an_answer_that_never_comes(server, rollouts):
    over = threading.Event()
    ask(rollouts, groups=1)  # the adapter is loaded, for which a tenth of a second may be too little
    server.answer = lambda body: over.wait() and server.completions(body)
    rollouts.servers[0].timeout = 0.1
    with refused(r"no whole answer within rollout_timeout, 0\.1 s \(a prompt failed 5 times\)"):
        ask(rollouts, groups=1)
    over.set()


def test_a_server_that_cannot_see_the_adapter(rollouts, tmp_path):
    with refused(r"refuses the adapter .*set rollout_adapter_dir to a shared one"):
        rollouts.set_policy(str(tmp_path / "elsewhere"))


def test_nobody_there_is_said_before_anything_long_begins():
    with refused(r"rollout_server http://127\.0\.0\.1:1: does not answer at /health"):
        check_servers(["http://127.0.0.1:1/v1"])


def test_a_key_is_sent_and_never_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("ADCOPILOT_API_KEY", "secret-key")
    rollouts = client(["http://127.0.0.1:1"], tmp_path)
    assert rollouts.servers[0].endpoint.headers["Authorization"] == "Bearer secret-key"
    with pytest.raises(UserError) as caught:
        check_servers(["http://127.0.0.1:1"])
    assert "secret-key" not in str(caught.value)


def test_an_adapter_is_there_whole_or_not_at_all(tmp_path):
    def half(where):
        write(where)
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\)"):
        publish_adapter(tmp_path / "policy-a-000001", half)
    assert not (tmp_path / "policy-a-000001").exists()
    publish_adapter(tmp_path / "policy-a-000001", write)
    assert (tmp_path / "policy-a-000001" / "adapter_config.json").is_file()
