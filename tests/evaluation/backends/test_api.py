"""The endpoint backend against a real HTTP server: what passes is tried again, what fails says so, nothing is lost."""

import base64
import io
import math
import threading

import pytest
from PIL import Image

from adcopilot.answering.api import ApiBackend, _close_together
from adcopilot.answering.items import Item
from adcopilot.errors import UserError
from adcopilot.images import open_image

from ...helpers.waiting import until
from .conftest import QUESTIONS, make_group, picture
from .endpoint import Endpoint, completion, question


def backend(endpoint, **options) -> ApiBackend:
    quick = {"first_wait": 0.01, "longest_wait": 5.0, "attempts": 3, "timeout": 60.0}
    return ApiBackend(**{"base_url": endpoint.url, "model": "Qwen3-VL-8B", **quick, **options})


def echo(body, number):
    return completion(f"said {question(body)}")


def answers(made, items, **options):
    return {item.key: reply for item, reply in made.answer(items, max_new_tokens=16, **options)}


def test_every_item_is_asked_once_and_answered_with_its_own_answer(items):
    together = threading.Barrier(2)  # the first two are under way at the same time

    def respond(body, number):
        if number < 2:
            together.wait(60)
        return echo(body, number)

    with Endpoint(respond) as endpoint:
        made = backend(endpoint, concurrency=4)
        found = answers(made, items)
    assert {key: reply.text for key, reply in found.items()} == {item.key: f"said {item.question}" for item in items}
    assert all(reply.error is None and not reply.truncated and reply.seconds > 0 for reply in found.values())
    assert len(endpoint.bodies) == len(items)
    assert 1 < endpoint.most <= 4
    assert set(endpoint.paths) == {"/v1/chat/completions"}


def test_request_holds_prompt_images_and_greedy_decoding(tmp_path):
    item = make_group(tmp_path, "pair", [(84, 56), (100, 60)])[1]
    with Endpoint(echo) as endpoint:
        answers(backend(endpoint, extra={"seed": 7}), [item])
    (body,) = endpoint.bodies
    assert {name: body[name] for name in ("model", "temperature", "max_tokens", "seed")} == {
        "model": "Qwen3-VL-8B",
        "temperature": 0,
        "max_tokens": 16,
        "seed": 7,
    }
    assert "repetition_penalty" not in body
    assert "logprobs" not in body
    (message,) = body["messages"]
    kinds = [part["type"] for part in message["content"]]
    assert kinds == ["text", "text", "image_url", "text", "image_url", "text", "text"]
    assert "".join(part.get("text", "") for part in message["content"]) == (
        "You inspect parts.\nTemplate 1:\nQuery:\n\nLook closely. " + item.question
    )
    sent = [sent_image(part) for part in message["content"] if part["type"] == "image_url"]
    for image, path in zip(sent, item.images, strict=True):
        assert image.tobytes() == open_image(path).tobytes()  # lossless


def sent_image(part) -> Image.Image:
    kind, data = part["image_url"]["url"].split(",", 1)
    assert kind == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


@pytest.mark.parametrize(
    ("model", "options", "expected"),
    [
        ("Qwen2.5-VL-7B", {}, (1092, 728)),  # MMAD's budget allows 1003520 pixels; multiples of 28
        ("Qwen2.5-VL-7B", {"image_side": 512}, (504, 336)),
        ("AD-Copilot", {}, (940, 626)),  # LlamaFactory's first resize, whose rounding the server's processor does
        ("gpt-4o", {"image_side": 512}, (512, 341)),
        ("gpt-4o", {}, (1100, 733)),
    ],
)
def test_images_arrive_at_the_size_of_their_family(tmp_path, model, options, expected):
    path = picture(tmp_path / "large.png", (1100, 733), 0)
    item = Item(key="a", group="a", images=(path,), prefix=(0,), question="What is it?")
    with Endpoint(echo) as endpoint:
        made = backend(endpoint, model=model, **options)
        answers(made, [item])
    assert sent_image(endpoint.bodies[0]["messages"][0]["content"][0]).size == expected
    if "Qwen2.5" in model:
        assert made.model_size((1100, 733)) == expected
    if model == "AD-Copilot":
        assert made.model_size((1100, 733)) == (952, 616)


