"""UniPCB's answers, read and scored."""

import itertools
import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adcopilot.answering.families import FAMILIES
from adcopilot.evaluation.benchmarks.unipcb.answers import class_boxes, letter_answer
from adcopilot.evaluation.benchmarks.unipcb.scoring import COLUMNS, Matches, Scored, average, match_boxes, summary

OPTIONS = {"A": "LED", "B": "Resistor", "C": "No annotated components", "D": "缺焊"}


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("b.", "B"),
        ("<think>A or B?</think><answer>B</answer>", "B"),
        ("Resistor", "B"),
        ("The answer is B, because there are colour bands.", "B"),
        ("A capacitor would look different, so the option is (B).", "B"),
        ("答案是B。", "B"),
        ("选项：B", "B"),
        ("选B", "B"),
        ("\uff22", "B"),  # full-width, as a Chinese keyboard writes it
        ("\uff08\uff22\uff09", "B"),
        ("答案是\uff22。", "B"),
        ("B looks alike, but the answer is D.", "D"),
        ("A或B不对，答案：D", "D"),
        ("图中是缺焊，所以选D", "D"),
        ("我认为是D类缺陷", "D"),
        ("D. 缺焊", "D"),
        ("A resistor on a board", None),
        ("It is a component.", None),
        ("", None),
        ("<think>B", None),
        ("E", None),
        ("PCB", None),
    ],
)
def test_letters(text, letter):
    assert letter_answer(text, OPTIONS).letter == letter


def test_how_a_letter_was_read():
    assert letter_answer("B", OPTIONS).how == "letter"
    assert letter_answer("resistor.", OPTIONS).how == "text"
    assert letter_answer("I would take B here", OPTIONS).how == "found"
    assert letter_answer("no idea", OPTIONS).how == "none"


def read(text, family="adcopilot", size=(200, 100), model_size=(400, 200)):
    found = class_boxes(text, family=FAMILIES[family], size=size, model_size=model_size)
    return [(box["label"], box["bbox_2d"]) for box in found]


def test_a_corner_with_width_and_height_is_no_class():
    assert read('{"bbox_xywh": [40, 20, 80, 60]}') == []


@pytest.mark.parametrize(
    "text",
    [
        '[{"bbox_2d": [40, 20, 80, 60], "label": "short"}]',
        '{"short": [[40, 20, 80, 60]]}',
        '{"short": [40, 20, 80, 60]}',
        "{'short': [[40, 20, 80, 60]]}",
        'Here: ```json\n{"short": [[40.0, 20, 80, 60]]}\n``` as asked.',
        '<think>{"open": [[1, 2, 3, 4]]}</think><answer>{"short":[[40,20,80,60]]}</answer>',
        '{"short": [[40, 20, 80, 60], [50, 60, 70',
        '{"\\u0073hort": [[80, 60, 40, 20]]}',
        '{"short": [[0.1, 0.1, 0.2, 0.3]]}',
    ],
)
def test_notations_of_boxes(text):
    assert read(text) == [("short", [20.0, 10.0, 40.0, 30.0])]


def test_several_classes_and_boxes():
    text = '{"短路": [[40, 20, 80, 60], [0, 0, 400, 200]], "开路": [[100, 100, 200, 200]]}'
    assert read(text) == [
        ("短路", [20.0, 10.0, 40.0, 30.0]),
        ("短路", [0.0, 0.0, 200.0, 100.0]),
        ("开路", [50.0, 50.0, 100.0, 100.0]),
    ]


def test_spaces_of_other_families():
    wanted = [("short", [20.0, 10.0, 40.0, 30.0])]
    assert read('{"short": [[100, 100, 200, 300]]}', "qwen3-vl", model_size=None) == wanted
    assert read('[{"box_2d": [100, 100, 300, 200], "label": "short"}]', "gemini", model_size=None) == wanted
    assert read('{"short": [[100, 100, 200, 300]]}', "gemini", model_size=None) == wanted, (
        "x first, as in the benchmark"
    )
    assert read("<ref>short</ref><box>[[100, 100, 200, 300]]</box>", "internvl", model_size=None) == wanted
    assert read("<bbox>100 100 200 300</bbox>", "seed", model_size=None) == [("", wanted[0][1])]


