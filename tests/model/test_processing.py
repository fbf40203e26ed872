"""The processor: Qwen2.5-VL's output with comparison pads after each image's own pads, and nothing else changed."""

import inspect
from typing import get_args, get_type_hints

import pytest
import torch
from transformers import Qwen2_5_VLProcessor

from adcopilot.model import AdCopilotProcessor

from .conftest import chat, encode, random_image

pytestmark = pytest.mark.forward


def test_pads_stand_behind_each_images_own_pads(processor, conversations):
    text, images = conversations[3]
    ids = processor(text=[text], images=images, return_tensors="pt")["input_ids"][0]
    start, image, compare, end = processor.tokenizer.convert_tokens_to_ids(
        ["<|vision_start|>", "<|image_pad|>", "<|compare_pad|>", "<|vision_end|>"]
    )
    grids = processor.image_processor(images, return_tensors="pt")["image_grid_thw"]
    expected = [[start, *[image] * (int(grid.prod()) // 4), *[compare] * 5, end] for grid in grids]
    found, inside = [], False
    for token in ids.tolist():
        if token == start:
            found.append([])
            inside = True
        if inside:
            found[-1].append(token)
        if token == end:
            inside = False
    assert found == expected


def test_equals_qwens_processor_but_for_the_pads(processor, qwen_base_dir, conversations):
    stock = Qwen2_5_VLProcessor.from_pretrained(qwen_base_dir)
    stock.tokenizer.padding_side = "left"
    ours, theirs = encode(processor, conversations), encode(stock, conversations)
    assert torch.equal(ours["pixel_values"], theirs["pixel_values"])
    assert torch.equal(ours["image_grid_thw"], theirs["image_grid_thw"])
    for row, mask, expected, expected_mask in zip(
        ours["input_ids"], ours["attention_mask"], theirs["input_ids"], theirs["attention_mask"], strict=True
    ):
        kept = row[mask.bool() & (row != processor.comparison_token_id)]
        assert torch.equal(kept, expected[expected_mask.bool()])


def test_chat_template_can_do_everything_at_once(processor):
    messages = [
        {
            "role": "user",
            "content": [
                {"type": "image", "image": random_image(0)},
                {"type": "image", "image": random_image(1)},
                {"type": "text", "text": "Compare."},
            ],
        }
    ]
    ready = processor.apply_chat_template(
        messages, tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    images = [part["image"] for part in messages[0]["content"][:2]]
    expected = processor(text=[chat(processor, (2, "Compare."))], images=images, return_tensors="pt")
    assert torch.equal(ready["input_ids"], expected["input_ids"])
    assert (ready["input_ids"] == processor.comparison_token_id).sum() == 10


def test_text_without_images(processor):
    assert processor(text="Hello.", return_tensors="pt")["input_ids"].shape[0] == 1


def test_the_first_image_of_each_text_without_pads(processor, conversations, monkeypatch):
    both = encode(processor, conversations)
    counted = processor._get_num_multimodal_tokens(image_sizes=[(56, 84)])
    assert counted.num_image_tokens == [2 * 3 + 5]
    monkeypatch.setattr(processor, "comparison_of_first", False)
    found = encode(processor, conversations)
    counts = (found["input_ids"] == processor.comparison_token_id).sum(-1)
    assert counts.tolist() == [5 * max(len(images) - 1, 0) for _, images in conversations]
    # which: those of the first image are left out, and nothing else is
    row, whole = found["input_ids"][3], both["input_ids"][3]
    first = (whole == processor.comparison_token_id).nonzero()[:5, 0]
    kept = torch.ones_like(whole, dtype=torch.bool)
    kept[first] = False
    assert torch.equal(row[found["attention_mask"][3] == 1], whole[kept & (both["attention_mask"][3] == 1)])
    counted = processor._get_num_multimodal_tokens(image_sizes=[(56, 84), (56, 84)])
    assert counted.num_image_tokens == [2 * 3, 2 * 3 + 5]


def test_a_single_string_is_a_batch_of_one(processor):
    text = chat(processor, (1, "Hi."))
    one = processor(text=text, images=[random_image(0)], return_tensors="pt")
    assert torch.equal(
        one["input_ids"], processor(text=[text], images=[random_image(0)], return_tensors="pt")["input_ids"]
    )


def test_folder_without_the_token_is_refused(qwen_base_dir):
    with pytest.raises(ValueError, match=r"no <\|compare_pad\|>.*adcopilot init"):
        AdCopilotProcessor.from_pretrained(qwen_base_dir)


def test_the_call_says_what_it_takes(processor):
    """vLLM's helper reads there which of `mm_processor_kwargs` it passes on, and typed-kwargs tests what to try."""
    annotation = inspect.signature(type(processor).__call__).parameters["kwargs"].annotation
    kinds = get_type_hints(get_args(annotation)[0])
    assert {"images_kwargs", "text_kwargs", "videos_kwargs"} <= kinds.keys()
    assert {"max_pixels", "min_pixels", "do_resize"} <= kinds["images_kwargs"].__annotations__.keys()


@pytest.mark.parametrize("nested", [False, True])
def test_max_pixels_of_a_call(processor, nested):
    """Flat or under `images_kwargs`; the comparison tokens stay as many as they were."""
    image = random_image(0, 280, 280)
    options = {"max_pixels": 84 * 84, "min_pixels": 56 * 56}
    options = {"images_kwargs": options} if nested else options
    inputs = processor(text=[chat(processor, (1, "Look."))], images=[image], return_tensors="pt", **options)
    assert inputs["image_grid_thw"].tolist() == [[1, 6, 6]]
    ids = inputs["input_ids"][0].tolist()
    assert (ids.count(processor.image_token_id), ids.count(processor.comparison_token_id)) == (9, 5)
