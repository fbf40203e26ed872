"""`vllm serve` over HTTP: OpenAI-style chat with images, rollouts, adapters that come and go, and what it refuses."""

import re
import shutil
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from PIL import ExifTags, Image

from tests.vllm.conftest import QUESTION, Answer, as_url, messages

pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module")
def chat(vllm_server, images):
    """`chat("ab", question, …)`: the server's response about images a and b, greedy by default."""

    def post(names: str, question: str = QUESTION, **fields) -> httpx.Response:
        request = {
            "model": str(vllm_server.model),
            "messages": messages([images[name] for name in names], question),
            "temperature": 0,
            "repetition_penalty": 1,
            "max_tokens": 16,
            "logprobs": True,
            "return_token_ids": True,
            **fields,
        }
        return httpx.post(f"{vllm_server.url}/v1/chat/completions", json=request, timeout=120)

    return post


def answers(response: httpx.Response) -> list[Answer]:
    assert response.status_code == 200, response.text
    body = response.json()
    return [
        Answer(
            body["prompt_token_ids"],
            choice["token_ids"],
            [token["logprob"] for token in choice["logprobs"]["content"]],
        )
        for choice in body["choices"]
    ]


def refusal(response: httpx.Response, *, status: int) -> str:
    assert response.status_code == status, response.text
    return response.json()["error"]["message"]


def counter(vllm_server, name: str) -> float:
    """The value of one of the server's own counters."""
    metrics = httpx.get(f"{vllm_server.url}/metrics", timeout=30).text
    return sum(float(value) for value in re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", metrics, re.MULTILINE))


@pytest.mark.parametrize("names", ["", "a", "ab", "cb", "abc", "eb"])
def test_chat_equals_transformers(names, chat, ask_transformers):
    assert answers(chat(names)) == [ask_transformers(names)]


def test_one_query_after_two_templates_while_caches_are_hit(chat, ask_transformers, vllm_server):
    names = ("ad", "cd", "ad", "cd", "d", "ad")
    hits = counter(vllm_server, "vllm:prefix_cache_hits_total"), counter(vllm_server, "vllm:mm_cache_hits_total")
    for each in names:
        assert answers(chat(each)) == [ask_transformers(each)], each
    # the repeated pairs at least; tokens, and images
    assert counter(vllm_server, "vllm:prefix_cache_hits_total") >= hits[0] + 3 * 32
    assert counter(vllm_server, "vllm:mm_cache_hits_total") >= hits[1] + 3 * 2


def test_concurrent_requests(chat, ask_transformers):
    prompts = ["ab", "cb", "db", "b", "", "abc", "cba", "eb", "be", "dd", "ad", "cd"] * 2
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda names: answers(chat(names)), prompts))
    assert found == [[ask_transformers(names)] for names in prompts]


def test_a_second_turn_compares_its_new_image_with_the_last_of_the_first(chat, images, ask_transformers):
    """The images of all turns are one conversation, so the prompt differs from one turn with both only in its text."""
    turns = [
        *messages([images["a"]], QUESTION),
        {"role": "assistant", "content": "Yes."},
        *messages([images["b"]], QUESTION),
    ]
    (both,) = answers(chat("", messages=turns))
    pads = [token for token in both.prompt if token in (612, 614)]
    assert pads == [token for token in ask_transformers("ab").prompt if token in (612, 614)]
    (other,) = answers(chat("", messages=[*messages([images["c"]], QUESTION), *turns[1:]]))
    assert other.prompt == both.prompt
    assert other.logprobs != both.logprobs


def test_an_image_is_turned_upright(chat, images, ask_transformers):
    """By its EXIF orientation, before it is compared."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    turned = as_url(images["e"].transpose(Image.Transpose.ROTATE_90), exif=exif)
    turns = messages([images["a"], images["e"]], QUESTION)
    turns[0]["content"][1]["image_url"]["url"] = turned
    assert answers(chat("", messages=turns)) == [ask_transformers("ae")]


def test_many_samples_of_one_prompt(chat, ask_transformers):
    """What a rollout asks for: token ids and log-probabilities of several samples."""
    samples = answers(chat("ab", n=6, temperature=1.0, seed=3))
    assert len(samples) == 6
    assert len({tuple(sample.tokens) for sample in samples}) > 1
    assert {tuple(sample.prompt) for sample in samples} == {tuple(ask_transformers("ab").prompt)}
    assert all(len(sample.tokens) == len(sample.logprobs) for sample in samples)


def test_pads_cannot_be_sampled(chat, ask_transformers):
    """Not even when a client asks for them; in transformers `suppress_tokens` of generation_config.json bans them."""
    favour = {str(token): 100 for token in (612, 613, 614)}
    assert answers(chat("ab", logit_bias=favour)) == [ask_transformers("ab")]
    wanted = ask_transformers("ab").tokens[0]
    assert answers(chat("ab", logit_bias={str(wanted): -100}))[0].tokens[0] != wanted


@pytest.mark.parametrize("pad", ["<|image_pad|>", "<|compare_pad|>"])
@pytest.mark.parametrize("names", ["a", "ab"])
def test_pads_in_a_users_text_are_refused(pad, names, chat, ask_transformers):
    """Beside images; in a prompt without any they stand for nothing and are text to transformers' model too."""
    message = refusal(chat(names, f"{pad} {QUESTION}"), status=400)
    assert pad in message
    assert "\n" not in message
    assert answers(chat("ab")) == [ask_transformers("ab")]


