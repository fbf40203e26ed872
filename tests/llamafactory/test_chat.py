"""`llamafactory-cli chat` and `api` answer what `processor` and `generate` answer."""

import base64
import io

import pytest
import torch
from PIL import Image

from .conftest import turns_of

pytestmark = pytest.mark.forward

QUESTION = "Is there a defect in the second part?"


@pytest.fixture(scope="module")
def chat_model(model, lf, tmp_path_factory):
    """LlamaFactory's chat engine on a checkpoint with weights that make answers depend on the images."""
    from llamafactory.chat import ChatModel

    folder = tmp_path_factory.mktemp("chat")
    model.save_pretrained(folder)
    lf.processor.save_pretrained(folder)
    settings = {
        "model_name_or_path": str(folder),
        "template": "adcopilot",
        "infer_backend": "huggingface",
        "infer_dtype": "float32",
        "trust_remote_code": True,
        "do_sample": False,
        "max_new_tokens": 12,
        "skip_special_tokens": False,
    }
    chat_model = ChatModel(settings)
    chat_model.engine.model.to("cpu")
    return chat_model


def generated(model, processor, turns, images) -> str:
    """The answer by transformers alone; `turns` are (number of images, text) and the answers between them."""
    messages = turns_of([{"type": "image"}] * number + [words(text)] for number, text in turns)
    text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    images = [Image.open(path) for path in images]
    inputs = processor(text=[text], images=images or None, return_tensors="pt")
    with torch.no_grad():
        output = model.generate(**inputs, max_new_tokens=12, do_sample=False)
    return processor.tokenizer.decode(output[0, inputs["input_ids"].shape[1] :])


def chat(chat_model, *texts, images=()) -> str:
    return chat_model.chat(turns_of(texts), images=list(images) or None)[0].response_text


def test_two_images(chat_model, model, lf, image_files):
    expected = generated(model, lf.processor, [(2, QUESTION)], image_files[:2])
    assert chat(chat_model, QUESTION, images=image_files[:2]) == expected
    swapped = generated(model, lf.processor, [(2, QUESTION)], image_files[1::-1])
    assert swapped != expected, "the weights make the order of the images not matter"
    assert chat(chat_model, QUESTION, images=image_files[1::-1]) == swapped


def test_images_of_several_turns(chat_model, model, lf, image_files):
    turns = [(1, "Look."), (0, "Yes."), (1, QUESTION)]
    expected = generated(model, lf.processor, turns, image_files[:2])
    found = chat(chat_model, "<image>Look.", "Yes.", f"<image>{QUESTION}", images=image_files[:2])
    assert found == expected


def test_text_alone(chat_model, model, lf):
    assert chat(chat_model, "Hi.") == generated(model, lf.processor, [(0, "Hi.")], [])


def test_streaming(chat_model, image_files):
    messages = [{"role": "user", "content": QUESTION}]
    pieces = "".join(chat_model.stream_chat(messages, images=image_files[:2]))
    assert pieces == chat(chat_model, QUESTION, images=image_files[:2])


def test_pads_are_never_generated(chat_model, image_files):
    """LlamaFactory builds its own generation settings; the checkpoint's ban on image and comparison pads survives."""
    engine = chat_model.engine
    config = engine.model.config
    banned = [config.image_token_id, config.video_token_id, config.comparison_token_id]
    words = [engine.tokenizer.convert_ids_to_tokens(token) for token in banned]

    def favour(_, __, logits):
        logits[..., banned] += 1e4
        return logits

    handle = engine.model.lm_head.register_forward_hook(favour)
    try:
        answer = chat(chat_model, QUESTION, images=image_files[:2])
    finally:
        handle.remove()
    assert answer
    assert not any(word in answer for word in words)


@pytest.fixture
def ask(chat_model, monkeypatch):
    """An OpenAI-style request to `llamafactory-cli api`."""
    pytest.importorskip("fastapi")
    from fastapi.testclient import TestClient
    from llamafactory.api.app import create_app

    monkeypatch.setenv("API_VERBOSE", "0")
    client = TestClient(create_app(chat_model))

    def ask(*contents, system=None, **fields):
        messages = [{"role": "system", "content": system}] if system else []
        messages += turns_of(contents)
        return client.post("/v1/chat/completions", json={"model": "adcopilot", "messages": messages, **fields})

    return ask


def picture(path):
    buffer = io.BytesIO()
    Image.open(path).save(buffer, "PNG")
    url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": url}}


def words(text):
    return {"type": "text", "text": text}


def test_api_with_two_images(ask, chat_model, image_files):
    response = ask([*map(picture, image_files[:2]), words(QUESTION)])
    assert response.status_code == 200, response.text
    answer = response.json()["choices"][0]["message"]["content"]
    assert answer == chat(chat_model, QUESTION, images=image_files[:2])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("mark", ["<image>", "<video>", "<audio>"])
def test_api_text_adds_no_images(ask, image_files, mark, stream):
    """HTTP 400 and why, in a text, a part, a later turn, and beside real images."""
    kind = mark[1:-1]
    for contents in (
        [f"What is {mark}?"],
        [[picture(image_files[0]), words(f"{mark} What is this?")]],
        [[picture(image_files[0]), words("What is this?")], "A part.", f"And {mark}?"],
        ["Hi.", f"An answer with {mark}.", "And now?"],
    ):
        response = ask(*contents, stream=stream)
        assert response.status_code == 400
        assert f"its text holds {mark}, which stands for {kind} data and not for words; " in response.json()["detail"]
        assert f'"{kind}_url"' in response.json()["detail"]


def test_api_vision_tokens_are_words_everywhere(ask):
    tokens = "<|vision_start|><|image_pad|><|compare_pad|><|vision_end|>"
    assert ask(f"What is {tokens}?", system=f"Look at {tokens}.").status_code == 200


def test_api_other_mistakes_of_a_request(ask):
    broken = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    for content, says in (
        (None, "has no content"),
        ([{"type": "text"}], "a part of type text has no text"),
        ([{"type": "image_url"}], "a part of type image_url has no image_url"),
        ([broken, words("What?")], "cannot identify image"),
    ):
        response = ask(content)
        assert response.status_code == 400
        assert says in response.json()["detail"]
    # the status of a stream is sent before its images are looked at
    response = ask([broken, words("What?")], stream=True)
    assert '"code": 400' in response.text
    assert response.text.rstrip().endswith("[DONE]")
