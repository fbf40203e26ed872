"""The rules that texts are checked by: what is right passes, each kind of mistake is found."""

import pytest

from adcopilot.chat_ad.generation.caption import json_in_text, read_caption
from adcopilot.chat_ad.generation.dialogue import box_problems, read_turns
from adcopilot.chat_ad.generation.prompt_files import PromptFiles
from adcopilot.chat_ad.generation.think import plain
from adcopilot.chat_ad.generation.verify import Verifier, is_refusal
from adcopilot.chat_ad.generation.words import Words

from .conftest import make_normal, make_pair

VERIFIER = Verifier(words=Words(prompts=PromptFiles()))

# Boxes of an image of 300×200 pixels.
TOP_LEFT, RIGHT, CENTRE, ALL = (20, 10, 60, 30), (250, 90, 290, 110), (130, 90, 170, 110), (5, 5, 295, 195)


def sides(text, *boxes):
    pair = make_pair(boxes=boxes, labels=("scratch",) * len(boxes))
    return VERIFIER.sides(pair, text, needed=True)


@pytest.mark.parametrize(
    ("text", "boxes", "wrong"),
    [
        ("a scratch at the top left", [TOP_LEFT], None),
        ("a scratch in the upper-left corner", [TOP_LEFT], None),
        ("a scratch on the left", [TOP_LEFT], None),
        ("near the upper edge", [TOP_LEFT], None),
        ("on the right-hand side", [RIGHT], None),
        ("in the middle of the right side", [RIGHT], None),
        ("in the centre", [CENTRE], None),
        ("in the lower middle of the image", [(130, 110, 170, 140)], None),
        ("one at the top left, one on the right", [TOP_LEFT, RIGHT], None),
        ("it is everywhere", [ALL], None),
        ("all over the image", [TOP_LEFT, RIGHT, CENTRE, (1, 1, 5, 5), (290, 190, 300, 200)], None),
        # Not sides.
        ("on the left, and the size is right", [TOP_LEFT], None),
        ("at the top left, where a chip is left behind at a right angle", [TOP_LEFT], None),
        ("at the top left, of lower quality", [TOP_LEFT], None),
        ("at the top right", [TOP_LEFT], "top right"),
        ("at the bottom", [TOP_LEFT], "bottom"),
        ("in the lower left corner", [TOP_LEFT], "lower left"),
        ("in the centre", [TOP_LEFT], "centre"),
        ("on the left", [RIGHT], "left"),
        # Each half has a box, but no box is in both.
        ("at the lower right", [TOP_LEFT, (10, 150, 20, 160), (250, 10, 260, 20)], "lower right"),
    ],
)
def test_sides(text, boxes, wrong):
    assert sides(text, *boxes) == ([] if wrong is None else [f"the text says “{wrong}”, but no defect lies there"])


def test_a_side_must_be_named():
    expected = ["the text does not say on which side of the second image the defect is"]
    assert sides("there is a scratch", TOP_LEFT) == expected


def test_a_name_with_a_side_in_it_is_no_side():
    pair = make_pair(boxes=(RIGHT,), labels=("thread_top",), defect="thread_top", category="left_bracket")
    text = "the left bracket has a damaged thread at the top on the right"
    assert VERIFIER.sides(pair, text, needed=True) == []
    assert VERIFIER.sides(pair, "it is at the top", needed=True) == []  # y from 90 reaches into the upper half
    low = make_pair(boxes=((250, 150, 290, 190),), labels=("thread_top",), defect="thread_top")
    assert VERIFIER.sides(low, "a damaged thread at the top, on the right", needed=True) == []
    assert VERIFIER.sides(low, "at the top, on the right", needed=True) != []


@pytest.mark.parametrize(
    ("label", "text", "named"),
    [
        ("scratch", "it was scratched", True),
        ("scratches", "a scratch", True),
        ("scratch", "an abrasion", True),
        ("scratch", "a dent", False),
        ("broken_large", "a piece is broken off", True),
        ("contamination", "a stain of oil", True),
        ("missing_parts", "a part is missing", True),
        ("missing_parts", "a part of it", False),
        ("aotu", "a defect of the type aotu", True),
        ("aotu", "a dent", False),
        ("bad", "whatever", True),
        ("combined", "whatever", True),
    ],
)
def test_the_defect_is_named(label, text, named):
    pair = make_pair(defect=label, labels=(label,))
    assert (VERIFIER.named(pair, text) == []) == named


def test_each_type_is_named():
    pair = make_pair(boxes=(TOP_LEFT, RIGHT), labels=("scratch", "total_rust"))
    assert VERIFIER.named(pair, "a scratch") == ["the text does not name the defect, total rust"]


def test_boxes_must_overlap_and_none_be_left_alone():
    pair = make_pair(boxes=(TOP_LEFT, RIGHT), labels=("scratch",) * 2)

    def check(*boxes):
        return VERIFIER.boxes(pair, [{"bbox_2d": list(box)} for box in boxes])

    assert check(TOP_LEFT, RIGHT) == []
    assert check((10, 5, 25, 15), (280, 100, 300, 200)) == []
    assert check(TOP_LEFT) == ["no box overlaps the defect at [250, 90, 290, 110]"]
    assert check(TOP_LEFT, RIGHT, (60, 30, 80, 40)) == ["the box [60, 30, 80, 40] overlaps no defect"]  # it touches


