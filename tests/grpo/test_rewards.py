"""Equation 1: the form, the letter, the overlap; nothing that only looks like them."""

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from adcopilot.errors import UserError
from adcopilot.grpo.rewards import answer_text, format_reward, reward_functions, score
from adcopilot.prompts import thinking_answer, thinking_question
from adcopilot.records import make_record
from adcopilot.tasks import task_of
from adcopilot.tasks.locate import LOCATE

QUESTION = "<image><image>What is the defect in the second image?\nA. scratch\nB. hole\nC. stain\nD. none"


def choice(answer="B"):
    turns = [(thinking_question(QUESTION), thinking_answer("A hole.", answer))]
    return make_record(images=["t.png", "q.png"], turns=turns, task="mc", answer=answer, boxes=[], mask="")


@pytest.fixture
def localisation(tmp_path):
    """A mask of 10 x 10 pixels with an L of 7 pixels at the top left; its box is 4 x 4."""
    mask = np.zeros((10, 10), np.uint8)
    mask[0:4, 0] = mask[3, 0:4] = 255
    for name in ("mask.png", "q.png"):
        Image.fromarray(mask).save(tmp_path / name)
    boxes = [[0, 0, 4, 4]]
    answer = json.dumps([{"bbox_2d": boxes[0], "label": "scratch"}])
    about = {"task": "loc", "answer": answer, "boxes": boxes, "mask": "mask.png"}
    return make_record(images=["t.png", "q.png"], turns=[("Where?", answer)], **about)


@pytest.mark.parametrize(
    "text",
    [
        "<think>a</think><answer>b</answer>",
        "  <think>\na\nb</think>\n\n<answer> b </answer>\n",
        "<think>1 < 2 and <b>bold</b></think><answer>[]</answer>",
    ],
)
def test_the_form(text):
    assert format_reward(text) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "B",
        "<answer>B</answer>",
        "<think>a</think>B",
        "<think></think><answer>B</answer>",
        "<think>a</think><answer> </answer>",
        "<think>a</think><answer>B</answer> and more",
        "Well: <think>a</think><answer>B</answer>",
        "<think>a</think> so <answer>B</answer>",
        "<think>a</think><answer>B</answer><answer>C</answer>",
        "<think>a</think><think>b</think><answer>B</answer>",
        "<answer>B</answer><think>a</think>",
        "<think>a<answer>B</answer></think>",
        "</think>a<think><answer>B</answer>",
        "<THINK>a</THINK><ANSWER>B</ANSWER>",
        "<think>a</think></answer>B<answer>",
    ],
)
def test_not_the_form(text):
    assert format_reward(text) == 0


@given(
    st.lists(st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "a", " ", "\n", "<", "B."]), max_size=12)
)
def test_the_form_against_its_definition(pieces):
    """A regular expression that says the same: slow on hostile texts, right on short ones."""
    text = "".join(pieces)
    inside = r"(?:(?!</?(?:think|answer)>).)*?\S(?:(?!</?(?:think|answer)>).)*?"
    same = re.fullmatch(rf"\s*<think>{inside}</think>\s*<answer>{inside}</answer>\s*", text, re.DOTALL)
    assert format_reward(text) == float(same is not None)


@pytest.mark.parametrize(
    ("text", "right"),
    [("B", 1), ("B. hole", 1), ("hole", 1), ("A", 0), ("A or B", 0), ("E", 0), ("", 0), ("B. scratch", 0)],
)
def test_choice(text, right):
    record = choice()
    assert score(thinking_answer("Reasons, A or C.", text), record, format_weight=0.5)["answer"] == right
    assert score(text, record, format_weight=0.5) == {"format": 0, "answer": right, "total": right}


def test_total_is_the_equation():
    found = score(thinking_answer("A hole.", "B"), choice(), format_weight=0.3)
    assert found == {"format": 1.0, "answer": 1.0, "total": 1.3}
    found = score(thinking_answer("A hole.", "C"), choice(), format_weight=0.3)
    assert found == {"format": 1.0, "answer": 0.0, "total": 0.3}


def test_localisation_is_against_the_mask_and_not_its_box(localisation, tmp_path):
    text = thinking_answer("There.", localisation["answer"])
    assert score(text, localisation, format_weight=1, media_dir=tmp_path)["answer"] == pytest.approx(7 / 16)
    strip = '[{"bbox_2d": [0, 0, 1, 4], "label": ""}, {"bbox_2d": [0, 3, 4, 4], "label": ""}]'
    assert score(strip, localisation, format_weight=1, media_dir=tmp_path)["answer"] == 1
    assert score("nothing", localisation, format_weight=1, media_dir=tmp_path)["answer"] == 0


def test_localisation_without_a_mask_is_against_the_boxes(localisation, tmp_path):
    record = {**localisation, "mask": ""}
    half = '[{"bbox_2d": [0, 0, 4, 2], "label": ""}]'
    assert score(half, record, format_weight=1, media_dir=tmp_path)["answer"] == 0.5


def test_boxes_of_the_reasoning_are_not_the_answer(localisation, tmp_path):
    text = thinking_answer(localisation["answer"], "[]")
    assert score(text, localisation, format_weight=1, media_dir=tmp_path)["answer"] == 0


def test_ablations_leave_the_format(localisation, tmp_path):
    found = score(thinking_answer("A hole.", "B"), choice(), format_weight=0.5, without=["mc"])
    assert found == {"format": 1.0, "answer": 0.0, "total": 0.5}
    text = thinking_answer("There.", localisation["answer"])
    found = score(text, localisation, format_weight=0.5, media_dir=tmp_path, without=["loc"])
    assert found == {"format": 1.0, "answer": 0.0, "total": 0.5}


