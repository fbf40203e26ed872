"""The text that the template makes, against Qwen2-VL's template and against our own processor."""

import copy
import json

import pytest

from ..helpers.refusals import refused
from .conftest import L, encode, sample

pytestmark = pytest.mark.forward


def test_ids_and_labels_are_qwens_without_comparison_tokens(lf, samples):
    ours, stock = encode(lf.encoder(), *samples), encode(lf.encoder("qwen2_vl"), *samples)
    pad = lf.processor.comparison_token_id
    for index, one in enumerate(samples):
        ids, labels = ours["input_ids"][index], ours["labels"][index]
        keep = [place for place, token in enumerate(ids) if token != pad]
        assert len(ids) - len(keep) == L * len(one["_images"] or [])
        assert [ids[place] for place in keep] == stock["input_ids"][index]
        assert [labels[place] for place in keep] == stock["labels"][index]


@pytest.mark.parametrize("of_first", [True, False])
def test_ids_are_our_processors(lf, samples, of_first, monkeypatch):
    """What the collator is fed with is what `processor(text, images)` makes of the same conversation."""
    from PIL import Image

    monkeypatch.setattr(lf.processor, "comparison_of_first", of_first)
    encoded = encode(lf.encoder(), *samples)
    for ids, one in zip(encoded["input_ids"], samples, strict=True):
        images = [Image.open(path) for path in one["_images"] or []]
        text = chat_text(lf.processor, one)
        assert lf.processor(text=[text], images=images or None)["input_ids"][0] == ids


def chat_text(processor, one: dict) -> str:
    messages = []
    for message in [*one["_prompt"], *one["_response"]]:
        parts = message["content"].split("<image>")
        content = [{"type": "text", "text": parts[0]}] if parts[0] else []
        for part in parts[1:]:
            content += [{"type": "image"}, *([{"type": "text", "text": part}] if part else [])]
        messages.append({"role": message["role"], "content": content})
    return processor.apply_chat_template(messages, tokenize=False)


def test_labels_are_the_answers_only(lf, samples):
    encoded = encode(lf.encoder(), samples[3])
    labels = [token for token in encoded["labels"][0] if token != -100]
    assert lf.tokenizer.decode(labels) == "The same.<|im_end|>\nDifferent.<|im_end|>\n"


@pytest.mark.parametrize(
    "token", ["<|image_pad|>", "<|compare_pad|>", "<|vision_start|>", "<|vision_end|>", "<|video_pad|>"]
)
def test_a_vision_token_typed_by_a_user_is_text(lf, image_files, token):
    one = sample(f"<image><image>What is {token}?", f"{token} is text.", images=image_files[:2])
    plain = sample("<image><image>What is it?", "It is text.", images=image_files[:2])
    special = lf.tokenizer.convert_tokens_to_ids(token)
    found, expected = (encode(lf.encoder(), each)["input_ids"][0].count(special) for each in (one, plain))
    assert found == expected
    text = lf.tokenizer.decode(encode(lf.encoder(), one)["input_ids"][0])
    assert text.replace("\u200b", "").count(token) == expected + 2  # it still reads the same


TOOL = {"name": "zoom", "description": "Look {} closer", "parameters": {"properties": {"{}": {"enum": ["{}"]}}}}


@pytest.mark.parametrize("column", ["_system", "_tools"])
@pytest.mark.parametrize(
    "token", ["<|image_pad|>", "<|compare_pad|>", "<|vision_start|>", "<|video_pad|>", "<|im_end|>", "<|im_start|>"]
)
def test_a_token_in_the_system_turn_is_text(lf, image_files, column, token):
    """Of a data set's columns `system` and `tools`, which the mm plugin is not shown; in JSON written as it likes."""
    plain, one = (sample("<image><image>Is it?", "No.", images=image_files[:2]) for _ in range(2))
    for each, written in ((plain, "it"), (one, token)):
        each[column] = f"Look at {written}." if column == "_system" else json.dumps([TOOL]).replace("{}", written)
    special = lf.tokenizer.convert_tokens_to_ids(token)
    expected = encode(lf.encoder(), plain)["input_ids"][0].count(special)
    escaped = [one] if column == "_system" else [one, {**one, "_tools": one["_tools"].replace("<", "\\u003c")}]
    for each in escaped:
        ids = encode(lf.encoder(), each)["input_ids"][0]
        assert ids.count(special) == expected
        assert token in lf.tokenizer.decode(ids).replace("\u200b", "")