GOOD = "Compared with the template, the second image has a scratch at the top left."


def test_a_good_caption():
    assert VERIFIER.caption(make_pair(), GOOD, GOOD, [{"bbox_2d": TOP_LEFT}]) == []


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ("A scratch at the top left of the metal nut.", "does not compare"),
        (f"{GOOD} The red box shows it.", "speaks of “red box”"),
        (f"{GOOD} This is the ground truth.", "speaks of “ground truth”"),
        (f"{GOOD} The first image shows a defect.", "finds a defect in the first image"),
        ("The second image is identical to the template, see the scratch at the top left.", "has no defect, but it"),
        ("No", "has 2 characters, expected 12 to 2000"),
        (f"{GOOD} I'm sorry, but I can't assist.", "is a refusal"),
        (GOOD * 40, "characters, expected 12 to 2000"),
        (f"{GOOD} <|im_end|>", "holds the mark <|im_end|>"),
        (f"<image> {GOOD}", "holds the mark <image>"),
        (f"{GOOD} It lies in the red outline.", "speaks of “red outline”"),
    ],
)
def test_captions_with_a_mistake(changed, problem):
    problems = VERIFIER.caption(make_pair(), changed, changed, [{"bbox_2d": TOP_LEFT}])
    assert any(problem in one for one in problems), problems


def test_solder_masks_and_the_like_may_be_spoken_of():
    text = f"{GOOD} The solder mask is intact but for it, and it is identical to the template except for this."
    assert VERIFIER.caption(make_pair(), text, text, [{"bbox_2d": TOP_LEFT}]) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("The second image agrees with the template, there is no defect.", None),
        ("Both are alike: compared with the first image nothing is wrong, it looks normal.", None),
        ("The second image differs from the template.", "does not say that the second image has no defect"),
        ("No defect compared with the template, but there is a scratch.", "says “there is a scratch…”"),
    ],
)
def test_captions_of_normal_pairs(text, problem):
    problems = VERIFIER.caption(make_normal(), text, text, [])
    assert (problems == []) if problem is None else any(problem in one for one in problems), problems


def test_a_normal_pair_has_no_boxes():
    text = "The second image agrees with the template, there is no defect."
    assert VERIFIER.caption(make_normal(), text, text, [{"bbox_2d": TOP_LEFT}]) == [
        "defect_details holds boxes, but the second image is normal"
    ]


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("I’m sorry, I cannot assist.", True),
        ("As an AI, I have no eyes.", True),
        ("I am unable to view the images.", True),
        ("This violates our content policy.", True),
        ("The nut cannot be used any more.", False),
        ("It can't provide a seal any longer.", False),
        ("I can't find a difference.", False),
    ],
)
def test_refusals(text, refusal):
    assert is_refusal(text) == refusal


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        ('Here it is:\n```json\n{"a": 1}\n```\nDone.', {"a": 1}),
        ("```\n[1]\n```", [1]),
        ('<think>{"no": 1}</think>{"a": 1}', {"a": 1}),
        ('{"a": 1} and more', {"a": 1}),
    ],
)
def test_json_in_answers(text, value):
    assert json_in_text(text) == value


@pytest.mark.parametrize("text", ["", "nothing", '{"a": ', "[" * 100_000, '{"a": 1,}'])
def test_what_is_no_json(text):
    with pytest.raises(ValueError, match=r"not JSON|cut off|nested"):
        json_in_text(text)


@pytest.mark.parametrize(
    "details", ['"x"', "[1]", '[{"label": "x"}]', '[{"bbox_2d": [1, 2, 3]}]', '[{"bbox_2d": [1, 2, 3, true]}]']
)
def test_captions_of_another_form(details):
    text = f'{{"description": "a", "defect_details": {details}, "defect_description": "b"}}'
    with pytest.raises(ValueError, match="defect_details"):
        read_caption(text)


def test_turns():
    turn = '{"question": " a ", "answer": "b"}'
    assert read_turns(f"[{turn}, {turn}]") == [("a", "b")] * 2
    assert read_turns(f'{{"dialogue": [{turn}, {turn}]}}') == [("a", "b")] * 2
    for wrong in (f"[{turn}]", f"[{turn}, 3]", f'[{turn}, {{"question": "", "answer": "b"}}]', f"[{turn * 1}]"):
        with pytest.raises(ValueError, match="expected"):
            read_turns(wrong)


def test_boxes_in_prose_are_the_annotation_s():
    assert box_problems(make_pair(), "at [20, 10, 60, 30] and at (20,10,60,30.0)") == []
    assert len(box_problems(make_pair(), "at [21, 10, 60, 30]")) == 1


@pytest.mark.parametrize(
    ("text", "reasoning"),
    [
        ("It is so.", "It is so."),
        ("<think>It is so.</think><answer>B</answer>", "It is so."),
        ("It is so.\n<answer>B</answer>", "It is so."),
        ("<think>It is so.", "It is so."),
        (f"<think>Hm, let me see.</think>\n{'It is so. ' * 5}", ("It is so. " * 5).strip()),
    ],
)
def test_reasoning_out_of_its_tags(text, reasoning):
    assert plain(text) == reasoning