def test_a_record_without_verifiable_answer_is_refused():
    assert task_of(choice()).name == "mc"
    with pytest.raises(UserError, match=r"record k1: 'answer' is 'A hole\.', expected the letter of an option"):
        score("B", {**choice("A hole."), "key": "k1"}, format_weight=1)


def test_masks_stay_inside_the_media_folder(localisation, tmp_path):
    record = {**localisation, "mask": "../mask.png"}
    with pytest.raises(UserError, match=r"\.\./mask\.png: leads out of"):
        score("[]", record, format_weight=1, media_dir=tmp_path)
    with pytest.raises(UserError, match=r"gone\.png: the mask cannot be read"):
        score("[]", {**localisation, "mask": "gone.png"}, format_weight=1, media_dir=tmp_path)


def test_the_reward_reads_masks_as_every_reader_does(localisation, tmp_path):
    """Soft edges are no defect, and what marks nothing, or is of another size than the query, is no truth."""
    Image.new("L", (40, 40)).save(tmp_path / "q.png")
    drawn = np.zeros((20, 20), np.uint8)
    drawn[4:10, 4:12] = 255
    Image.fromarray(drawn).resize((40, 40), Image.Resampling.LANCZOS).save(tmp_path / "soft.png")
    text = '[{"bbox_2d": [8, 8, 24, 20], "label": "scratch"}]'
    record = {**localisation, "mask": "soft.png"}
    assert score(text, record, format_weight=1, media_dir=tmp_path)["answer"] == pytest.approx(1, abs=0.03)
    Image.new("L", (40, 40)).save(tmp_path / "empty.png")
    with pytest.raises(UserError, match=r"empty\.png: the mask marks nothing"):
        score("[]", {**record, "mask": "empty.png"}, format_weight=1, media_dir=tmp_path)
    Image.new("L", (20, 20), 255).save(tmp_path / "small.png")
    with pytest.raises(UserError, match=r"small\.png: the mask has 20×20 pixels but its image 40×40"):
        score("[]", {**record, "mask": "small.png"}, format_weight=1, media_dir=tmp_path)


@given(st.text(max_size=300))
def test_any_text_has_a_reward(text):
    found = score(text, choice(), format_weight=1)
    assert found["format"] in (0, 1)
    assert found["answer"] in (0, 1)


@pytest.mark.parametrize(
    "answer",
    [
        '[{"bbox_2d": [10, 10, 20, 20]}]',
        "<|box_start|>(10,10),(20,20)<|box_end|>",
        '{"bbox_2d": ["10", "10", "20", "20"]}',
        '{"bbox_2d": [0.1, 0.2, 0.2, 0.4]}',
    ],
)
def test_every_notation_is_mapped_before_it_is_scored(answer, tmp_path):
    """In whichever it is written, the model's pixels become the query's: what is read is what is mapped."""
    Image.new("RGB", (200, 100)).save(tmp_path / "q.png")
    record = {"images": ["q.png"], "boxes": [[20, 20, 40, 40]], "answer": "[]"}
    text = answer_text([{"content": answer}], (100, 50), (200, 100))
    assert LOCATE.reward(text, record, tmp_path) == 1.0


#: As old files have them: without a task.
LOC = {
    "key": "l",
    "answer": "[]",
    "images": ["t.png", "q.png"],
    "boxes": [[10, 10, 30, 30]],
    "messages": [{"role": "user", "content": "Where?"}],
}
MC = {**LOC, "key": "m", "answer": "B", "messages": [{"role": "user", "content": "What?\nA. hole\nB. scratch"}]}
del MC["boxes"]


@pytest.fixture
def media(tmp_path):
    for name in ("t.png", "q.png"):
        Image.new("RGB", (100, 50)).save(tmp_path / name)
    return tmp_path


def call(functions, texts, records):
    completions = [[{"role": "assistant", "content": text}] for text in texts]
    columns = {"record": records, "model_size": [(200, 100)] * len(texts), "query_size": [(100, 50)] * len(texts)}
    return {function.__name__: function(completions=completions, prompts=None, **columns) for function in functions}


def test_each_term_where_it_applies(media):
    functions, weights = reward_functions(format_weight=0.5, media_dir=media, tasks={"mc", "loc"})
    assert weights == [0.5, 1.0, 1.0]
    texts = [
        "<think>x</think><answer>B</answer>",
        "<think>x</think><answer>A</answer>",
        # In the model's pixels, which are twice the file's.
        '<think>x</think><answer>[{"bbox_2d": [20, 20, 60, 60], "label": "hole"}]</answer>',
        '[{"bbox_2d": [10, 10, 30, 30]}]',
    ]
    found = call(functions, texts, [MC, MC, LOC, LOC])
    assert found["format"] == [1.0, 1.0, 1.0, 0.0]
    assert found["choice"] == [1.0, 0.0, None, None]
    assert found["boxes"][:3] == [None, None, 1.0]
    # Mapped to [5, 5, 15, 15]: 25 of its 100 pixels are among the true 400.
    assert found["boxes"][3] == pytest.approx(25 / 475)


@pytest.mark.parametrize(("off", "left"), [("mc", ["format", "boxes"]), ("loc", ["format", "choice"])])
def test_ablations(media, off, left):
    functions, weights = reward_functions(format_weight=1.0, media_dir=media, tasks={"mc", "loc"}, without=[off])
    assert [function.__name__ for function in functions] == left
    assert len(weights) == 2
