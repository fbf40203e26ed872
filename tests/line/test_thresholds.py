"""Thresholds and what is said with them; how right verdicts are."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adcopilot.errors import UserError
from adcopilot.line.deciding import Goal, decide_line, larger
from adcopilot.line.measures import choose_source, measures
from adcopilot.line.pictures import LabelledPicture
from adcopilot.line.thresholds import (
    from_good,
    from_labels,
    with_most_false_alarms,
    with_most_missed,
)


def test_good_pictures_alone():
    found = from_good([0.1, 0.12, 0.2, 0.11, 0.1], of_map=True)
    assert found.value == 0.22
    assert found.chosen == "twice the median score of 5 good pictures"
    assert found.warnings == ()
    assert from_good([0.0, 0.0], of_map=True).value == 0.02  # two pictures that are all but equal
    assert "are few" in from_good([0.1, 0.1], of_map=True).warnings[-1]
    assert "1 of the 5 good pictures are above it" in from_good([0.1, 0.1, 0.1, 0.1, 0.9], of_map=True).warnings[0]
    assert from_good([0.9], of_map=False).value == 0.5


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.lists(st.floats(0, 1), min_size=1, max_size=12))
@example([0.0], [5e-324])  # nothing lies between them
def test_the_best_f1_of_all_thresholds(good, bad):
    def f1(value):
        hits = sum(one >= value for one in bad)
        return 2 * hits / (hits + sum(one >= value for one in good) + len(bad))

    assert f1(from_labels(good, bad).value) == pytest.approx(max(map(f1, [*good, *bad])))


@given(
    st.lists(st.integers(0, 99), min_size=1, max_size=30),
    st.lists(st.integers(0, 99), min_size=1, max_size=30),
    st.floats(0, 0.99),
)
def test_shares_are_kept(good, bad, share):
    found = with_most_missed(good, bad, share)
    assert np.mean(np.array(bad) < found.value) <= share
    found = with_most_false_alarms(good, share, most=1e9)
    assert np.mean(np.array(good) >= found.value) <= share


def test_a_threshold_is_one_that_a_score_can_reach():
    """Good pictures that a model is sure about: no threshold is above a probability of 1."""
    assert with_most_false_alarms([0.2, 1.0], 0, most=1.0).value == 1.0


def test_a_promise_that_the_numbers_do_not_support_is_said():
    found = with_most_missed([0.1] * 20, [0.9] * 5, 0.01)
    assert found.value == pytest.approx(0.5)
    assert found.warnings[0].startswith("5 defective pictures cannot show that at most 1.00% are missed: 0 of 5")
    assert with_most_missed([0.1] * 9, [0.9] * 400, 0.02).warnings == ()
    with pytest.raises(UserError, match="--max-missed needs pictures of defective parts"):
        with_most_missed([0.1], [], 0.01)


def test_measures_by_hand():
    found = measures(
        [0.9, 0.8, 0.2, 0.1, 0.7, None],
        [True, True, True, False, False, False],
        verdicts=[True, True, False, False, True, None],
        kinds=["scratch", "scratch", "dent", None, None, None],
    )
    assert (found["missed"], found["false_alarms"], found["undecided"]) == (1, 1, 1)
    assert found["missed_share"]["value"] == pytest.approx(1 / 3)
    assert found["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found["auroc"] == pytest.approx(5 / 6)
    low, high = found["auroc_interval"]
    assert low < found["auroc"] < high
    all_right = measures([0.1] * 24 + [0.9] * 12, [False] * 24 + [True] * 12, verdicts=[False] * 24 + [True] * 12)
    assert all_right["auroc_interval"][1] == 1
    assert 0.8 < all_right["auroc_interval"][0] < 0.95  # nothing is certain of 36 pictures
    assert found["kinds"]["dent"] == {"pictures": 1, "found": 0, "undecided": 0}


def test_a_source_is_chosen_where_the_pictures_support_it():
    bad = [False] * 10 + [True] * 8
    good_map, bad_map = [0.1] * 18, [0.1] * 10 + [0.9] * 8
    assert choose_source({"model": bad_map, "map": good_map}, bad, default="map")[0] == "model"
    assert choose_source({"model": bad_map, "map": bad_map}, bad, default="map")[0] == "map"
    few = [False] * 10 + [True] * 7 + [False]
    source, why = choose_source({"model": bad_map, "map": good_map}, few, default="map")
    assert source == "map"
    assert "7 defective pictures are too few" in why


def test_marked_pictures_decide_and_are_not_measured(tmp_path):
    def pictures(marked):
        good = [LabelledPicture(file=tmp_path / f"g{k}.png", bad=False, marked=k in marked) for k in range(10)]
        return good + [LabelledPicture(file=tmp_path / f"b{k}.png", bad=True, kind="dent") for k in range(10)]

    scores = {"map": [0.1] * 10 + [0.9] * 10}
    scores["map"][0] = 0.6
    plain, marked = (decide_line(pictures(one), scores, goal=Goal()) for one in ((), (0,)))
    assert marked.threshold == plain.threshold == 0.75
    assert (plain.metrics["good"], marked.metrics["good"]) == (10, 9)
    assert plain.metrics["auroc"] == 1.0


def test_scores_that_tell_nothing_are_said(tmp_path):
    pictures = [LabelledPicture(file=tmp_path / f"{k}.png", bad=k % 2 == 0) for k in range(20)]
    found = decide_line(pictures, {"map": [float(k // 2) for k in range(20)]}, goal=Goal())
    assert any("do not tell good from defective" in one for one in found.warnings)


def test_the_larger_of_two_scores_is_above_a_half_where_one_is_above_its_threshold():
    assert larger(0.9, 0.1, 0.8, 0.4) > 0.5
    assert larger(0.7, 0.5, 0.8, 0.4) > 0.5
    assert larger(0.7, 0.3, 0.8, 0.4) < 0.5
    assert larger(None, 0.4, 0.8, 0.4) == 0.5
    assert larger(None, None, 0.5, 0.5) is None


def test_a_good_picture_that_looks_defective_is_asked_about(tmp_path):
    """It would be a template, and hide the defect that it has; a mark says that somebody has looked."""
    scores = {"map": [0.1] * 10 + [0.5, 0.2]}
    for marked, defective in ((False, False), (True, False), (False, True)):
        pictures = [LabelledPicture(file=tmp_path / f"{k}.png", bad=False) for k in range(12)]
        pictures[10] = LabelledPicture(file=tmp_path / "10.png", bad=defective, marked=marked)
        told = [one for one in decide_line(pictures, scores, goal=Goal()).warnings if "look whether" in one]
        asked = not marked and not defective
        assert [one.startswith("1 good picture (10.png 0.500) of a map score of 0.4") for one in told] == [
            True
        ] * asked
