"""LlamaFactory's chat with a real vLLM server: the answers of a model that knows them by heart, in every turn."""

import os

import pytest

from ..vllm.serving import serve, why_not
from ..webui import taught
from .conftest import turns_of
from .test_chat import chat

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def remote(llamafactory, tmp_path_factory):
    """LlamaFactory's chat whose model is a server of the taught checkpoint."""
    if os.environ.get("ADCOPILOT_TEST_VLLM") != "1":
        pytest.skip("starts vLLM, which takes minutes: run by `make test-vllm`")
    if reason := why_not():
        pytest.skip(reason)
    from llamafactory.chat import ChatModel

    folder = tmp_path_factory.mktemp("taught")
    taught.teach(folder / "model")
    with pytest.MonkeyPatch.context() as patch, serve(folder / "model", log=folder / "server.log") as server:
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setenv("no_proxy", "127.0.0.1")
        settings = {"template": "adcopilot", "do_sample": False, "max_new_tokens": 64}
        yield ChatModel({"model_name_or_path": f"{server.url}/v1", **settings})


@pytest.mark.parametrize(
    ("turns", "images", "answer"),
    [
        ([taught.ASK], ["good", "bad"], taught.FOUND),
        ([taught.ASK], ["good", "good"], taught.NOTHING),
        ([taught.ASK], ["other", "good", "bad"], taught.FOUND_BOTH),
        ([f"<image><image>{taught.ASK}", taught.FOUND, taught.ASK_MORE], ["good", "bad"], taught.MORE),
        (
            [f"<image><image>{taught.ASK}", taught.FOUND, f"<image><image>{taught.ASK}"],
            ["good", "bad", "good", "good"],
            taught.NOTHING,
        ),
    ],
)
def test_answers(remote, tmp_path, turns, images, answer):
    parts = taught.write_parts(tmp_path)
    paths = [str(parts[name]) for name in images]
    assert chat(remote, *turns, images=paths) == answer
    pieces = list(remote.stream_chat(turns_of(turns), images=paths))
    assert "".join(pieces) == answer
    assert len(pieces) > 2