def test_vllm_is_told_not_to_use_the_models_own_repetition_penalty(items):
    with Endpoint(echo) as endpoint:
        answers(backend(endpoint, vllm=True), items[:1])
    assert endpoint.bodies[0]["repetition_penalty"] == 1.0


def test_fields_can_be_renamed_and_left_out(items):
    with Endpoint(echo) as endpoint:
        made = backend(endpoint, limit_field="max_completion_tokens", extra={"temperature": None})
        answers(made, items[:1])
    assert endpoint.bodies[0]["max_completion_tokens"] == 16
    assert not {"temperature", "max_tokens"} & set(endpoint.bodies[0])


def test_tokens_that_stand_for_images_are_only_words_in_a_question(tmp_path):
    item = Item(key="a", group="a", images=(), prefix=("<image> ",), question="<|image_pad|> <|vision_start|>?")
    with Endpoint(echo) as endpoint:
        answers(backend(endpoint), [item])
    sent = "".join(part["text"] for part in endpoint.bodies[0]["messages"][0]["content"])
    assert "<|image_pad|>" not in sent
    assert "<image>" not in sent
    assert sent.replace("\u200b", "") == "<image> <|image_pad|> <|vision_start|>?"


def test_questions_about_the_same_images_follow_one_another(tmp_path):
    groups = [
        make_group(tmp_path, name, [(60, 60)], QUESTIONS[:count]) for name, count in (("a", 3), ("b", 1), ("c", 2))
    ]
    mixed = [groups[0][0], groups[2][0], groups[1][0], groups[0][1], groups[2][1], groups[0][2]]
    with Endpoint(echo) as endpoint:
        answers(backend(endpoint, concurrency=1), mixed)
        answers(backend(endpoint, concurrency=3), groups[0])
        order = [body["messages"][0]["content"][2]["image_url"]["url"] for body in endpoint.bodies]
    assert [order.index(url) for url in order[:6]] == [0, 0, 0, 3, 3, 5]  # a a a, c c, b
    assert list(_close_together(groups, 2)) == [
        *(groups[0][0], groups[1][0], groups[0][1], groups[0][2]),
        *groups[2],
    ]


def test_a_request_that_is_declined_is_one_items_error(items):
    def respond(body, number):
        if question(body) == items[1].question:
            return 400, {}, {"error": {"message": "image too large"}}
        return echo(body, number)

    with Endpoint(respond) as endpoint:
        found = answers(backend(endpoint), items[:4])
    failed = {key: reply.error for key, reply in found.items() if reply.error}
    assert failed == {items[1].key: "status 400 (image too large)"}
    assert found[items[1].key].refused
    assert len(endpoint.bodies) == 4  # asked once: it would not fare better


@pytest.mark.parametrize(
    ("response", "refused", "error"),
    [
        ((200, {}, {"choices": []}), True, "no answer after 2 attempts: the endpoint sent no choice"),
        (completion(None, finish="content_filter"), True, "a content filter of the endpoint took the answer away"),
        (completion(None, refusal="I cannot."), True, "the model declined (I cannot.)"),
        ((429, {}, {}), False, "no answer after 2 attempts: status 429"),
        ((500, {}, {}), False, "no answer after 2 attempts: status 500"),
    ],
)
def test_refused_or_failed(items, response, refused, error):
    """What would come again at each start is a refusal, what may pass is an error."""

    def respond(body, number):
        return response if question(body) == items[0].question else echo(body, number)

    with Endpoint(respond) as endpoint:
        reply, other = answers(backend(endpoint, attempts=2, concurrency=1), items[:2]).values()
    assert (other.error, other.text) == (None, f"said {items[1].question}")  # it is one item's error
    assert reply.error.startswith(error)
    assert "\n" not in reply.error
    assert (reply.refused, reply.text) == (refused, "")


