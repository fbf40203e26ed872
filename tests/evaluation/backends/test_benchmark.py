"""The benchmark measures what it says: equal answers, the ratio the right way round, a page with every row."""

import json
import sys

import pytest

from benchmarks import evaluation


# The larger model takes five seconds a row.
@pytest.mark.parametrize(("shapes", "sizes", "new_tokens"), [("tiny", [56, 84], [2, 3]), ("small", [84], [2])])
def test_benchmark_runs_and_writes_its_results(tmp_path, monkeypatch, capsys, shapes, sizes, new_tokens):
    monkeypatch.setattr(evaluation, "SIZES", {str(size): size for size in sizes})
    options = f"--device cpu --pairs 2 --repeats 1 --new-tokens {' '.join(map(str, new_tokens))} --batch-size 7"
    arguments = ["evaluation.py", *options.split(), "--shapes", shapes, "--output-dir", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    assert evaluation.main() == 0
    stem = tmp_path / f"bench-evaluation-cpu{'-small' if shapes == 'small' else ''}"
    result = json.loads(stem.with_suffix(".json").read_text())
    rows = [(str(size), number) for size in sizes for number in new_tokens]
    assert [(row["images"], row["new_tokens"]) for row in result["rows"]] == rows
    for row in result["rows"]:
        assert row["questions"] == row["equal_answers"] == 10
        (plain,), (ours,) = row["rounds"]["question_by_question"], row["rounds"]["backend"]
        assert row["ratio"] == pytest.approx(plain["seconds"] / ours["seconds"])
        assert row["cpu_ratio"] == pytest.approx(plain["cpu_seconds"] / ours["cpu_seconds"])
        assert row["backend_per_second"] == pytest.approx(10 / ours["seconds"])
        assert row["prefix_tokens"] > row["question_tokens"] > 10
    page = stem.with_suffix(".md").read_text()
    assert page in capsys.readouterr().out
    assert page.count("10 of 10") == len(rows)
    assert {"tiny": "1,279,136 parameters", "small": "39,756,224 parameters"}[shapes] in page


def test_a_failed_answer_is_no_measurement(tmp_path):
    class Broken:
        def answer(self, items, *, max_new_tokens):
            from adcopilot.answering.base import Reply

            yield items[0], Reply(error="no memory")

    with pytest.raises(SystemExit, match="no memory"):
        evaluation.with_reuse(Broken(), evaluation.make_items(tmp_path, side=56, pairs=1, queries=1), new_tokens=1)
