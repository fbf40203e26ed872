"""`adcopilot.grpo.prompts`: records as prompts."""

import json
import shutil

import pytest
from PIL import Image

from adcopilot.errors import UserError
from adcopilot.grpo.prompts import RolloutPrompts, dataset_files, draw, read_rollout_records
from adcopilot.images import open_image, resize_for_training
from adcopilot.prompts import THINK_INSTRUCTION

BUDGET = {"image_max_pixels": 768 * 768, "image_min_pixels": 1024}


def prompts(records, processor, media_dir, **changes):
    settings = {"think": True, "cutoff_len": 2048, "max_completion_length": 64, **BUDGET, **changes}
    return RolloutPrompts(records=records, processor=processor, media_dir=media_dir, **settings)


def test_reads_what_the_registry_names(rl_data):
    files = dataset_files(["rl", "rl_test"], rl_data)
    assert [file.name for file in files] == ["rl.jsonl", "rl_test.jsonl"]
    assert len(read_rollout_records(files, media_dir=rl_data)) == 32
    with pytest.raises(UserError, match=r"has no data set 'nothing'; there are: rl, rl_test, thinking"):
        dataset_files(["nothing"], rl_data)
    with pytest.raises(UserError, match=r"dataset_dir nowhere: no dataset_info.json there .* in which rl would be"):
        dataset_files(["rl"], "nowhere")


def test_problems_are_listed_together(rl_data, rl_records, tmp_path):
    bad = [
        {**rl_records[0], "answer": "perhaps"},
        {**rl_records[1], "images": ["gone.png", rl_records[1]["images"][1]]},
        {**rl_records[2], "images": ["../../etc/passwd", rl_records[2]["images"][1]]},
    ]
    file = tmp_path / "bad.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in [*bad, rl_records[3]]))
    with pytest.raises(UserError) as caught:
        read_rollout_records([file], media_dir=rl_data)
    said = str(caught.value)
    assert "bad.jsonl:1" in said
    assert "expected the letter of an option" in said
    assert "gone.png: no such image file" in said
    assert "leads out of" in said


def test_masks_that_no_answer_can_be_held_against_are_found_before_training(rl_data, rl_records, tmp_path):
    media = shutil.copytree(rl_data, tmp_path / "media")
    located = next(record for record in rl_records if record["task"] == "locate" and record["mask"])
    with Image.open(media / located["mask"]) as mask:
        mask.resize((20, 20)).save(media / "small.png")
        Image.new("L", mask.size).save(media / "empty.png")
    (media / "cut.png").write_bytes((media / located["mask"]).read_bytes()[:-30])
    masks = {
        "none.png": "mask none.png not found",
        "small.png": "small.png: the mask has 20×20 pixels but its image",
        "empty.png": "empty.png: the mask marks nothing",
        "cut.png": "cut.png: the mask cannot be read (the mask is truncated or corrupt",
    }
    file = tmp_path / "rl.jsonl"
    file.write_text("".join(json.dumps({**located, "key": name, "mask": name}) + "\n" for name in masks))
    with pytest.raises(UserError) as caught:
        read_rollout_records([file], media_dir=media)
    for number, says in enumerate(masks.values(), 1):
        assert f"rl.jsonl:{number}: " in str(caught.value)
        assert says in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"boxes": [[0.1, 0.2, 0.3, 0.4]]}, "no number above 1"),
        ({"boxes": [[1, 2, 3000, 4]]}, "is outside"),
        ({"boxes": {"a": 1}}, "expected a list"),
        ({"boxes": [7]}, "is not four numbers"),
        ({"mask": [7]}, "expected a list and a path"),
        ({"task": "loc", "answer": '[{"bbox_2d": [9, 9, 40, 40]}]', "boxes": [], "mask": ""}, "neither 'boxes' nor a"),
        ({"task": "mc", "answer": "Q"}, "the answer 'Q' is no option of its question"),
        ({"images": [], "messages": [{"role": role, "content": "?"} for role in ("user", "assistant")]}, "no image"),
    ],
)
def test_the_truth_is_checked_as_the_text_is(rl_data, rl_records, tmp_path, changes, says):
    file = tmp_path / "rl.jsonl"
    file.write_text(json.dumps({**rl_records[0], **changes}) + "\n")
    with pytest.raises(UserError, match=says):
        read_rollout_records([file], media_dir=rl_data)


