"""The endpoint generator against a local server that returns everything servers return."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from PIL import Image

from adcopilot.chat_ad.generation import generate_records
from adcopilot.chat_ad.generation.cost import Prices
from adcopilot.chat_ad.generation.endpoint import EndpointGenerator, EndpointSettings
from adcopilot.errors import UserError

from .conftest import completion, honest, prompt_of, run

TEXT_TASKS = ["caption", "dialogue", "think"]


def test_a_pair_becomes_records_and_the_request_has_the_images(make, endpoint, on_disk, prompts):
    pair = on_disk(marked="marked/0.png")
    generator = make()
    records, refused = run(generator, [pair], ["caption", "dialogue", "mc", "loc", "think"])
    assert refused == []
    assert [record["task"] for record in records] == ["caption", "dialogue", "mc", "loc", "think"]
    assert [record["generator"] for record in records] == [
        "some-vl-model", "some-vl-model", "annotations", "annotations", "some-vl-model",
    ]  # fmt: skip
    assert records[0]["prompt_hash"] == generator.prompt_hash("caption") != generator.prompt_hash("dialogue")
    caption = json.loads(records[0]["answer"])
    assert caption["defect_details"] == [{"bbox_2d": [20, 10, 60, 30], "label": "scratch"}]
    assert "scratch at the top left" in caption["defect_description"]
    _, _, body = endpoint.requests[0]
    parts = body["messages"][1]["content"]
    assert [part["type"] for part in parts] == ["image_url", "image_url", "image_url", "text"]
    assert all(part["image_url"]["url"].startswith("data:image/png;base64,") for part in parts[:3])
    assert "- scratch, at the top left, box [20, 10, 60, 30]" in prompt_of(body)
    assert (body["model"], body["max_tokens"], body["seed"]) == ("some-vl-model", 1024, 0)
    # The dialogue and the reasoning take the caption's answer: three requests.
    assert len(endpoint.requests) == 3


def test_a_second_run_reads_the_cache(endpoint, prompts, on_disk, tmp_path):
    pairs = [on_disk(number) for number in range(5)]
    results = []
    for _ in range(2):
        settings = EndpointSettings(url=endpoint.url, model="m", concurrency=3)
        generator = EndpointGenerator(settings=settings, prompts=prompts, cache=tmp_path / "a.jsonl")
        results.append((run(generator, pairs, TEXT_TASKS), len(endpoint.requests), generator.report()))
        generator.close()
    assert [asked for _, asked, _ in results] == [15, 15]
    assert results[0][0] == results[1][0]
    assert results[1][2]["events"] == {"answers from the cache": 25}  # ten of them captions for other tasks
    assert results[1][2]["prompt_tokens"] == 0
    assert results[1][2]["total"]["prompt_tokens"] == 15000


def test_order_and_content_do_not_depend_on_concurrency(endpoint, make, on_disk, tmp_path):
    pairs = [on_disk(number) for number in range(12)]
    endpoint.delay = 0.02
    many, _ = run(make(concurrency=6, cache=tmp_path / "many.jsonl"), pairs, TEXT_TASKS)
    assert 2 <= endpoint.most <= 6
    endpoint.most = 0
    one, _ = run(make(concurrency=1, cache=tmp_path / "one.jsonl"), pairs, TEXT_TASKS)
    assert endpoint.most == 1
    assert many == one
    assert [record["images"][1] for record in one[::3]] == [pair.images[1] for pair in pairs]


def test_what_passes_is_tried_again(make, endpoint, on_disk):
    endpoint.script = [
        lambda _: (429, {"Retry-After": "0.3"}, b'{"error": {"message": "slow down"}}'),
        lambda _: (500, {}, b"oops"),
        lambda _: (200, {}, b'{"choices": [{"mess'),
        lambda _: (200, {}, b"<html>nonsense</html>"),
        lambda _: (200, {}, b'{"choices": []}'),
        lambda _: completion(""),
    ]
    generator = make(attempts=7)
    records, refused = run(generator, [on_disk()])
    assert (len(records), refused) == (1, [])
    events = generator.report()["events"]
    assert events["requests"] == 7
    assert (events["status 429"], events["status 500"], events["unusable body"]) == (1, 1, 4)
    times = [at for at, _, _ in endpoint.requests]
    assert times[1] - times[0] >= 0.3


def test_no_server(make, on_disk):
    generator = make(url="http://127.0.0.1:9/v1", attempts=2)
    records, refused = run(generator, [on_disk()])
    assert records == []
    assert refused[0]["detail"].startswith("no answer after 2 attempts: ConnectError")


def test_what_is_hopeless_ends_the_run_at_once_and_the_key_is_not_told(make, endpoint, on_disk, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "sk-very-secret")
    endpoint.always = lambda _: (401, {}, b'{"error": {"message": "bad key sk-very-secret"}}')
    generator = make(key_variable="SOME_KEY")
    with pytest.raises(UserError, match=r"status 401 \(bad key \[key\]\); check the address") as raised:
        run(generator, [on_disk()])
    assert "very-secret" not in str(raised.value) + repr(generator) + json.dumps(generator.report())
    assert endpoint.requests[0][1]["authorization"] == "Bearer sk-very-secret"
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"url": "localhost:8000"}, "expected something like http://localhost:8000/v1"),
        ({"url": "https://me:pass@host/v1"}, "carries a password"),
        ({"model": ""}, "generator.model is '', expected a text"),
        ({"concurrency": 0}, "concurrency is 0, expected a whole number, 1 or more"),
        ({"most_tokens": 0}, "most_tokens is 0"),
    ],
)
def test_settings_that_cannot_be(make, changes, message):
    with pytest.raises(UserError, match=message) as raised:
        make(**changes)
    assert "pass@" not in str(raised.value)


def test_the_budget_is_never_passed(make, endpoint, on_disk, tmp_path):
    endpoint.always = lambda body: completion(json.loads(honest(body)[2])["choices"][0]["message"]["content"],
                                              usage=(900, 100))  # fmt: skip
    pairs = [on_disk(number) for number in range(40)]
    prices = Prices(prompt=1000.0, completion=2000.0)
    generator = make(most_money=15.0, prices=prices, max_tokens=100, concurrency=4)
    records = []
    made = generate_records(pairs, generator=generator, task="caption", seed=0, on_refused=lambda _: None)
    with pytest.raises(UserError, match=r"budget of 15 money is used up.*every answer is kept"):
        records.extend(made)
    report = generator.report()
    # 900 prompt and 100 completion tokens are 1.1 in money.
    assert report["money"] == pytest.approx(1.1 * len(endpoint.requests))
    assert 8 <= len(endpoint.requests) <= 13
    assert report["total"]["money"] <= 15.0
    # Everything that was paid for is kept: with a larger budget it goes on from there.
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == len(endpoint.requests)
    paid = len(endpoint.requests)
    generator.close()
    more, refused = run(make(most_money=1000.0, prices=prices, max_tokens=100), pairs)
    assert (len(more), refused, len(endpoint.requests)) == (40, [], 40)
    assert more[: len(records)] == records
    assert paid < 40


def test_tokens_are_estimated_where_the_endpoint_does_not_count(make, endpoint, on_disk):
    endpoint.always = lambda body: completion(
        json.loads(honest(body)[2])["choices"][0]["message"]["content"], usage=None
    )
    generator = make()
    run(generator, [on_disk()])
    report = generator.report()
    assert report["answers_with_estimated_tokens"] == 1
    assert report["prompt_tokens"] > 2 * 300 * 200 // 784


def test_large_and_odd_images_are_made_fit(make, endpoint, on_disk, tmp_path):
    pair = on_disk(size=(1500, 1000), boxes=((100, 100, 300, 200),))
    Image.open(tmp_path / "media" / pair.images[0]).convert("P").save(tmp_path / "media" / pair.images[0])
    run(make(image_side=640), [pair])
    import base64
    import io

    urls = [part["image_url"]["url"] for part in endpoint.requests[0][2]["messages"][1]["content"][:2]]
    sizes = [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).size for url in urls]
    assert sizes == [(640, 427), (640, 427)]


def test_equal_pairs_under_way_share_a_request(make, endpoint, on_disk):
    endpoint.delay = 0.1
    pair = on_disk()
    records, refused = run(make(), [pair, pair, pair])
    assert (len(records), refused, len(endpoint.requests)) == (3, [], 1)


def test_inside_a_running_event_loop(make, on_disk):
    import asyncio

    async def notebook():
        return run(make(), [on_disk()])

    assert len(asyncio.run(notebook())[0]) == 1


def test_a_damaged_cache_is_named(make, tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text('{"key": "a"}\n{"key": "b"}\n')
    with pytest.raises(UserError, match=r"answers.jsonl:1: not an answer of an endpoint"):
        make()


SCRIPT = """
import json, sys
from adcopilot.chat_ad.generation import PairView, PromptFiles, generate_records
from adcopilot.chat_ad.generation.endpoint import EndpointGenerator, EndpointSettings
url, media, cache, output = sys.argv[1:]
pairs = [PairView(key=f"pair{n}", images=(f"images/{n}_template.png", f"images/{n}_query.png"), size=(300, 200),
    category="metal_nut", source="mvtec", anomalous=True, defect="scratch", boxes=((20, 10, 60, 30),),
    labels=("scratch",), other_defects=("bent", "color", "flip"), root=media) for n in range(30)]