@pytest.mark.parametrize(
    "text", ["", "none", "{}", "[]", '{"short": []}', '{"short": [[1, 2, 3]]}', '{"x": [[1.2.3,1,1,1]]}']
)
def test_no_boxes(text):
    assert read(text) == []


def test_an_answer_that_repeats_itself_is_read_in_time():
    started = time.process_time()
    assert len(read('{"short": [' + "[40, 20, 80, 60]," * 20_000)) == 20_000
    read('"' * 20_000)
    read('"a": [' * 20_000)
    read("{'a': [[" + "1," * 50_000)
    assert time.process_time() - started < 10


def box(x1, y1, x2, y2, label="short", **more):
    return {"bbox_2d": [x1, y1, x2, y2], "label": label, **more}


def test_matching_by_hand():
    truth = [box(0, 0, 10, 10), box(20, 0, 30, 10)]
    # 5/10 of the first overlaps; the second is met exactly; the third meets nothing that is left.
    given = [box(0, 0, 10, 5), box(20, 0, 30, 10), box(20, 0, 30, 9)]
    assert match_boxes(given, truth) == Matches(hits=2, false=1, missed=0)
    assert match_boxes(given, truth, iou=0.5) == Matches(hits=2, false=1, missed=0)
    assert match_boxes(given, truth, iou=0.51) == Matches(hits=1, false=2, missed=1)
    assert match_boxes([], truth) == Matches(hits=0, false=0, missed=2)
    assert match_boxes(given, []) == Matches(hits=0, false=3, missed=0)
    assert match_boxes([], []) == Matches(hits=0, false=0, missed=0)
    assert match_boxes([box(50, 50, 60, 60)], truth, iou=0.0001).hits == 0


def test_the_best_pair_is_matched_first():
    # The second meets both, the second truth best; taken for the first one it would leave the others alone.
    truth = [box(0, 0, 10, 10), box(5, 0, 15, 10)]
    given = [box(0, 0, 10, 10), box(4, 0, 14, 10)]
    for one, other in itertools.product((truth, truth[::-1]), (given, given[::-1])):
        assert match_boxes(other, one) == Matches(hits=2, false=0, missed=0)
    assert match_boxes([given[1]], truth, iou=0.8).hits == 1


def test_matching_by_class():
    truth = [box(0, 0, 10, 10, "短路", names=["short", "短路"])]
    assert match_boxes([box(0, 0, 10, 10, "Short")], truth).hits == 1
    assert match_boxes([box(0, 0, 10, 10, "短路")], truth).hits == 1
    assert match_boxes([box(0, 0, 10, 10, "open")], truth) == Matches(hits=0, false=1, missed=1)
    assert match_boxes([box(0, 0, 10, 10, "")], truth).hits == 0
    assert match_boxes([box(0, 0, 10, 10, "open")], truth, by_class=False).hits == 1


_BOXES = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(1, 8), st.integers(1, 8), st.sampled_from("ab")).map(
        lambda v: box(v[0], v[1], v[0] + v[2], v[1] + v[3], v[4])
    ),
    max_size=6,
)


def _overlap(one, other):
    """IoU of boxes with whole corners, by counting pixels."""
    grids = []
    for each in (one, other):
        grid = np.zeros((24, 24), bool)
        x1, y1, x2, y2 = each["bbox_2d"]
        grid[y1:y2, x1:x2] = True
        grids.append(grid)
    return (grids[0] & grids[1]).sum() / (grids[0] | grids[1]).sum()