def test_the_same_records_twice_are_refused(rl_data):
    file = rl_data / "rl.jsonl"
    with pytest.raises(UserError, match="24 records are there twice"):
        read_rollout_records([file, file], media_dir=rl_data)


def test_an_item_asks_for_reasons_once_and_hides_the_answer(rl_data, rl_records, policy_processor):
    item = prompts(rl_records, policy_processor, rl_data)[0]
    [message] = item["prompt"]
    assert [part["type"] for part in message["content"]] == ["image", "image", "text"]
    text = message["content"][-1]["text"]
    assert text.count(THINK_INSTRUCTION) == 1
    record = {
        **rl_records[0],
        "messages": [{"role": "user", "content": "<image><image>" + text}, rl_records[0]["messages"][1]],
    }
    again = prompts([record], policy_processor, rl_data)[0]
    assert again["prompt"] == item["prompt"]
    plain = prompts(rl_records, policy_processor, rl_data, think=False)[0]
    assert THINK_INSTRUCTION not in plain["prompt"][0]["content"][-1]["text"]


def test_boxes_in_a_question_are_the_models_pixels(rl_data, rl_records, policy_processor):
    record = json.loads(json.dumps(rl_records[0]))
    record["messages"][0]["content"] += ' {"bbox_2d": [10, 20, 30, 40]}'
    dataset = prompts([record], policy_processor, rl_data, image_min_pixels=112 * 112)
    assert dataset[0]["model_size"] == (112, 112)
    assert dataset[0]["query_size"] == (56, 56)
    assert '{"bbox_2d": [20, 40, 60, 80]}' in dataset[0]["prompt"][0]["content"][-1]["text"]


def test_vision_tokens_in_a_record_are_words(rl_data, rl_records, policy_processor):
    record = json.loads(json.dumps(rl_records[0]))
    record["messages"][0]["content"] += " <|image_pad|>"
    text = prompts([record], policy_processor, rl_data)[0]["prompt"][0]["content"][-1]["text"]
    assert "<|image_pad|>" not in text


@pytest.mark.parametrize("of_first", [True, False])
def test_length_is_the_processors(rl_data, rl_records, policy_processor, of_first, monkeypatch):
    monkeypatch.setattr(policy_processor, "comparison_of_first", of_first)
    dataset = prompts(rl_records, policy_processor, rl_data, image_max_pixels=60 * 60)
    for index in range(4):
        item = dataset[index]
        text = policy_processor.apply_chat_template(item["prompt"], tokenize=False, add_generation_prompt=True)
        images = [
            resize_for_training(open_image(path), image_max_pixels=3600, image_min_pixels=1024)
            for path in item["images"]
        ]
        ids = policy_processor(text=[text], images=images, return_tensors="pt")["input_ids"]
        assert dataset.length(rl_records[index]) == ids.shape[1]


def test_too_long_prompts_are_left_out(rl_data, rl_records, policy_processor):
    lengths = sorted(prompts(rl_records, policy_processor, rl_data).length(record) for record in rl_records)
    middle = lengths[len(lengths) // 2]
    dataset = prompts(rl_records, policy_processor, rl_data, cutoff_len=middle + 64)
    assert len(dataset) == sum(length <= middle for length in lengths)
    assert dataset.too_long == len(lengths) - len(dataset)
    with pytest.raises(UserError, match="no prompt is short enough, the shortest has"):
        prompts(rl_records, policy_processor, rl_data, cutoff_len=65)


def test_draw_is_fixed_by_its_seed(rl_records):
    keys = [record["key"] for record in draw(rl_records, 5, seed=1)]
    assert keys == [record["key"] for record in draw(rl_records, 5, seed=1)]
    assert keys != [record["key"] for record in draw(rl_records, 5, seed=2)]
    assert draw(rl_records, None, seed=1) is rl_records