def test_a_default_system_is_text_too(lf, samples):
    encoder = lf.encoder(default_system="Say <|im_end|>.")
    end = lf.tokenizer.convert_tokens_to_ids("<|im_end|>")
    try:
        assert encode(encoder, samples[1])["input_ids"][0].count(end) == 3
    finally:
        lf.encoder(default_system="You are a helpful assistant.")


def test_how_a_tool_is_called_may_stand_in_the_system_turn_and_in_calls(lf, samples):
    """A set's own words for what LlamaFactory writes of `tools`; and a call with a thought before it."""
    one = {**samples[1], "_system": "Call tools within <tool_call></tool_call>."}
    one["_response"] = [
        {"role": "function", "content": 'Closer.<tool_call>{"name": "zoom", "arguments": {}}</tool_call>'}
    ]
    for template in ("adcopilot", "qwen2_vl"):
        text = lf.tokenizer.decode(encode(lf.encoder(template), one)["input_ids"][0])
        assert "within <tool_call></tool_call>." in text
        assert 'Closer.<tool_call>\n{"name": "zoom", "arguments": {}}\n</tool_call><|im_end|>' in text


UNREADABLE = [
    *({"_tools": tools} for tools in ('{"name": "zoom"}', "zoom", "[1]", "null", "5")),
    *({"_response": [{"role": "function", "content": call}]} for call in ("zoom", '{"name": "zoom"}', "[1]")),
]


@pytest.mark.parametrize("change", UNREADABLE)
def test_tools_or_a_call_of_them_that_cannot_be_read_name_their_sample(lf, samples, image_files, change):
    says = "JSON list" if "_tools" in change else r'as \{"name": …, "arguments"'
    with refused(rf"{image_files[2]}: its tools or a call of them cannot be read \(.*{says}"):
        encode(lf.encoder(), {**samples[1], **change})


def test_registering_twice_changes_nothing(llamafactory):
    from llamafactory.data.mm_plugin import PLUGINS
    from llamafactory.data.template import TEMPLATES
    from llamafactory.extras import constants
    from llamafactory.model.model_utils.visual import COMPOSITE_MODELS

    from adcopilot.llamafactory import register

    before = (TEMPLATES["adcopilot"], PLUGINS["adcopilot"], COMPOSITE_MODELS["adcopilot"], len(TEMPLATES))
    models = dict(constants.SUPPORTED_MODELS)
    register()
    assert before == (TEMPLATES["adcopilot"], PLUGINS["adcopilot"], COMPOSITE_MODELS["adcopilot"], len(TEMPLATES))
    assert models == constants.SUPPORTED_MODELS


def test_model_group(llamafactory):
    from llamafactory.extras import constants

    for name, path in {
        "AD-Copilot": "jiang-cc/AD-Copilot",
        "AD-Copilot-Thinking": "jiang-cc/AD-Copilot-Thinking",
    }.items():
        assert constants.SUPPORTED_MODELS[name] == {constants.DownloadSource.DEFAULT: path}
        assert constants.DEFAULT_TEMPLATE[name] == "adcopilot"
        assert name in constants.MULTIMODAL_SUPPORTED_MODELS
    assert "adcopilot" in constants.MROPE_MODELS


def test_qwens_template_is_not_shared(llamafactory):
    """LlamaFactory changes a template in place; ours must not be Qwen's."""
    from llamafactory.data.template import TEMPLATES

    ours, stock = TEMPLATES["adcopilot"], TEMPLATES["qwen2_vl"]
    assert ours is not stock
    assert ours.format_user is not stock.format_user
    assert type(stock.mm_plugin).__name__ == "Qwen2VLPlugin"
    changed = copy.deepcopy(stock.default_system)
    ours.default_system, restore = "changed", ours.default_system
    assert stock.default_system == changed
    ours.default_system = restore


def test_template_refuses_a_stock_processor(lf, samples, qwen_base_dir):
    from transformers import AutoProcessor

    encoder = lf.encoder()
    encoder.processor = AutoProcessor.from_pretrained(qwen_base_dir)
    with refused(r"needs AD-Copilot's processor, found Qwen2_5_VLProcessor; .*adcopilot init"):
        encode(encoder, samples[0])