def test_endpoint_that_dies_half_way_keeps_what_was_answered(tmp_path):
    items = [item for name in "abcdef" for item in make_group(tmp_path, name, [(60, 60)])]
    found = {}

    def respond(body, number):
        if number < 11:
            return echo(body, number)
        until(lambda: len(found) >= 11, "the answers before it died")
        return None

    with Endpoint(respond) as endpoint:
        made = backend(endpoint, concurrency=3, give_up=5, attempts=2)
        running = ((item.key, reply) for item, reply in made.answer(items, max_new_tokens=16))
        one_by_one = (found.update([answer]) for answer in running)
        with pytest.raises(UserError, match="requests in a row failed") as raised:
            list(one_by_one)
    assert "\n" not in str(raised.value)
    good = {key: reply for key, reply in found.items() if reply.error is None}
    assert len(good) == 11
    assert all(good[item.key].text == f"said {item.question}" for item in items if item.key in good)
    assert len(found) < len(items)  # it did not go on asking a dead endpoint


def test_a_wrong_key_ends_the_run_at_once_and_is_nowhere(items, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "secret-123")

    def respond(body, number):
        return 401, {}, {"error": {"message": "secret-123 is unknown here"}}

    with Endpoint(respond) as endpoint:
        made = backend(endpoint, key_variable="SOME_KEY", concurrency=1)
        with pytest.raises(UserError, match="status 401") as raised:
            answers(made, items)
    assert len(endpoint.bodies) == 1
    assert endpoint.headers[0]["authorization"] == "Bearer secret-123"
    assert "secret" not in str(raised.value)
    assert "secret" not in repr(made) + repr(made.describe())


def test_no_key_is_sent_unless_one_is_meant_for_the_endpoint(items, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "for-openai-only")
    monkeypatch.delenv("ADCOPILOT_API_KEY", raising=False)
    with Endpoint(echo) as endpoint:
        answers(backend(endpoint), items[:1])
        monkeypatch.setenv("ADCOPILOT_API_KEY", "mine")
        answers(backend(endpoint), items[:1])
    assert "authorization" not in endpoint.headers[0]
    assert endpoint.headers[1]["authorization"] == "Bearer mine"


def test_unreadable_image_is_its_items_error_and_nothing_is_sent(tmp_path, items):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nno more")
    item = Item(key="x", group="x", images=(broken,), prefix=(0,), question="?")
    with Endpoint(echo) as endpoint:
        found = answers(backend(endpoint), [item, items[0]])
    assert str(broken) in found["x"].error
    assert found[items[0].key].error is None
    assert len(endpoint.bodies) == 1


def test_an_empty_answer_is_an_answer(items):
    replies = [
        completion("", finish="length"),
        completion("", refusal=""),
        completion("B", reasoning_content="It has a scratch."),
        completion("There is a", finish="content_filter"),
    ]
    with Endpoint(lambda body, number: replies[number]) as endpoint:
        found = answers(backend(endpoint, concurrency=1), items[:4])
    assert all(reply.error is None for reply in found.values())
    assert [(reply.text, reply.truncated) for reply in found.values()] == [
        ("", True),
        ("", False),
        ("<think>It has a scratch.</think>B", False),
        ("There is a", True),
    ]
    assert len(endpoint.bodies) == 4


def test_option_logprobs_come_from_the_first_token(items):
    choice_item = next(item for item in items if item.options)
    top = [("A", -0.5), (" A", -1.5), ("b", -2.0), ("The", -3.0)]

    def respond(body, number):
        content = [{"token": "A", "top_logprobs": [{"token": token, "logprob": value} for token, value in top]}]
        answer = completion("A")
        answer["choices"][0]["logprobs"] = {"content": content} if body.get("logprobs") else None
        return answer

    with Endpoint(respond) as endpoint:
        with_them = answers(backend(endpoint, option_logprobs=True), [choice_item, items[0]])
        without = answers(backend(endpoint), [choice_item])
    assert with_them[choice_item.key].option_logprobs == {
        "A": pytest.approx(math.log(math.exp(-0.5) + math.exp(-1.5)))
    }
    assert with_them[items[0].key].option_logprobs is None
    assert without[choice_item.key].option_logprobs is None
    asked = [body for body in endpoint.bodies if body.get("logprobs")]
    assert [question(body) for body in asked] == [choice_item.question]
    assert asked[0]["top_logprobs"] == 20