def _most(given, truth, iou):
    """The most pairs that any matching can have, by trying them all."""
    fits = [[a["label"] == b["label"] and _overlap(a, b) >= iou for b in truth] for a in given]
    small, large = (given, truth) if len(given) <= len(truth) else (truth, given)
    return max(
        (
            sum(fits[i][j] if small is given else fits[j][i] for i, j in enumerate(order))
            for order in itertools.permutations(range(len(large)), len(small))
        ),
        default=0,
    )


@settings(max_examples=150, deadline=None)
@given(predicted=_BOXES, truth=_BOXES, iou=st.sampled_from([0.1, 0.3, 0.5]), seed=st.randoms(use_true_random=False))
def test_matching_against_all_matchings(predicted, truth, iou, seed):
    found = match_boxes(predicted, truth, iou=iou)
    best = _most(predicted, truth, iou)
    # Best pairs first is no optimum, but never less than half of one.
    assert best / 2 <= found.hits <= best
    assert (found.hits + found.false, found.hits + found.missed) == (len(predicted), len(truth))
    shuffled = list(truth)
    seed.shuffle(shuffled)
    again = match_boxes(predicted, shuffled, iou=iou, by_class=True)
    ties = len({_overlap(a, b) for a in predicted for b in truth if _overlap(a, b) >= iou})
    if ties == sum(_overlap(a, b) >= iou for a in predicted for b in truth):
        assert again == found, "without ties the order does not matter"


def meta(form, level="P3", **more):
    return {"form": form, "level": level, "type": "t", "dataset": "d", "language": "en", **more}


def test_boxes_match_within_their_image_only():
    # Each image's box is where the other image's reference is: a pool of both would call this perfect.
    here, there = [box(0, 0, 10, 10)], [box(50, 50, 60, 60)]
    rows = [Scored(meta=meta("boxes"), matches=match_boxes(given, truth), matches_any=match_boxes(given, truth))
            for given, truth in ((here, there), (there, here))]  # fmt: skip
    assert summary(rows)["columns"]["F1"] == 0
    assert match_boxes(here + there, there + here).f1 == 100


def test_precision_recall_f1():
    found = Matches(hits=3, false=1, missed=2)
    assert (found.precision, found.recall) == (75.0, 60.0)
    assert found.f1 == pytest.approx(2 * 75 * 60 / 135)
    nothing = Matches(hits=0, false=0, missed=0)
    assert (nothing.precision, nothing.recall, nothing.f1) == (100.0, 100.0, 100.0)
    assert Matches(hits=0, false=2, missed=0).f1 == 0
    assert Matches(hits=0, false=0, missed=2).precision == 0


def test_columns_by_hand():
    rows = [
        Scored(meta=meta("choice", "P2"), right=True, right_strictly=True, read="letter"),
        Scored(meta=meta("choice", "P2"), right=True, read="found"),
        Scored(meta=meta("choice", "P2"), read="none"),
        Scored(meta=meta("choice", "P3"), read="letter"),
        Scored(meta=meta("open", "P1"), sbert=0.5, bertscore=0.7, grade=10),
        Scored(meta=meta("open", "P1"), sbert=0.25, bertscore=0.5, grade=1),
        Scored(meta=meta("open", "P2"), sbert=0.5, bertscore=0.5, grade=None),
        Scored(meta=meta("open", "P3"), sbert=-0.1, bertscore=0.1, grade=5.5),
        Scored(
            meta=meta("boxes"),
            matches=Matches(hits=3, false=1, missed=0),
            matches_any=Matches(hits=4, false=0, missed=0),
        ),
        Scored(
            meta=meta("boxes"),
            matches=Matches(hits=0, false=0, missed=4),
            matches_any=Matches(hits=0, false=0, missed=4),
        ),
    ]
    found = summary(rows)
    assert found["columns"] == pytest.approx(
        {
            "Acc P2": 200 / 3,
            "Acc P3": 0,
            "S-BERT P1": 37.5,
            "S-BERT P2": 50,
            "S-BERT P3": -10,
            "BERTScore P1": 60,
            "BERTScore P2": 50,
            "BERTScore P3": 10,
            "F1": 600 / 11,
            "LLM as Judge": 50,
        }
    )
    assert tuple(found["columns"]) == COLUMNS
    assert found["average"] == pytest.approx(sum(found["columns"].values()) / 10)
    assert found["by_level"]["P2"]["accuracy_strict"] == pytest.approx(100 / 3)
    assert found["overall"]["f1_any_class"] == pytest.approx(800 / 12)
    assert found["overall"]["f1_mean_over_images"] == pytest.approx((600 / 7) / 2)
    assert found["overall"]["judged"] == 3
    assert found["read"] == {"found": 1, "letter": 2, "none": 1}
    json.dumps(found, allow_nan=False)


