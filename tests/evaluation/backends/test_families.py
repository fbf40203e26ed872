"""Every family's notation is read into pixels of the original image, and reasoning is told from the answer."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adcopilot.answering.families import (
    FAMILIES,
    box_question,
    family_of,
    family_of_config,
    read_boxes,
    split_thinking,
)
from adcopilot.boxes import scale_box
from adcopilot.errors import UserError
from adcopilot.prompts import INSPECT_QUESTION

SIZE = (2000, 500)
#: The same box, 10 to 30 % across and 20 to 60 % down, as each family writes it; the model saw 1000 x 400.
WRITTEN = {
    "adcopilot": 'Yes. [{"bbox_2d": [100, 80, 300, 240], "label": "scratch"}]',
    "qwen2.5-vl": '```json\n[{"bbox_2d": [100, 80, 300, 240], "label": "scratch"}]\n```',
    "qwen3-vl": '```json\n[{"bbox_2d": [100, 200, 300, 600], "label": "scratch"}]\n```',
    "internvl": "<ref>scratch</ref><box>[[100, 200, 300, 600]]</box>",
    "seed": "There is a scratch: <bbox>100 200 300 600</bbox>",
    "gemini": '[{"box_2d": [200, 100, 600, 300], "label": "scratch"}]',
    "generic": '[{"bbox_2d": [100, 200, 300, 600], "label": "scratch"}]',
}


def boxes(text, family="generic", size=SIZE, model_size=(1000, 400)):
    return [box["bbox_2d"] for box in read_boxes(text, family=FAMILIES[family], size=size, model_size=model_size)]


def test_all_families_are_tested():
    assert set(WRITTEN) == set(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
def test_own_notation(family):
    found = read_boxes(WRITTEN[family], family=FAMILIES[family], size=SIZE, model_size=(1000, 400))
    label = "" if family == "seed" else "scratch"
    assert found == [{"bbox_2d": [200.0, 100.0, 600.0, 300.0], "label": label}]


@pytest.mark.parametrize("family", [name for name, family in FAMILIES.items() if not family.pixels])
@pytest.mark.parametrize("notation", [name for name, family in FAMILIES.items() if not family.pixels])
def test_another_familys_notation_is_understood(family, notation):
    assert boxes(WRITTEN[notation], family) == [[200, 100, 600, 300]]


@pytest.mark.parametrize("family", FAMILIES)
def test_reasoning_does_not_count_and_the_answer_does(family):
    text = f"<think>Perhaps {WRITTEN[family].replace('100', '101')}?</think><answer>{WRITTEN[family]}</answer>"
    assert boxes(text, family) == [[200, 100, 600, 300]]


def test_several_boxes_in_order_of_appearance():
    text = "<ref>hole</ref><box>[[0, 0, 500, 500], [500, 500, 1000, 1000]]</box> and <box>[[1,2,3,4]]</box>"
    found = read_boxes(text, family=FAMILIES["internvl"], size=(1000, 1000))
    assert [box["label"] for box in found] == ["hole", "hole", ""]
    assert [box["bbox_2d"] for box in found] == [[0, 0, 500, 500], [500, 500, 1000, 1000], [1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("No defect.", []),
        ("[]", []),
        ("<box>[]</box>", []),
        ("none", []),
        ("<bbox>1 2 3</bbox>", []),
        ("[[100, 200, 300, 600]]", [[200, 100, 600, 300]]),
        ("[100, 200, 300, 600]", [[200, 100, 600, 300]]),
        ("It is at (100, 200, 300, 600), clearly.", [[200, 100, 600, 300]]),
        ("[300, 600, 100, 200]", [[200, 100, 600, 300]]),  # corners the wrong way round
        ("[0.1, 0.2, 0.3, 0.6]", [[200, 100, 600, 300]]),  # shares of the sides
        ("[0, 0, 1, 1]", []),  # a speck: the whole image in shares, or a thousandth of it, nobody knows
        ("[900, 900, 1500, 2000]", [[1800, 450, 2000, 500]]),  # clipped to the image
        ("[1100, 200, 1300, 600]", []),  # beside the image
        ("[100, 200, 100, 600]", []),  # no area
        ('[{"bbox_2d": [100, 200, 300, 600], "label": "a"}, {"bbox_2d": [1, 2', [[200, 100, 600, 300]]),  # cut off
        ("[1e400, 0, 5, 5] __import__('os')", []),
        ("Questions 1, 2, 3, 4 are answered.", []),  # a list of numbers is no box without brackets
    ],
)
def test_forgiving_but_not_guessing(text, expected):
    assert boxes(text) == expected


def test_gemini_writes_bare_lists_with_y_first():
    assert boxes("[200, 100, 600, 300]", "gemini") == [[200, 100, 600, 300]]
    assert boxes("[200, 100, 600, 300]", "generic") == [[400, 50, 1200, 150]]


@given(st.text(alphabet=st.sampled_from(list('[]{}<>(),.:" 0123456789eE-+boxref_2dNanIfity/')), max_size=120))
def test_any_text_gives_boxes_inside_the_image(text):
    for family in FAMILIES.values():
        for box in read_boxes(text, family=family, size=(70, 50), model_size=(56, 56)):
            x1, y1, x2, y2 = box["bbox_2d"]
            assert 0 <= x1 <= x2 <= 70
            assert 0 <= y1 <= y2 <= 50
            assert all(math.isfinite(value) for value in box["bbox_2d"])


@given(
    st.tuples(st.integers(28, 4000), st.integers(28, 4000)),
    st.tuples(st.integers(1, 50), st.integers(1, 50)),
    st.data(),
)
def test_pixel_boxes_agree_with_the_mapping_of_training(size, cells, data):
    model_size = (28 * cells[0], 28 * cells[1])
    x1, x2 = sorted((data.draw(st.integers(0, model_size[0])), data.draw(st.integers(0, model_size[0]))))
    y1, y2 = sorted((data.draw(st.integers(0, model_size[1])), data.draw(st.integers(0, model_size[1]))))
    found = boxes(f'[{{"bbox_2d": [{x1}, {y1}, {x2}, {y2}], "label": "a"}}]', "adcopilot", size, model_size)
    if x1 == x2 or y1 == y2 or max(x2, y2) <= 1:  # no area, or a speck that may as well be shares of the sides
        assert found == []
        return
    exact = scale_box([x1, y1, x2, y2], model_size, size)
    # Training's boxes are whole pixels (half a pixel off) and at least one wide (up to one more).
    assert all(abs(a - b) <= 1.5 for a, b in zip(found[0], exact, strict=True))


def test_families_that_write_pixels_need_the_models_size():
    with pytest.raises(ValueError, match="model_size"):
        read_boxes("[]", family=FAMILIES["adcopilot"], size=SIZE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A", ("", "A")),
        (" A. \n", ("", "A.")),
        ("<think>It has a hole.</think><answer>B</answer>", ("It has a hole.", "B")),
        ("<think>It has a hole.</think>\nB", ("It has a hole.", "B")),
        ("It has a hole.</think>B", ("It has a hole.", "B")),  # the template had opened it
        ("<think>It has a", ("It has a", "")),  # cut off
        ("<think>a</think><answer>B", ("a", "B")),  # cut off in the answer
        ("<think>a <answer>B</answer>", ("a", "B")),  # never closed
        ("<think>a</think><think>b</think>C", ("a</think><think>b", "C")),
        ("<think>not <answer>A</answer></think><answer>B</answer>", ("not <answer>A</answer>", "B")),
        ("<answer>A</answer> or rather <answer>B</answer>", ("", "B")),
        ("<THINK>a</THINK><ANSWER>B</ANSWER>", ("a", "B")),
        ("", ("", "")),
    ],
)
def test_split_thinking(text, expected):
    assert split_thinking(text) == expected


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("AD-Copilot-7B", "adcopilot"),
        ("jiang-cc/AD_Copilot", "adcopilot"),
        ("Qwen/Qwen2.5-VL-7B-Instruct", "qwen2.5-vl"),
        ("qwen2_5_vl_72b", "qwen2.5-vl"),
        ("Qwen3-VL-8B", "qwen3-vl"),
        ("OpenGVLab/InternVL3_5-8B-HF", "internvl"),
        ("doubao-seed-1.6-vision", "seed"),
        ("Seed1.5-VL", "seed"),
        ("my-model-seed42", "generic"),
        ("gemini-2.5-pro", "gemini"),
        ("gpt-4o-2024-11-20", "generic"),
    ],
)
def test_family_by_the_models_name(model, family):
    assert family_of(None, model=model).name == family


def test_family_by_name_and_by_configuration():
    assert family_of("InternVL", model="x").name == "internvl"
    assert family_of_config("qwen2_5_vl").name == "qwen2.5-vl"
    assert family_of_config("llava").name == "generic"
    with pytest.raises(UserError, match=r"expected one of adcopilot, .*; did you mean internvl") as raised:
        family_of("intervl", model="x")
    assert "\n" not in str(raised.value)


def test_box_questions():
    assert box_question(FAMILIES["adcopilot"], images=2) == INSPECT_QUESTION
    for family in FAMILIES.values():
        assert "the last image" in box_question(family, images=3)
        assert "the image." in box_question(family, images=1)
    assert "<box>" in box_question(FAMILIES["internvl"], images=2)
    assert "box_2d" in box_question(FAMILIES["gemini"], images=2)
    assert "pixels" in box_question(FAMILIES["qwen2.5-vl"], images=2)
