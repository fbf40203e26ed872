"""Boxes in other notations: converted on request into pixels of the original, the text around them kept."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adcopilot.boxes.named import NOTATIONS
from adcopilot.chat_ad.box_conversion import Evenness, convert_record, notations_of
from adcopilot.errors import UserError
from adcopilot.records import check_record, foreign_boxes

pytestmark = pytest.mark.forward

HD = (1920, 1080)


def record(answer, question="<image>Where?", images=("a.png",)):
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": messages, "images": list(images)}


def convert(answer, notation, size=HD):
    new, count = convert_record(record(answer), [size], notations_of(notation), name="f:1")
    check_record(new, name="f:1", sizes=[size])
    return new["messages"][1]["content"], count


@pytest.mark.parametrize(
    ("notation", "before", "after"),
    [
        (
            "qwen2-vl",
            "See <|object_ref_start|>a scratch<|object_ref_end|><|box_start|>(600,400),(900,700)<|box_end|> there.",
            'See {"bbox_2d": [1152, 432, 1728, 756], "label": "a scratch"} there.',
        ),
        (
            "internvl",
            "<ref>hole</ref><box>[[600, 400, 900, 700], [0,0,500,500]]</box>",
            '[{"bbox_2d": [1152, 432, 1728, 756], "label": "hole"}, {"bbox_2d": [0, 0, 960, 540], "label": "hole"}]',
        ),
        ("seed", "It is <bbox>600 400 900 700</bbox>.", 'It is {"bbox_2d": [1152, 432, 1728, 756]}.'),
        ("deepseek-vl2", "<|det|>[[0, 0, 999, 999]]<|/det|>", '{"bbox_2d": [0, 0, 1920, 1080]}'),
        ("gemini", '[{"box_2d": [400, 600, 700, 900]}]', '[{"bbox_2d": [1152, 432, 1728, 756]}]'),
        ("coco", '[{"bbox" : [600,400 , 300, 299.6], "a": 1}]', '[{"bbox_2d" : [600,400 , 900, 700], "a": 1}]'),
        ("corners", '{"boxes": [[600, 400, 900, 700]]}', '{"bbox_2d": [[600, 400, 900, 700]]}'),
        ("relative", 'A {"bbox_2d": [0.3125, 0.3704, 0.4688, 0.6481]}', 'A {"bbox_2d": [600, 400, 900, 700]}'),
        ("relative", '{"bbox_2d": ["0.5", "0.5", "1", "1"]}', '{"bbox_2d": [960, 540, 1920, 1080]}'),
        ("relative", '{"bbox_2d": [0, 0, 1, 1]}', '{"bbox_2d": [0, 0, 1920, 1080]}'),
        ("relative", '{"bbox_2d": [600, 400, 900, 700]}', '{"bbox_2d": [600, 400, 900, 700]}'),
        ("relative", r'"{\"bbox_2d\": [0.5, 0.5, 1.0, 1.0]}"', r'"{\"bbox_2d\": [960, 540, 1920, 1080]}"'),
        ("relative-xywh", '{"bbox_2d": [0.5, 0.5, 0.25, 0.1]}', '{"bbox_2d": [960, 540, 1440, 648]}'),
        ("thousand", '{"bbox_2d": [600, 400, 900, 700]}', '{"bbox_2d": [1152, 432, 1728, 756]}'),
        ("pixels", '{"bbox_2d": [[600, 400], [900, 700]]}', '{"bbox_2d": [600, 400, 900, 700]}'),
        ("qwen2-vl,coco", '<|box_start|>(0,0),(500,500)<|box_end|> {"bbox": [1, 2, 3, 4]}', None),
    ],
)
def test_each_notation(notation, before, after):
    found, _ = convert(before, notation)
    assert found == (after or '{"bbox_2d": [0, 0, 960, 540]} {"bbox_2d": [1, 2, 4, 6]}')


def test_pairs_earlier_turns_and_what_grpo_reads():
    before = record('{"bbox_2d": [0.5, 0.5, 1, 1]}', question='<image>{"bbox_2d": [0, 0, 0.5, 1]}<image>', images="ab")
    before |= {"answer": '[{"bbox_2d": [0.5, 0.5, 1, 1]}]', "boxes": [[0.5, 0.5, 1, 1]], "labels": ["x"]}
    new, count = convert_record(before, [(100, 100), HD], notations_of("relative"), name="f:1")
    assert count == 2
    assert [message["content"] for message in new["messages"]] == [
        '<image>{"bbox_2d": [0, 0, 50, 100]}<image>',
        '{"bbox_2d": [960, 540, 1920, 1080]}',
    ]
    assert new["answer"] == '[{"bbox_2d": [960, 540, 1920, 1080]}]'
    assert (new["boxes"], new["labels"]) == ([[960, 540, 1920, 1080]], ["x"])
    assert before["boxes"] == [[0.5, 0.5, 1, 1]]  # the record itself stays


@pytest.mark.parametrize(
    ("notation", "text", "says"),
    [
        ("qwen2-vl", "<|box_start|>(600,400),(1900,700)<|box_end|>", "outside 0 to 1000×1000"),
        ("qwen2-vl", "<|box_start|>(0.1,0.2),(0.3,0.4)<|box_end|>", "no number above 1, .*relative"),
        ("qwen2-vl", "<|box_start|>(600,400),(900,700)", "is not closed"),
        ("seed", "<bbox>1 2 3</bbox>", "holds 3 numbers"),
        ("coco", '{"bbox": [600, 400, 1900, 700]}', "outside 0 to 1920×1080"),
        ("corners", '{"bbox": [600, 400, 300, 300]}', "empty or inverted"),
        ("relative", '{"bbox_2d": [0.5, 0.5, 0.2, 0.2]}', "empty or inverted.*relative-xywh"),
        ("relative", '{"bbox": [600, 400, 900, 700]}', "outside 0 to 1×1"),
        ("qwen2-vl", '{"a": "<|box_start|>(1,2),(3,4)<|box_end|>"}', "within a text of JSON"),
    ],
)
def test_what_is_not_in_its_notation_is_refused(notation, text, says):
    with pytest.raises(UserError, match=rf"^f:1: .*{says}"):
        convert(text, notation)


@pytest.mark.parametrize(
    ("names", "says"),
    [("", "expected one of"), ("coca", "did you mean coco"), ("coco,corners", "the same boxes; name one")],
)
def test_names(names, says):
    with pytest.raises(UserError, match=says):
        notations_of(names)


@given(
    st.sampled_from(sorted(NOTATIONS)),
    st.text(st.sampled_from('"bbox_2d:[] (1,2.5)<box>|{}end\\'), max_size=80),
    st.lists(st.floats(0, 1000), min_size=4, max_size=4),
)
def test_any_text_is_converted_or_refused_in_one_line(notation, text, four):
    text += json.dumps({"bbox_2d": four})
    try:
        said = convert(text, notation)[0]
    except UserError as error:
        said = str(error)
    assert "\n" not in said


def test_foreign_boxes_are_counted_behind_an_image_only():
    text = (
        'Format: <bbox>1 2 3 4</bbox> <image> <bbox>5 6 7 8</bbox><bbox>5 6 7 9</bbox> "point_2d": [1, 2] <box>3</box>'
    )
    assert foreign_boxes(record("No.", question=text)) == {
        "seed": (2, "<bbox>5 6 7 8</bbox>"),
        "points": (1, '"point_2d": [1, 2]'),
    }
    assert foreign_boxes({"messages": [{"content": "<bbox>1 2 3 4</bbox>"}]}) == {}


def test_thousandths_that_say_they_are_pixels():
    def file(*boxes, size=HD):
        evenness = Evenness()
        for box in boxes:
            evenness.add(box, size)
        return evenness.is_thousandths

    spread = [[start, 400, start + 90, 700] for start in range(0, 900, 50)]
    assert file(*spread)
    assert not file(*spread, [1500, 1, 1600, 9])  # one beyond: pixels
    assert not file(*spread[:3])  # too few to tell
    assert not file(*[spread[0]] * 50)  # one defect in fifty photographs
    assert not file(*spread, size=(800, 600))  # nothing could be beyond