def test_intervals_hold_the_value_and_narrow_with_more_images():
    dice = np.random.default_rng(1)

    def rows(images):
        found = []
        for image in range(images):
            right = bool(dice.random() < 0.7)
            hits = int(dice.integers(0, 3))
            matches = Matches(hits=hits, false=1, missed=2 - hits)
            found += [
                Scored(meta=meta("choice", "P2", sample=image), right=right),
                Scored(meta=meta("choice", "P2", sample=image), right=right),
                Scored(meta=meta("boxes", sample=images + image), matches=matches, matches_any=matches),
                Scored(meta=meta("open", "P1", sample=2 * images + image), sbert=float(dice.random())),
            ]
        return found

    few, many = (summary(rows(count)) for count in (40, 640))
    for found in (few, many):
        assert set(found["intervals"]) == {"Acc P2", "F1", "S-BERT P1"}
        for title, (low, high) in found["intervals"].items():
            assert low < found["columns"][title] < high, title
    for title in few["intervals"]:
        widths = [np.ptp(found["intervals"][title]) for found in (few, many)]
        assert 3 < widths[0] / widths[1] < 5.5, "sixteen times the images, a quarter of the width"
    # Two questions about one image are one draw: 640 images at 70 % have a standard error of 1.8 %.
    assert np.ptp(many["intervals"]["Acc P2"]) == pytest.approx(2 * 1.96 * 100 * (0.7 * 0.3 / 640) ** 0.5, rel=0.15)
    same = rows(40)
    again = summary(same[::-1])["intervals"]
    for title, limits in summary(same)["intervals"].items():
        assert again[title] == pytest.approx(limits), "in whatever order"


def test_no_average_without_all_columns():
    found = summary([Scored(meta=meta("choice", "P2"), right=True)])
    assert found["columns"]["Acc P2"] == 100
    assert found["columns"]["F1"] is None
    assert found["average"] is None


# Table IV as published: the ten columns, then the average.
PUBLISHED = {
    "Qwen2.5-VL-7B": (53.2, 44.2, 66.7, 50.4, 63.7, 68.1, 60.7, 66.5, 22.3, 54.3, 55.0),
    "InternVL3.5-8B": (57.5, 43.5, 65.5, 53.7, 64.5, 67.7, 61.1, 68.0, 19.5, 55.5, 55.6),
    "MiMo-V2-Flash-15B": (40.0, 47.7, 42.0, 64.0, 45.4, 57.8, 67.0, 61.4, 16.1, 42.6, 48.4),
    "EMIT-8B": (36.4, 48.5, 69.3, 60.0, 70.2, 69.2, 67.1, 70.0, 10.5, 60.2, 56.1),
    "AD-Copilot-7B": (52.5, 53.0, 74.5, 70.0, 71.2, 70.8, 70.1, 69.5, 18.8, 62.7, 61.3),
}


@pytest.mark.parametrize("model", PUBLISHED)
def test_the_average_is_the_published_one(model):
    *columns, published = PUBLISHED[model]
    # The columns are rounded to one digit, so their mean is known to 0.05, and so is the published one.
    assert average(dict(zip(COLUMNS, columns, strict=True))) == pytest.approx(published, abs=0.1)