def likely(logprobs):
    """Answers A, with these log-probabilities of what the first token might have been."""
    top = [{"token": token, "logprob": value} for token, value in logprobs.items()]

    def respond(body, number):
        answer = completion("A")
        answer["choices"][0]["logprobs"] = {"content": [{"token": "A", "top_logprobs": top}]}
        return answer

    return respond


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.5, "NaN", 10**400, None, [], "x"])
def test_logprobs_that_are_none(items, value):
    """Python's JSON reads NaN and Infinity; neither may come near a score."""
    choice_item = next(item for item in items if item.options)

    with Endpoint(likely({"A": -0.5, "B": value})) as endpoint:
        (reply,) = answers(backend(endpoint, option_logprobs=True), [choice_item]).values()
    assert (reply.text, reply.option_logprobs) == ("A", None)


def test_minus_infinity_is_no_probability_at_all(items):
    choice_item = next(item for item in items if item.options)
    with Endpoint(likely({"A": 1e-7, "B": -math.inf})) as endpoint:
        (reply,) = answers(backend(endpoint, option_logprobs=True), [choice_item]).values()
    assert reply.option_logprobs == {"A": 0.0}


def test_closing_the_iterator_stops_the_requests(tmp_path):
    items = [item for name in "abcdefgh" for item in make_group(tmp_path, name, [(60, 60)])]

    go = threading.Event()

    def respond(body, number):
        if number:
            go.wait()
        return echo(body, number)

    with Endpoint(respond) as endpoint:
        running = backend(endpoint, concurrency=2).answer(items, max_new_tokens=16)
        next(running)
        running.close()
        go.set()
    assert len(endpoint.bodies) <= 3 < len(items)  # the one that was answered, and two under way
    assert not [thread for thread in threading.enumerate() if thread.name == "api-backend"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_url": None}, "--base-url is missing, expected something like http"),
        ({"base_url": "localhost:8000"}, "--base-url is localhost:8000"),
        ({"base_url": "http://me:pass@host/v1"}, "carries a password"),
        ({"model": ""}, "--model is empty"),
        ({"concurrency": 0}, "--concurrency is 0"),
        ({"timeout": 0}, "--timeout is 0"),
        ({"key_variable": "NOT_SET_ANYWHERE"}, "NOT_SET_ANYWHERE: not set"),
        ({"family": "qwen3vl"}, "did you mean qwen3-vl"),
        ({"model": "gpt-4o", "image_min_pixels": 1000}, "--image-min-pixels: for AD-Copilot and"),
        ({"model": "gpt-4o", "image_max_pixels": 100}, "--image-max-pixels is 100, expected 784 or more"),
        ({"image_side": 5}, "--image-side is 5"),
    ],
)
def test_wrong_settings_are_said_before_anything_is_sent(options, message):
    with pytest.raises(UserError, match=message) as raised:
        ApiBackend(**{"base_url": "http://localhost:1/v1", "model": "m", **options})
    assert "pass@" not in str(raised.value)


def test_description_is_json_and_tells_what_answers_depend_on():
    import json

    made = ApiBackend(base_url="http://localhost:1/v1", model="AD-Copilot", vllm=True)
    described = json.loads(json.dumps(made.describe()))
    assert described["family"] == "adcopilot"
    assert described["images"]["training"] == [1024, 589824]
    assert described["request"] == {"repetition_penalty": 1.0}
    other = ApiBackend(base_url="http://elsewhere:1/v1", model="AD-Copilot", vllm=True, concurrency=3)
    assert other.describe() == made.describe()