settings = EndpointSettings(url=url, model="some-vl-model", concurrency=3)
generator = EndpointGenerator(settings=settings, prompts=PromptFiles(), cache=cache)
found = [record for task in ("caption", "dialogue", "think")
    for record in generate_records(pairs, generator=generator, task=task, seed=0, on_refused=print)]
open(output, "w").write(json.dumps(found))
"""


def test_kill_9_pays_for_nothing_twice(endpoint, on_disk, tmp_path):
    """Killed again and again: each prompt is asked once, but for those under way at a kill."""
    for number in range(30):
        on_disk(number)
    endpoint.delay = 0.03
    killed = threading.Event()

    def until_killed(_):
        """Beyond the limit nothing is answered: the process does not end before it can be killed."""
        if len(endpoint.requests) > limit:
            killed.wait()

    endpoint.always = until_killed
    output = tmp_path / "records.json"
    command = [sys.executable, "-c", SCRIPT, endpoint.url, str(tmp_path / "media"), str(tmp_path / "answers.jsonl")]
    kills = 0
    for limit in (12, 30, 31, 70, 10**9):
        killed.clear()
        process = subprocess.Popen([*command, str(output)], env={**os.environ, "OMP_NUM_THREADS": "1"})
        while process.poll() is None and len(endpoint.requests) < limit:
            time.sleep(0.005)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
        killed.set()
    assert kills == 4
    assert process.returncode == 0
    asked = len(endpoint.requests)
    assert 90 <= asked <= 90 + 3 * kills
    kept = [json.loads(line)["key"] for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert len(kept) == len(set(kept)) == 90
    resumed = output.read_bytes()
    subprocess.run([*command[:-1], str(tmp_path / "fresh.jsonl"), str(output)], check=True)
    assert output.read_bytes() == resumed
