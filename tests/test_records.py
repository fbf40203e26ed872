"""Chat-AD records: what is built passes its own check, and each fault is named in one line."""

import random
import re

import pytest
from PIL import Image

from adcopilot.boxes import text_boxes
from adcopilot.errors import UserError
from adcopilot.records import check_box, check_record, make_record, record_boxes, record_image_sizes

from .helpers.refusals import refused

pytestmark = pytest.mark.forward


def record(answer="No.", *, question="<image><image>Same?", images=("a.png", "b.png")):
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": messages, "images": list(images)}


def test_make_record_marks_images_once_and_keeps_the_rest():
    made = make_record(images=["a.png", "b.png"], turns=[("Same?", "No."), ("Where?", "Here.")], task="x", boxes=[])
    assert made == {
        "messages": [
            {"role": "user", "content": "<image><image>Same?"},
            {"role": "assistant", "content": "No."},
            {"role": "user", "content": "Where?"},
            {"role": "assistant", "content": "Here."},
        ],
        "images": ["a.png", "b.png"],
        "task": "x",
        "boxes": [],
    }
    placed = make_record(images=["a.png", "b.png"], turns=[("A <image> and B <image>", "No.")], system="S")
    assert placed["messages"][0] == {"role": "system", "content": "S"}
    assert placed["messages"][1]["content"] == "A <image> and B <image>"
    assert make_record(images=[], turns=[("Hello", "Hi")])["messages"][0]["content"] == "Hello"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([], "expected a JSON object, got list"),
        ({}, "'messages' is None, expected a list"),
        ({"messages": []}, "'messages' is [], expected a list"),
        ({"messages": ["hi"]}, "message 0 is hi, expected a role and a text"),
        ({"messages": [{"role": "user", "content": None}]}, "message 0 is {'role': 'user', 'content': None}"),
        ({"messages": [{"role": "assistant", "content": ""}]}, "message 0 has role 'assistant', expected 'user'"),
        (
            {"messages": [{"role": "user", "content": ""}, {"role": "user", "content": ""}]},
            "message 1 has role 'user', expected 'assistant'",
        ),
        ({"messages": [{"role": "user", "content": ""}]}, "the last message is the user's"),
        (record(" \n"), "message 1, an answer, is empty, which would teach to say nothing"),
        ({**record(), "images": "a.png"}, "'images' is a.png, expected a list of file names"),
        ({**record(), "images": ["a.png", ""]}, "expected a list of file names"),
        (record(question="<image><image><video>Same?"), "<video> in the messages, expected images only"),
        (record(images=["a.png"]), "2 <image> in the messages but 1 in 'images'; write one <image> for each image"),
        (record(question="<image>Same?"), "1 <image> in the messages but 2 in 'images'"),
        (record('[{"bbox_2d": [1, 2, 3], "label": "x"}]'), "box [1, 2, 3] is not four numbers"),
        (record('[{"bbox_2d": [1, 2, a, 4]}]'), "box [1, 2, a, 4] is not four numbers"),
        (record('[{"bbox_2d": [nan, 2, 3, 4]}]'), "box [nan, 2, 3, 4] is not four numbers"),
        (record('[{"bbox_2d": []}]'), "is not four numbers"),
        (record('{"bbox_2d": [9, 2, 3, 4]}'), "box [9, 2, 3, 4] is inverted, expected x1 < x2 and y1 < y2"),
        (record('{"bbox_2d": [1, 2, 1, 4]}'), "box [1, 2, 1, 4] is empty"),
        (record('{"bbox_2d": [-1, 2, 3, 4]}'), "box [-1, 2, 3, 4] is outside b.png (30×20 pixels)"),
        (record('{"bbox_2d": [1, 2, 31, 4]}'), "box [1, 2, 31, 4] is outside b.png (30×20 pixels)"),
        (record('{"bbox_2d": [1, 2, ' + "9" * 400 + ", 4]}"), "is outside b.png"),
        (record('{"bbox_2d" :\n[1.5,2,3,20.5]}'), "box [1.5, 2, 3, 20.5] is outside b.png"),
        (record(question='{"bbox_2d": [1, 2, 3, 4]}<image><image>'), "box [1, 2, 3, 4] stands before any <image>"),
    ],
)
def test_each_fault_is_one_line(bad, message):
    with refused(f"^train.jsonl:7: .*{re.escape(message)}"):
        check_record(bad, name="train.jsonl:7", sizes=[(10, 10), (30, 20)])


