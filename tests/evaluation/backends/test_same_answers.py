"""The tiny model says the same behind an endpoint as on this machine."""

import base64
import threading

import pytest

from adcopilot.answering.api import ApiBackend
from adcopilot.answering.items import Item
from adcopilot.evaluation.backends.transformers_backend import TransformersBackend

from .endpoint import Endpoint, completion
from .test_transformers_backend import speaking

NEW_TOKENS = 8


@pytest.fixture(scope="module", params=["adcopilot", "qwen2.5-vl"])
def local(request, adcopilot_dir, qwen_base_dir, tmp_path_factory):
    source = {"adcopilot": adcopilot_dir, "qwen2.5-vl": qwen_base_dir}[request.param]
    return TransformersBackend(
        model=speaking(source, tmp_path_factory.mktemp("model") / request.param), device="cpu", dtype="float32"
    )


def serve(local, folder):
    """What a server does with a request: images out of the data URLs, the model's processor and `generate`."""
    lock = threading.Lock()

    def respond(body, number):
        assert body["temperature"] == 0
        images, prefix = [], []
        for part in body["messages"][0]["content"]:
            if part["type"] == "text":
                prefix.append(part["text"])
                continue
            path = folder / f"{number}-{len(images)}.png"
            path.write_bytes(base64.b64decode(part["image_url"]["url"].partition(",")[2]))
            prefix.append(len(images))
            images.append(path)
        item = Item(
            key="1", group="1", images=tuple(images), prefix=tuple(prefix[:-1]), question=prefix[-1],
            options=dict.fromkeys("AB") if body.get("logprobs") else None,
        )  # fmt: skip
        with lock:
            ((_, reply),) = local.answer([item], max_new_tokens=body["max_tokens"])
        assert reply.error is None
        answer = completion(reply.text, finish="length" if reply.truncated else "stop")
        if reply.option_logprobs:
            top = [{"token": token, "logprob": value} for token, value in reply.option_logprobs.items()]
            answer["choices"][0]["logprobs"] = {"content": [{"top_logprobs": top}]}
        return answer

    return respond


@pytest.mark.parametrize("concurrency", [1, 4])
def test_endpoint_and_this_machine(local, items, tmp_path, concurrency):
    expected = {item.key: reply for item, reply in local.answer(items, max_new_tokens=NEW_TOKENS)}
    with Endpoint(serve(local, tmp_path)) as endpoint:
        made = ApiBackend(
            base_url=endpoint.url,
            model="tiny",
            family=local.family.name,
            vllm=True,
            concurrency=concurrency,
            option_logprobs=True,
        )
        found = {item.key: reply for item, reply in made.answer(items, max_new_tokens=NEW_TOKENS)}
    assert {body["repetition_penalty"] for body in endpoint.bodies} == {1.0}
    assert {key: (reply.text, reply.truncated) for key, reply in found.items()} == {
        key: (reply.text, reply.truncated) for key, reply in expected.items()
    }
    for key, reply in expected.items():
        if reply.option_logprobs is None:
            assert found[key].option_logprobs is None
        else:
            # Qwen2.5-VL's images are resized by Pillow before sending, here by torchvision: pixels differ by 1 of 255.
            tolerance = 0.05 if local.family.name == "qwen2.5-vl" else 1e-3
            assert found[key].option_logprobs == pytest.approx(dict(reply.option_logprobs), abs=tolerance)
    for size in ((84, 56), (1100, 733)):
        assert made.model_size(size) == local.model_size(size)
