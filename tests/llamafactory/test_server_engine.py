"""Chat with an OpenAI-style server: the answers of the same model loaded here; a server's faults in words."""

import json
import threading

import pytest

from ..evaluation.backends.endpoint import Endpoint
from ..helpers.refusals import refused
from ..helpers.waiting import until
from .test_chat import QUESTION, chat, chat_model  # noqa: F401

uvicorn = pytest.importorskip("uvicorn", reason="needs uvicorn, which LlamaFactory installs for its API")

GREEDY = {"template": "adcopilot", "do_sample": False, "max_new_tokens": 12}


@pytest.fixture(scope="module")
def api(chat_model):  # noqa: F811
    """LlamaFactory's own API over the model of `test_chat`, on a port of this machine."""
    from llamafactory.api.app import create_app

    patch = pytest.MonkeyPatch()
    patch.setenv("API_VERBOSE", "0")
    patch.setenv("NO_PROXY", "127.0.0.1")
    patch.setenv("no_proxy", "127.0.0.1")
    server = uvicorn.Server(uvicorn.Config(create_app(chat_model), host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started, "the server")
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/v1"
    server.should_exit = True
    thread.join(20)
    patch.undo()


@pytest.fixture(scope="module")
def remote(api):
    """LlamaFactory's chat with the server's address where a model's folder would be."""
    from llamafactory.chat import ChatModel

    return ChatModel({"model_name_or_path": api, **GREEDY})


def test_it_answers_as_the_model_does_here(chat_model, remote, image_files):  # noqa: F811
    pair = image_files[:2]
    expected = chat(chat_model, QUESTION, images=pair)
    assert chat(remote, QUESTION, images=pair) == expected
    assert chat(remote, QUESTION, images=pair[::-1]) == chat(chat_model, QUESTION, images=pair[::-1]) != expected
    turns = ["<image>Look.", "Yes.", f"<image>{QUESTION}"]
    assert chat(remote, *turns, images=pair) == chat(chat_model, *turns, images=pair)
    assert chat(remote, "Hi.") == chat(chat_model, "Hi.")
    pieces = list(remote.stream_chat([{"role": "user", "content": QUESTION}], images=pair))
    assert len(pieces) > 2
    assert "".join(pieces) == expected


def test_large_images_are_resized_as_in_training(chat_model, remote, tmp_path):  # noqa: F811
    from .conftest import random_image

    paths = [str(tmp_path / f"{index}.png") for index in range(2)]
    for index, path in enumerate(paths):
        random_image(index, 1000, 700).save(path)  # 700,000 pixels; LlamaFactory lets 589,824 through
    assert chat(remote, QUESTION, images=paths) == chat(chat_model, QUESTION, images=paths)


def test_boxes_are_placed_as_with_the_model_here(chat_model, remote):  # noqa: F811
    from adcopilot.llamafactory.mm_plugin import size_for_model

    for size in [(150, 110), (1000, 700), (3000, 2000), (30, 20), (84, 56)]:
        assert size_for_model(size, remote.engine.processor) == size_for_model(size, chat_model.engine.processor)


def test_other_models_are_loaded_as_before(adcopilot_dir, llamafactory):
    from llamafactory.chat.hf_engine import HuggingfaceEngine

    from adcopilot.llamafactory.server_engine import is_address

    assert HuggingfaceEngine.__mro__[1].__module__ == "llamafactory.chat.hf_engine"
    assert [is_address(name) for name in ("https://host/v1", "Qwen/Qwen2.5-VL-7B-Instruct", str(adcopilot_dir))] == [
        True,
        False,
        False,
    ]


def answering(models, lines=(), status=200) -> Endpoint:
    """A server that gives these answers."""
    body = b"".join(line.encode() + b"\n\n" for line in lines)
    return Endpoint(lambda *_: (status, {}, body), models=models)


def served(*names, owner="vllm") -> dict:
    return {"object": "list", "data": [{"id": name, "owned_by": owner} for name in names]}


def piece(text, **more) -> str:
    return "data: " + json.dumps({"choices": [{"delta": {"content": text}, "finish_reason": None}], **more})


def connected(url, **settings):
    from llamafactory.chat import ChatModel

    return ChatModel({"model_name_or_path": url, **GREEDY, **settings})


@pytest.fixture
def at_home(monkeypatch):
    """No proxy between this machine and itself."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return monkeypatch


@pytest.mark.usefixtures("llamafactory")
def test_what_a_vllm_server_is_asked(at_home, image_files):
    at_home.setenv("ADCOPILOT_API_KEY", "secret")
    end = "data: " + json.dumps({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}})
    with answering(served("base", "lora"), [piece("Yes"), piece("."), end, "data: [DONE]"]) as server:
        model = connected(f"{server.url}#lora", do_sample=True, temperature=0.6, top_p=0.9)
        messages = [{"role": "user", "content": "<image>A <|image_pad|> and <image>B"}]
        response = model.chat(messages, system="Be brief.", images=image_files[:2])[0]
    assert (response.response_text, response.prompt_length, response.response_length) == ("Yes.", 7, 2)
    [request] = server.bodies
    assert server.headers[0]["authorization"] == "Bearer secret"
    assert request["model"] == "lora"
    sampling = {key: request[key] for key in ("max_tokens", "temperature", "top_p", "repetition_penalty")}
    assert sampling == {"max_tokens": 12, "temperature": 0.6, "top_p": 0.9, "repetition_penalty": 1.0}
    system, user = request["messages"]
    assert system == {"role": "system", "content": "Be brief."}
    assert [part["type"] for part in user["content"]] == ["image_url", "text", "image_url", "text"]
    assert all(part["image_url"]["url"].startswith("data:image/png;base64,") for part in user["content"][::2])
    texts = [part["text"] for part in user["content"][1::2]]
    assert texts[1] == "B"
    assert "<|image_pad|>" not in texts[0]  # a user's text never stands for an image


@pytest.mark.usefixtures("llamafactory")
def test_only_vllm_is_sent_vllms_own_field(at_home):
    with answering(served("gpt", owner="someone"), [piece("Yes.")]) as server:
        assert chat(connected(server.url), "Hi.") == "Yes."
    [request] = server.bodies
    assert "repetition_penalty" not in request
    assert request["temperature"] == 0.0
    assert "authorization" not in server.headers[0]


@pytest.mark.usefixtures("llamafactory", "at_home")
@pytest.mark.parametrize(
    ("status", "lines", "told"),
    [
        (400, ['{"error": {"message": "too many images"}}'], r"status 400 \(too many images\)"),
        (500, ["oh no"], r"status 500 \(oh no\)"),
        (200, [piece("Yes"), 'data: {"error": {"message": "out of memory"}}'], "out of memory"),
        (200, ["data: {not json"], "no piece of an answer"),
        (200, ['data: {"choices": 3}'], "no piece of an answer"),
    ],
)
def test_a_servers_faults_are_told_in_one_line(status, lines, told):
    with answering(served("one"), lines, status) as server:
        model = connected(server.url)
        with refused(told) as raised:
            chat(model, "Hi.")
    assert server.url in str(raised.value)


@pytest.mark.usefixtures("llamafactory", "at_home")
def test_what_cannot_be_connected_is_told_before_anything_is_asked(tmp_path):
    with answering(served("one", "two")) as server:
        url = server.url
        for settings, told in [
            ({"template": "qwen2_vl"}, "template adcopilot, found template qwen2_vl"),
            ({"image_max_pixels": 2800 * 2800}, "image_max_pixels 7840000"),
            ({"adapter_name_or_path": str(tmp_path)}, "adapters live on the server"),
            ({"model_name_or_path": f"{url}#three"}, "serves one, two, expected three"),
            ({"model_name_or_path": url.replace("//", "//user:word@")}, "carries a password"),
            ({"model_name_or_path": f"{url}?key=1"}, "carries a password or a query"),
            ({"model_name_or_path": "http://[1"}, "expected something like http"),
            ({"model_name_or_path": "http://127.0.0.1:port/v1"}, "no answer"),
        ]:
            with refused(told) as raised:
                connected(url, **settings)
            assert "word" not in str(raised.value).replace("password", "")
        assert server.bodies == []
    with refused("is the server running"):
        connected(url)  # it is gone now
    for models, told in (({"hello": "world"}, "no list of models"), (served(), "serves no model")):
        with answering(models) as server, refused(told):
            connected(server.url)


@pytest.mark.usefixtures("llamafactory", "at_home")
def test_what_no_server_is_asked(image_files):
    with answering(served("one")) as server:
        model = connected(server.url)
        with refused("tools"):
            model.chat([{"role": "user", "content": "Hi."}], tools="[]  ")
        with refused("role observation"):
            model.chat([{"role": "observation", "content": "Hi."}])
        with refused("1 images but 2 <image>"):
            chat(model, "<image><image>", images=image_files[:1])
        assert server.bodies == []
