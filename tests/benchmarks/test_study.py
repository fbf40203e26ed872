"""The study of what comparing gives: a seed's runs are made once, its page says what differs and how sure that is."""

import json
from math import sqrt

import pytest

from adcopilot.sample.measure import Scores
from benchmarks import comparison_of_first, study


def scores(auroc):
    return Scores(pairs=4, balanced_accuracy=0.5, auroc=auroc, iou=0.125)


def found(with_, none, without, map_):
    def one(auroc):
        return {"pairs": 4, "balanced_accuracy": 0.5, "auroc": auroc, "iou": 0.125}

    rows = {study.WITH.title: with_, study.NONE.title: none, study.WITHOUT.title: without, "map: peak": map_}
    return {row: {split: one(auroc) for split in (*study.SAMPLE_SPLITS, study.BOARDS)} for row, auroc in rows.items()}


def test_the_interval_is_students():
    # t(0.975, 2) is 4.3027; values 1, 2, 3 have a standard deviation of 1
    middle, low, high = study.interval([1.0, 2.0, 3.0])
    assert middle == pytest.approx(2)
    assert (low, high) == pytest.approx((2 - 4.3027 / sqrt(3), 2 + 4.3027 / sqrt(3)), abs=1e-4)
    assert study.interval([1.0]) is None


def test_the_page_has_every_run_and_what_differs():
    results = {0: found(0.9, 0.8, 0.7, 0.85), 1: found(0.92, 0.84, 0.7, 0.85)}
    page = study.page(results, count=40, command="python benchmarks/study.py --count 40")
    assert "`python benchmarks/study.py --count 40`" in page
    row = (
        f"| {study.WITH.title} | new, varied | 0.500 / 0.900 / 0.125 | 0.500 / 0.920 / 0.125 | 0.500 / 0.910 / 0.125 |"
    )
    assert row in page
    assert (
        f"| {study.WITH.title} − {study.WITHOUT.title} | {study.BOARDS} | +0.200, +0.220 | +0.210 (+0.083 to" in page
    )
    assert f"| {study.WITH.title} − map: peak | new, varied | +0.050, +0.070 |" in page
    alone = study.page({0: results[0]}, count=40, command="")
    assert "one seed has no interval" in alone


def test_a_seed_is_made_once(tmp_path, monkeypatch):
    calls = []

    def carry_out(runs, data, *, say, tests):
        calls.append([(run.title, [step.name for step in run.steps]) for run in runs])
        return {run.title: {split: scores(0.75) for split in tests} for run in runs}

    monkeypatch.setattr(study, "carry_out", carry_out)
    monkeypatch.setattr(study, "measure_model", lambda folder, data, records: (scores(0.5), []))
    boards = tmp_path / "boards"
    boards.mkdir()
    (boards / "boards_test.jsonl").write_text("".join(json.dumps({"number": k}) + "\n" for k in range(1500)))
    options = {"seed": 3, "count": 16, "test_count": 4, "boards": boards, "map_rows": False}
    first = study.run_seed(tmp_path / "seed3", study.CONDITIONS, **options)
    assert study.run_seed(tmp_path / "seed3", study.CONDITIONS, **options) == first
    assert len(calls) == 1
    for title, steps in calls[0]:
        assert steps[-2:] == ["boards", "export boards"]
        assert first[title][study.BOARDS]["auroc"] == 0.5
        assert first[title]["test_held_out_varied"]["auroc"] == 0.75
        assert ("init" in steps) == (title != study.WITHOUT.title)
    assert len(study.board_tests(boards)) == 500 <= study.BOARD_TESTS


def test_runs_differ_in_what_their_titles_say(tmp_path):
    commands = {}
    for one in study.CONDITIONS:
        steps = study.plan(tmp_path, tmp_path, encoder=one.encoder, seed=0, options=one.options)
        commands[one.title] = [" ".join(step.command) for step in steps]
    with_, none, without = commands.values()
    assert with_[1:] == none[1:]
    assert none[0] == f"{with_[0]} --comparison-position-encoding none"
    assert not any("stage0.yaml" in command or " init " in command for command in without)


def test_the_first_images_page_has_a_row_for_each_way():
    rows = {one.title: found(0.9, 0.8, 0.7, 0.6)[study.WITH.title] for one in comparison_of_first.CONDITIONS}
    text = comparison_of_first.page({0: rows}, count=40, command="python benchmarks/comparison_of_first.py")
    assert text.count("0.500 / 0.900 / 0.125") == 2 * 2 * len(study.SAMPLE_SPLITS)
