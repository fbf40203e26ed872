"""The paired bootstrap against draws made one by one, and what two runs have in common."""

import random

import numpy as np
import pytest

from adcopilot.evaluation.benchmarks import benchmark
from adcopilot.evaluation.benchmarks.mmad.intervals import resampled
from adcopilot.evaluation.bootstrap import ratio_differences
from adcopilot.evaluation.comparable import compare_runs
from adcopilot.evaluation.source import ReportSource


def units(seed, count=60):
    dice = random.Random(seed)
    return [
        (f"set{index % 2}", f"image{index // 3}", {"a": (dice.random() < 0.6, 1.0), "f": (dice.randint(0, 3), 4.0)})
        for index in range(count)
    ]


def test_ratios_against_draws_one_by_one():
    runs = [units(1), units(2)]
    found = {one.column: one for one in ratio_differences(runs, columns=["a", "f"], samples=4000, seed=3)}
    rows = {}
    for place, (dataset, drawn, _) in enumerate(runs[0]):
        rows.setdefault(dataset, {}).setdefault(drawn, []).append(place)
    dice = random.Random(5)
    for column in ("a", "f"):
        differences = []
        for _ in range(4000):
            places = [
                place for images in rows.values() for name in dice.choices(list(images), k=len(images))
                for place in images[name]
            ]  # fmt: skip
            shares = [
                sum(run[place][2][column][0] for place in places) / sum(run[place][2][column][1] for place in places)
                for run in runs
            ]
            differences.append(100 * (shares[1] - shares[0]))
        low, high = np.percentile(differences, (2.5, 97.5))
        assert found[column].low == pytest.approx(low, abs=1.2)
        assert found[column].high == pytest.approx(high, abs=1.2)
        plain = [100 * sum(one[2][column][0] for one in run) / sum(one[2][column][1] for one in run) for run in runs]
        assert (found[column].first, found[column].second) == pytest.approx(plain)
        assert found[column].value == pytest.approx(plain[1] - plain[0])


def test_the_same_seed_gives_the_same_and_the_order_does_not_matter():
    runs = [units(1), units(2)]
    order = list(range(60))
    random.Random(0).shuffle(order)
    mixed = [[run[place] for place in order] for run in runs]
    once, again = (ratio_differences(one, columns=["a", "f"], samples=200, seed=3) for one in (runs, mixed))
    assert [one.low for one in once] == pytest.approx([one.low for one in again])
    assert [one.high for one in once] == pytest.approx([one.high for one in again])
    other = ratio_differences(runs, columns=["a", "f"], samples=200, seed=4)
    assert [one.low for one in once] != [one.low for one in other]


def test_questions_that_one_run_has_no_score_of_are_left_out():
    one = [("d", "x", {"a": (1, 1.0), "b": (1, 1.0)}), ("d", "y", {"a": (1, 1.0)})]
    other = [("d", "x", {"a": (0, 1.0)}), ("d", "y", {})]
    (found,) = ratio_differences([one, other], columns=["a", "b"], samples=100, seed=0)
    assert (found.column, found.first, found.second) == ("a", 100, 0)
    assert (found.low, found.high) == (-100, -100)
    assert found.clear


def answers(seed, share, count=80):
    dice = random.Random(seed)
    found = []
    for index in range(count):
        kind = ("good", "bad")[index // 2 % 2]
        image = f"{('VisA', 'DS-MVTec')[index % 2]}/p/test/{kind}/{index // 8}.png"
        right = "AB"[kind == "good"]
        for task, correct in (("Anomaly Detection", right), ("Object Details", "C")):
            given = correct if dice.random() < share else "D"
            found.append({"image": image, "question": {"text": f"q{index}"}, "question_type": task,
                          "correct_answer": correct, "gpt_answer": given})  # fmt: skip
    return found


def source(name, entries, path, **identity):
    return ReportSource(
        name=name, path=path, benchmark=benchmark("mmad"), results={}, entries=entries, identity=identity
    )


def test_two_runs_of_mmad(tmp_path):
    first, second = answers(1, 0.4), answers(2, 0.9)
    file = tmp_path / "none"
    found = compare_runs(source("a", first, file), source("b", second[::-1], file), samples=500, seed=7)
    assert found.questions == 160
    average = {one.column: one for one in found.differences}["average"]
    drawn = [resampled(entries, samples=500, seed=7)["average"] for entries in (first, second)]
    assert (average.low, average.high) == pytest.approx(tuple(np.percentile(drawn[1] - drawn[0], (2.5, 97.5))))
    assert average.clear
    right = [[one["gpt_answer"] == one["correct_answer"] for one in entries] for entries in (first, second)]
    both = sum(a and b for a, b in zip(*right, strict=True))
    assert found.counts[0] == both
    assert sum(found.counts) == 160
    assert sum(found.counts[:2]) == sum(right[0])
    # Against itself nothing differs; the interval is no wider than nothing.
    same = compare_runs(source("a", first, file), source("a", first, file), samples=100, seed=7)
    assert {(one.value, one.low, one.high) for one in same.differences} == {(0, 0, 0)}


def test_only_common_questions_count(tmp_path):
    first, second = answers(1, 0.5), answers(1, 0.5)
    found = compare_runs(source("a", first[:100], tmp_path), source("b", second[40:], tmp_path), samples=100, seed=0)
    assert found.questions == 60
    assert {one.value for one in found.differences} == {0}
    nothing = compare_runs(source("a", first[:40], tmp_path), source("b", second[40:], tmp_path), samples=100, seed=0)
    assert (nothing.questions, nothing.differences) == (0, ())
    assert "No question" in nothing.note
    versions = [source(name, first, tmp_path, data=name) for name in "ab"]
    other = compare_runs(*versions, samples=100, seed=0)
    assert "different versions" in other.note