def test_other_bad_input_is_refused_and_the_server_goes_on(chat, images, ask_transformers):
    content = messages([images["a"]], QUESTION)[0]["content"]
    broken = {"type": "image_url", "image_url": {"url": as_url(images["b"])[:200]}}
    assert chat("", messages=[{"role": "user", "content": [broken, *content]}]).status_code == 400
    video = {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}}
    assert "0 video" in refusal(chat("", messages=[{"role": "user", "content": [video, *content]}]), status=400)
    assert chat("ab", model="unknown").status_code == 404
    assert answers(chat("ab")) == [ask_transformers("ab")]


def post(vllm_server, action: str, **fields) -> httpx.Response:
    return httpx.post(f"{vllm_server.url}/v1/{action}_lora_adapter", json=fields, timeout=120)


def test_an_adapter_answers_as_its_merged_weights(chat, vllm_server, adapters, ask_transformers):
    assert ask_transformers("ab", weights=adapters["first"][1]) != ask_transformers("ab")
    for name, (adapter, merged) in adapters.items():
        assert post(vllm_server, "load", lora_name=f"merged-{name}", lora_path=str(adapter)).status_code == 200
        for names in ("ab", "cb", ""):
            expected = ask_transformers(names, weights=merged)
            assert answers(chat(names, model=f"merged-{name}")) == [expected], (name, names)
    assert answers(chat("ab")) == [ask_transformers("ab")]


def test_adapters_in_one_batch_do_not_mix(chat, vllm_server, adapters, ask_transformers):
    """Requests for the base are left out: on a CPU vLLM gives them the last slot's adapter (docs/serving.md)."""
    for name, (adapter, _) in adapters.items():
        assert post(vllm_server, "load", lora_name=f"batch-{name}", lora_path=str(adapter)).status_code == 200
    asked = [(name, pair) for name in adapters for pair in ("ad", "cd", "ab", "", "dcb")] * 2
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda each: answers(chat(each[1], model=f"batch-{each[0]}")), asked))
    for (name, pair), answer in zip(asked, found, strict=True):
        assert answer == [ask_transformers(pair, weights=adapters[name][1])], (name, pair)


def test_a_new_version_under_a_new_name(chat, vllm_server, adapters, ask_transformers):
    """What docs/serving.md advises: load the new one, drop the old one's name."""
    for step, version in enumerate(("first", "second", "first")):
        adapter, merged = adapters[version]
        assert post(vllm_server, "load", lora_name=f"policy-{step}", lora_path=str(adapter)).status_code == 200
        if step:
            assert post(vllm_server, "unload", lora_name=f"policy-{step - 1}").status_code == 200
            assert chat("ab", model=f"policy-{step - 1}").status_code == 404
        assert answers(chat("ab", model=f"policy-{step}")) == [ask_transformers("ab", weights=merged)]


def test_a_new_version_in_the_same_folder_needs_a_salt(chat, vllm_server, adapters, ask_transformers, tmp_path):
    """vLLM shares prefixes by an adapter's name and path; `cache_salt` keeps the old version's out of the new one's
    answers."""
    for version in ("first", "second"):
        adapter, merged = adapters[version]
        shutil.copytree(adapter, tmp_path / "policy", dirs_exist_ok=True)
        load = post(vllm_server, "load", lora_name="policy", lora_path=str(tmp_path / "policy"), load_inplace=True)
        assert load.status_code == 200
        for _ in range(2):
            found = answers(chat("ab", model="policy", cache_salt=version))
            assert found == [ask_transformers("ab", weights=merged)]


def test_adapters_that_cannot_be_served_are_refused(chat, vllm_server, tmp_path, tiny_dir, ask_transformers):
    from peft import LoraConfig, get_peft_model

    from adcopilot.model import AdCopilotForConditionalGeneration

    assert post(vllm_server, "load", lora_name="none", lora_path=str(tmp_path / "none")).status_code == 404
    for name, options, word in (
        ("encoder", {"target_modules": r"model\.(language_model|comparison_encoder)\..*q_proj"}, "merge_this_adapter"),
        ("queries", {"target_modules": ["q_proj"], "modules_to_save": ["comparison_queries"]}, "modules_to_save"),
        ("rank", {"target_modules": r"model\.language_model\..*q_proj", "r": 64}, "max_lora_rank"),
    ):
        model = AdCopilotForConditionalGeneration.from_pretrained(tiny_dir, dtype="float32")
        get_peft_model(model, LoraConfig(**options)).save_pretrained(tmp_path / name)
        load = post(vllm_server, "load", lora_name=name, lora_path=str(tmp_path / name))
        assert word in refusal(load, status=500), name
        assert chat("ab", model=name).status_code == 404
    assert answers(chat("ab")) == [ask_transformers("ab")]
