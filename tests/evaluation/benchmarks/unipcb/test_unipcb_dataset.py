"""UniPCB's file, its boxes, and what is asked."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adcopilot.answering.families import FAMILIES
from adcopilot.boxes import model_image_size
from adcopilot.errors import UserError
from adcopilot.evaluation.benchmarks.unipcb import dataset, prompts
from adcopilot.evaluation.benchmarks.unipcb.classes import ClassNames, plain_name
from adcopilot.evaluation.running import check_groups

from . import mini_unipcb


def load(root):
    return dataset.load(dataset.find_annotations(root), root=root)


def questions(root, **options):
    return dataset.Prepared(load(root), names=ClassNames.below(root), **options)


def box_questions(root, **options):
    return [question for question in questions(root, **options).questions if question.form == "boxes"]


def test_questions_of_each_form(root):
    prepared = questions(root)
    forms = [(question.sample.level, question.form) for question in prepared.questions]
    assert len(forms) == 17
    assert {form: [each for each in forms if each[1] == form] for form in ("choice", "boxes", "open")} == {
        "choice": [("P2", "choice")] * 3 + [("P3", "choice")] * 3,
        "boxes": [("P3", "boxes")] * 4,
        "open": [("P1", "open")] * 3 + [("P2", "open")] * 2 + [("P3", "open")] * 2,
    }
    assert not prepared.unusable
    assert not prepared.notes
    right = next(question for question in prepared.questions if question.form == "choice")
    assert right.options == {"A": "LED", "B": "Resistor", "C": "Diode", "D": "Fuse"}
    assert right.reference == "B"


def test_boxes_become_pixels_of_the_original(root):
    # The file says 196×112 (height first) of an image of 120×200: factors 120/112 and 200/196.
    tall, wide, empty, square = box_questions(root)
    assert tall.size == (120, 200)
    assert tall.frame == (112, 196)
    assert [box["bbox_2d"] for box in tall.reference] == [[0.0, 100.0, 60.0, 200.0], [60.0, 0.0, 120.0, 50.0]]
    assert wide.frame == (252, 112)
    assert [box["bbox_2d"] for box in wide.reference] == [[20.0, 0.0, 60.0, 50.0], [120.0, 50.0, 240.0, 100.0]]
    assert empty.reference == []
    assert square.reference[0]["bbox_2d"] == [0.0, 0.0, 100.0, 100.0]


def test_the_order_of_image_size_is_a_switch(root):
    auto = [question.reference for question in box_questions(root)]
    assert [question.reference for question in box_questions(root, size_order="hw")] == auto
    prepared = questions(root, size_order="wh")
    swapped = [question for question in prepared.questions if question.form == "boxes"]
    assert swapped[0].frame == (196, 112)
    assert [box["bbox_2d"] for box in swapped[0].reference] == [
        [0.0, 175.0, 34.286, 200.0],
        [34.286, 0.0, 68.571, 87.5],
    ]
    assert any("aspect ratio" in note for note in prepared.notes)
    assert any("reach out of their frame" in note for note in prepared.notes)
    assert [question.reference for question in swapped[2:]] == auto[2:], "a square image has no order"


def test_the_frame_of_boxes_is_a_switch(root):
    tall = box_questions(root, frame="original")[0]
    assert tall.frame == (120, 200)
    assert [box["bbox_2d"] for box in tall.reference] == [[0.0, 98.0, 56.0, 196.0], [56.0, 0.0, 112.0, 49.0]]


@settings(max_examples=200, deadline=None)
@given(
    width=st.integers(60, 4000),
    height=st.integers(60, 4000),
    wh=st.booleans(),
    corners=st.tuples(*[st.floats(0, 1) for _ in range(4)]),
)
def test_auto_finds_the_boxes_of_a_resized_copy_again(width, height, wh, corners):
    if max(width, height) < 1.35 * min(width, height):
        return  # nearly square: rounding may turn the ratio around
    frame = model_image_size(width, height)
    x1, x2 = sorted(corners[:2])
    y1, y2 = sorted(corners[2:])
    box = [x1 * frame[0], y1 * frame[1], x2 * frame[0], y2 * frame[1]]
    entry = {"image_size": list(frame if wh else frame[::-1])}
    sample = dataset.PcbSample(
        number=0, entry=entry, names=("a",), images=(), turns=(), level="P3", language="en", dataset=""
    )
    work = dataset.Prepared([], names=ClassNames(), size_order="auto", frame="image_size")
    assert work._frame_size(sample, (width, height)) == frame
    found = work._boxes(json.dumps({"x": [box]}), frame, (width, height))
    wanted = [x1 * width, y1 * height, x2 * width, y2 * height]
    if x1 < x2 and y1 < y2:
        assert found[0]["bbox_2d"] == pytest.approx(wanted, abs=1e-3)
    assert not work._outside


def test_what_is_asked(root):
    asked = prompts.items(questions(root).questions, family=FAMILIES["adcopilot"])
    check_groups(asked)
    assert len({item.group for item in asked}) == 7
    one = next(item for item in asked if item.meta["form"] == "choice")
    assert one.prefix == (0, "\n")
    assert one.question == (
        "Which component is marked?\nA. LED\nB. Resistor\nC. Diode\nD. Fuse\n"
        "Answer with the letter of the right option only."
    )
    pair = next(item for item in asked if item.meta["form"] == "boxes" and item.meta["language"] == "zh")
    assert pair.prefix == (0, 1, "\n第一张图是无缺陷的参考电路板，第二张图是待检电路板。\n")
    assert [path.name for path in pair.images] == ["c.jpg", "c.jpg"]
    assert pair.images[0].parent.name == "ref"
    assert "bbox_2d" in pair.question
    assert "label" in pair.question
    component = next(item for item in asked if item.meta["type"] == "component coordinates")
    assert "defect" not in component.question
    assert "kind of component" in component.question


def test_boxes_are_asked_for_in_the_familys_notation(root):
    for family, sign in (("internvl", "<box>"), ("seed", "<bbox>"), ("gemini", "box_2d"), ("qwen3-vl", "1000")):
        asked = prompts.items(questions(root).questions, family=FAMILIES[family])
        assert all(sign in item.question for item in asked if item.meta["form"] == "boxes"), family


def test_keys_say_what_is_asked_and_not_what_is_right(root):
    family = FAMILIES["generic"]
    keys = [item.key for item in prompts.items(questions(root).questions, family=family)]
    assert len(set(keys)) == len(keys)
    assert [item.key for item in prompts.items(questions(root, size_order="wh").questions, family=family)] == keys
    thinking = prompts.items(questions(root).questions, family=family, thinking=True)
    assert not set(keys) & {item.key for item in thinking}
    assert all("<think>" in item.question for item in thinking)


def test_a_question_that_is_there_twice_counts_twice(tmp_path):
    entries = mini_unipcb.samples()
    root = mini_unipcb.build(tmp_path, [*entries, entries[2]])
    asked = prompts.items(questions(root).questions, family=FAMILIES["generic"])
    check_groups(asked)
    assert len(asked) == 20


def test_images_without_the_repository_around_them(tmp_path):
    root = mini_unipcb.build(tmp_path)
    (root / "data/benchmark/raw").rename(root / "raw")
    assert all(path.is_file() for sample in load(root) for path in sample.images)


def test_names_of_classes_in_both_languages(root):
    wide = box_questions(root)[1]
    assert [box["names"] for box in wide.reference] == [["short", "短路"], ["open circuit", "开路"]]
    assert box_questions(root)[0].reference[0]["names"] == ["resistor"]
    assert plain_name(" Missing_Hole. ") == plain_name("missing  hole") == "missing hole"


def test_a_broken_list_of_classes_is_named(tmp_path):
    root = mini_unipcb.build(tmp_path)
    (root / "scripts/benchmark_generation/test_prior_knowledge.json").write_text("[1]")
    with pytest.raises(UserError, match=r"test_prior_knowledge\.json: not the benchmark's list of classes"):
        questions(root)


@pytest.mark.parametrize(
    ("change", "form"),
    [
        ({"correct_option": "no boxes"}, "boxes"),
        ({"correct_option": '{"x": [[1, 2, 3]]}'}, "boxes"),
        ({"correct_option": '{"x": [["1", 2, 3, 4]]}'}, "boxes"),
        ({"correct_option": "[[1, 2, 3, 4]]"}, "boxes"),
        ({"correct_option": None}, "boxes"),
        ({"correct_option": "  ", "type": "defect analysis"}, "open"),
        ({"options": ["A. x", "B. y"], "correct_option": "z", "correct_answer_letter": "E"}, "choice"),
    ],
)
def test_answers_that_cannot_be_scored_are_counted(tmp_path, change, form):
    entries = mini_unipcb.samples()[4:5]
    entries[0]["conversation"][2].update(change)
    prepared = questions(mini_unipcb.build(tmp_path, entries))
    assert dict(prepared.unusable) == {f"{form} question without a usable answer": 1}
    assert len(prepared.questions) == 2


def test_options_without_letters_and_an_answer_by_its_text(tmp_path):
    entries = mini_unipcb.samples()[2:3]
    entries[0]["conversation"][0] |= {"options": ["LED", "Resistor", "Diode"], "correct_answer_letter": None}
    first = questions(mini_unipcb.build(tmp_path, entries)).questions[0]
    assert first.options == {"A": "LED", "B": "Resistor", "C": "Diode"}
    assert first.reference == "B"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": []}, r"sample 1: images is \[\], expected one or two paths"),
        ({"images": ["/etc/passwd"]}, "expected paths inside --data-root"),
        ({"images": ["data/../../x.jpg"]}, "expected paths inside --data-root"),
        ({"conversation": [{"type": "x"}]}, "sample 1: conversation is no list of objects with a question"),
        ({"dataset_type": "P4"}, "sample 1: dataset_type is 'P4', expected P1, P2, P3"),
        ({"language": "de"}, "sample 1: language is 'de', expected en or zh"),
    ],
)
def test_a_broken_sample_is_named(tmp_path, change, message):
    entries = mini_unipcb.samples()[:2]
    root = mini_unipcb.build(tmp_path, entries)
    entries[1].update(change)
    (root / mini_unipcb.FILE).write_text(json.dumps(entries))
    with pytest.raises(UserError, match=message):
        load(root)


@pytest.mark.parametrize("size", [None, [1], ["a", 2], [0, 5], [True, 5]])
def test_an_image_size_that_is_none_is_named(tmp_path, size):
    root = mini_unipcb.build(tmp_path, mini_unipcb.samples()[4:5])
    entries = json.loads((root / mini_unipcb.FILE).read_text())
    entries[0]["image_size"] = size
    (root / mini_unipcb.FILE).write_text(json.dumps(entries))
    with pytest.raises(UserError, match=r"sample 0 \(.*3\.jpg\): image_size is .* expected two positive numbers"):
        questions(root)
    assert questions(root, frame="original").questions


def test_files_that_are_not_the_benchmark(tmp_path):
    with pytest.raises(UserError, match="--data-root is the benchmark's repository, or name the file"):
        dataset.find_annotations(tmp_path)
    path = tmp_path / "x.json"
    for content, message in (("{", "not JSON"), ("{}", "expected a list of samples, got dict"), ("[]", "list of")):
        path.write_text(content)
        with pytest.raises(UserError, match=message):
            dataset.load(path, root=tmp_path)
    with pytest.raises(UserError, match="cannot be read"):
        dataset.load(tmp_path / "no.json", root=tmp_path)


def test_the_newest_file_is_taken(tmp_path):
    root = mini_unipcb.build(tmp_path)
    newer = (root / mini_unipcb.FILE).with_name("all_vqa_data_bilingual_20270101_000000.json")
    newer.write_text((root / mini_unipcb.FILE).read_text())
    assert dataset.find_annotations(root) == newer