def test_boxes_to_the_very_edge_and_per_image():
    check_record(record('{"bbox_2d": [0, 0, 30, 20]}'), name="x", sizes=[(10, 10), (30, 20)])
    question = '<image>{"bbox_2d": [0, 0, 10, 10]}<image>{"bbox_2d": [0, 0, 30, 20]}'
    check_record(record(question=question), name="x", sizes=[(10, 10), (30, 20)])
    with pytest.raises(UserError, match=r"outside a\.png \(10×10 pixels\)"):
        check_record(record(question=question.replace("10, 10", "10, 11")), name="x", sizes=[(10, 10), (30, 20)])
    # Without sizes only what needs none is checked.
    check_record(record('{"bbox_2d": [0, 0, 3000, 20]}'), name="x")


def test_record_boxes_keep_their_numbers_and_find_their_image():
    question = '<image> [1, 2, 3, 4] "bbox_2d":[1,2.5,3,4] <image> "bbox_2d": [5, 6, 7, 8]'
    found = list(record_boxes(record("'bbox_2d': [[1, 2, 3, 4], [5, 6, 7, 8,]]", question=question), name="x"))
    assert found == [(0, [1, 2.5, 3, 4]), (1, [5, 6, 7, 8]), (1, [1, 2, 3, 4]), (1, [5, 6, 7, 8])]
    assert type(found[0][1][0]) is int
    escaped = record(r'{"text": "[{\"bbox_2d\": [1, 2, 3, 4]}]"}')
    assert list(record_boxes(escaped, name="x")) == [(1, [1, 2, 3, 4])]


def test_a_list_that_is_not_closed_takes_no_time():
    # Two to the number of boxes before the expression was possessive: for these, longer than the universe is old.
    text = '"bbox_2d": [' + "[1, 2, 3, 4] , " * 500
    assert list(record_boxes(record(text + "x"), name="x")) == []
    assert list(record_boxes(record(text + "]"), name="x")) == [(1, [1, 2, 3, 4])] * 500


def test_a_prompt_may_explain_the_format():
    question = '<image><image>Answer as [{"bbox_2d": [x1, y1, x2, y2], "label": "…"}]'
    check_record(record(question=question), name="x", sizes=[(10, 10), (30, 20)])


def test_boxes_are_those_that_training_maps():
    """`boxes.text_boxes` finds what LlamaFactory's plugin rewrites; a record's check must look at the same."""
    rng = random.Random(3)
    for _ in range(300):
        quote = rng.choice(['"', "'", '\\"'])
        lists = [
            "[" + ", ".join(str(rng.choice([3, 7.5, 12])) for _ in range(4)) + "]" for _ in range(rng.randint(1, 3))
        ]
        body = lists[0] if rng.random() < 0.6 else "[" + rng.choice([",", " , "]).join(lists) + "]"
        text = f"before {quote}bbox_2d{quote}{rng.choice([':', ' : '])}{body} after"
        ours = [box for _, box in record_boxes(record(text, question="<image><image>"), name="x")]
        assert ours == text_boxes(text), text
        assert ours


def test_check_box_refuses_other_types():
    for bad in (None, "1,2,3,4", [1, 2, 3, True], [1, 2, 3, float("inf")]):
        with pytest.raises(UserError, match="is not four numbers"):
            check_box(bad, name="x")


def test_image_sizes_name_record_and_file(tmp_path):
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    assert record_image_sizes({"images": ["a.png"]}, name="x", media_dir=tmp_path) == [(30, 20)]
    with pytest.raises(UserError, match=r"t\.jsonl:3: .*b\.png: no such image file"):
        record_image_sizes({"images": ["a.png", "b.png"]}, name="t.jsonl:3", media_dir=tmp_path)
