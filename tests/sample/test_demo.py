"""The demo's arithmetic, its plan of commands, and that a finished step is not run again."""

import json
import sys

import numpy as np
import pytest

from adcopilot.boxes import bbox_mask_iou
from adcopilot.errors import UserError
from adcopilot.sample.demo import TEST_SPLITS, VARIED_SPLITS, Step, plan, run_step, table
from adcopilot.sample.measure import Scores, auroc, score_answers


def test_auroc_counts_ties_half():
    truth = np.array([True, True, False, False])
    assert auroc(np.array([0.9, 0.8, 0.1, 0.2]), truth) == 1
    assert auroc(np.array([0.9, 0.2, 0.2, 0.1]), truth) == 0.875
    assert auroc(np.array([0.5, 0.5, 0.5, 0.5]), truth) == 0.5


def test_bbox_mask_iou_is_of_unions():
    two, cover = [[0, 0, 4, 4], [2, 0, 6, 4]], [[0, 0, 6, 4]]
    assert bbox_mask_iou(two, cover, (10, 10)) == 1
    assert bbox_mask_iou([[0, 0, 2, 2]], [[0, 0, 4, 4]], (10, 10)) == 0.25
    assert bbox_mask_iou([], cover, (10, 10)) == 0
    assert bbox_mask_iou([[-5, -5, 50, 50]], [[0, 0, 10, 10]], (10, 10)) == 1


def test_score_answers():
    records = [{"anomalous": k < 2, "boxes": [[0, 0, 2, 2]] if k < 2 else []} for k in range(4)]
    found = [{"bbox_2d": [0, 0, 2, 2], "label": "hole"}]
    answers = [
        {"anomalous": True, "score": 0.9, "boxes": found, "size": [4, 4]},
        {"anomalous": False, "score": 0.4, "boxes": [], "size": [4, 4]},
        {"anomalous": False, "score": 0.1, "boxes": [], "size": [4, 4]},
        {"anomalous": False, "score": 0.2, "boxes": [], "size": [4, 4]},
    ]
    assert score_answers(records, answers) == Scores(pairs=4, balanced_accuracy=0.75, auroc=1.0, iou=0.5)


def test_plan_uses_the_shipped_yamls(tmp_path):
    steps = plan(tmp_path / "a", tmp_path / "data", encoder=True, seed=1)
    assert [step.name for step in steps] == ["init", "stage 0", "stage 1", "stage 2", "export"]
    yamls = ("train/tiny/stage0", "train/tiny/stage1", "train/tiny/stage2", "export/tiny")
    for step, yaml in zip(steps[1:], yamls, strict=True):
        assert step.command[2].endswith(f"examples/{yaml}.yaml")
        with open(step.command[2]) as file:
            assert "adcopilot" in file.read()


def test_plan_without_encoder_sees_the_same_samples(tmp_path):
    steps = plan(tmp_path / "b", tmp_path / "data", encoder=False, seed=1)
    assert [step.name for step in steps] == ["stage 1", "stage 2", "export"]
    assert "dataset=stage0,stage1" in steps[0].command
    assert all("template=qwen2_vl" in step.command for step in steps)


def test_finished_step_is_not_run_again(tmp_path):
    marker = tmp_path / "ran"
    command = [sys.executable, "-c", f"open({str(marker)!r}, 'a').write('x')"]
    step = Step(name="stage 0", command=command, output=tmp_path / "out")
    run_step(step, tmp_path / "log")
    run_step(step, tmp_path / "log")
    assert marker.read_text() == "x"
    run_step(Step(name="stage 0", command=[*command, "other"], output=tmp_path / "out"), tmp_path / "log")
    assert marker.read_text() == "xx"


@pytest.mark.parametrize(("resumes", "kept"), [(True, "xxx"), (False, "x")])
def test_stopped_step_goes_on_where_it_can(tmp_path, resumes, kept):
    """Three starts, of which the first two are stopped; with other settings it begins anew."""
    code = f"import os, sys; os.chdir({str(tmp_path)!r}); os.makedirs('out', exist_ok=True); "
    code += "open('out/part', 'a').write('x'); sys.exit(not os.path.exists('may'))"
    step = Step(name="seed 0", command=[sys.executable, "-c", code], output=tmp_path / "out", resumes=resumes)
    for _ in range(2):
        with pytest.raises(UserError, match="status 1"):
            run_step(step, tmp_path / "log")
    (tmp_path / "may").touch()
    run_step(step, tmp_path / "log")
    assert (tmp_path / "out/part").read_text() == kept
    run_step(step, tmp_path / "log")  # finished
    assert (tmp_path / "out/part").read_text() == kept
    (tmp_path / "out.done").unlink()
    run_step(Step(name="seed 0", command=[*step.command, "other"], output=step.output, resumes=True), tmp_path / "log")
    assert (tmp_path / "out/part").read_text() == "x"


def test_failed_step_names_its_log(tmp_path):
    command = [sys.executable, "-c", "import sys; print('no room'); sys.exit(3)"]
    with pytest.raises(UserError, match=r"stage 1 ended with status 3: no room; the whole log is .*log"):
        run_step(Step(name="stage 1", command=command, output=tmp_path / "out"), tmp_path / "log")
    assert not (tmp_path / "out.done").exists()


def test_table_has_a_row_for_each_run_and_split():
    scores = Scores(pairs=500, balanced_accuracy=0.912, auroc=0.95, iou=0.4)
    text = table({run: {"test_trained": scores, "test_held_out": scores} for run in ("with", "without")})
    assert len(text.splitlines()) == 5
    assert text.count("0.912") == 4


def test_table_names_the_varied_sets():
    scores = Scores(pairs=500, balanced_accuracy=0.6, auroc=0.7, iou=0.1)
    text = table({"with": dict.fromkeys({**TEST_SPLITS, **VARIED_SPLITS}, scores)})
    words = ("trained categories", "new categories", "trained, varied", "new, varied")
    assert [line[24:46].strip() for line in text.splitlines()[1:]] == list(words)


def test_committed_sample_is_what_the_code_draws(tmp_path):
    from pathlib import Path

    from adcopilot.sample.generate import grpo_splits, standard_splits, write_sample

    committed = Path(__file__).parents[2] / "data" / "sample"
    splits = [*standard_splits(60, test_count=26), *grpo_splits(12, test_count=26)]
    made = write_sample(tmp_path, splits, prefix="sample/")
    assert made == json.loads((committed / "manifest.json").read_text())
    for split in made["splits"]:
        assert (tmp_path / f"{split}.jsonl").read_text() == (committed / f"{split}.jsonl").read_text()
