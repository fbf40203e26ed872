"""The demo's arithmetic, its plan of commands, and that a finished step is not run again."""

import json
import sys
from pathlib import Path

import pytest

from adcopilot.chat_ad.chain import ChainRun
from adcopilot.errors import UserError
from adcopilot.sample.demo import (
    TEST_SPLITS,
    VARIED_SPLITS,
    ChainStep,
    next_commands,
    plan,
    run_step,
    table,
    time_left,
)
from adcopilot.sample.measure import Scores, score_answers


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
    step = ChainStep(name="stage 0", command=command, output=tmp_path / "out")
    run_step(step, tmp_path / "log")
    run_step(step, tmp_path / "log")
    assert marker.read_text() == "x"
    run_step(ChainStep(name="stage 0", command=[*command, "other"], output=tmp_path / "out"), tmp_path / "log")
    assert marker.read_text() == "xx"


@pytest.mark.parametrize(("resumes", "kept"), [(True, "xxx"), (False, "x")])
def test_stopped_step_goes_on_where_it_can(tmp_path, resumes, kept):
    """Three starts, of which the first two are stopped; with other settings it begins anew."""
    code = f"import os, sys; os.chdir({str(tmp_path)!r}); os.makedirs('out', exist_ok=True); "
    code += "open('out/part', 'a').write('x'); sys.exit(not os.path.exists('may'))"
    step = ChainStep(name="seed 0", command=[sys.executable, "-c", code], output=tmp_path / "out", resumes=resumes)
    for _ in range(2):
        with pytest.raises(UserError, match="status 1"):
            run_step(step, tmp_path / "log")
    (tmp_path / "may").touch()
    run_step(step, tmp_path / "log")
    assert (tmp_path / "out/part").read_text() == kept
    run_step(step, tmp_path / "log")  # finished
    assert (tmp_path / "out/part").read_text() == kept
    (tmp_path / "out.done").unlink()
    run_step(
        ChainStep(name="seed 0", command=[*step.command, "other"], output=step.output, resumes=True), tmp_path / "log"
    )
    assert (tmp_path / "out/part").read_text() == "x"


def test_failed_step_names_its_log(tmp_path):
    command = [sys.executable, "-c", "import sys; print('no room'); sys.exit(3)"]
    with pytest.raises(UserError, match=r"stage 1 ended with status 3: no room; the whole log is .*log"):
        run_step(ChainStep(name="stage 1", command=command, output=tmp_path / "out"), tmp_path / "log")
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


@pytest.fixture
def run_of_three_stages(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for stage, records in enumerate((64, 32, 16)):
        (data / f"stage{stage}.jsonl").write_text("{}\n" * records)
    steps = plan(tmp_path / "run", data, encoder=True, seed=0)
    return ChainRun(name="with comparison", folder=tmp_path / "run", steps=steps)


def test_time_left_is_of_all_stages(run_of_three_stages):
    run = run_of_three_stages
    assert time_left(run) is None  # not begun
    run.current = run.steps[0]
    assert time_left(run) is None  # `init` trains nothing
    run.current = run.steps[1]
    assert time_left(run) is None  # nothing logged yet
    run.current.output.mkdir(parents=True)
    lines = [{"current_steps": step, "total_steps": 4, "elapsed_time": f"0:0{step}:04"} for step in (1, 2)]
    (run.current.output / "trainer_log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    # half of 64 records in 124 s; 32 are left, then 32 that cost 1.5 times as much, then 16 at twice
    assert time_left(run) == pytest.approx(124 / 32 * (32 + 1.5 * 32 + 2 * 16))
    run.current = run.steps[3]
    run.current.output.mkdir(parents=True)
    line = {"current_steps": 4, "total_steps": 4, "elapsed_time": "0:00:16"}
    (run.current.output / "trainer_log.jsonl").write_text(json.dumps(line) + "\n")
    assert time_left(run) == 0


def test_the_end_names_the_model_and_three_commands_that_there_are(tmp_path, monkeypatch, capsys):
    from adcopilot.cli import main

    monkeypatch.chdir(tmp_path)
    first, *_, inspect, page, adapt = next_commands(tmp_path / "outputs/demo/with_encoder/merged").splitlines()
    assert first == "the model: outputs/demo/with_encoder/merged"
    for line, name in ((inspect, "inspect"), (page, "demo"), (adapt, "adapt")):
        program, command, *words = line.split()
        assert (tmp_path / program).resolve().samefile(Path(sys.executable).with_name("adcopilot"))
        assert command == name
        with pytest.raises(SystemExit):
            main([command, "--help"])
        known = capsys.readouterr().out
        assert all(word in known for word in words if word.startswith("--"))


def test_committed_sample_is_what_the_code_draws(tmp_path):
    from adcopilot.sample.generate import grpo_splits, standard_splits, write_sample

    committed = Path(__file__).parents[2] / "data" / "sample"
    splits = [*standard_splits(60, test_count=26), *grpo_splits(12, test_count=26)]
    made = write_sample(tmp_path, splits, prefix="sample/")
    assert made == json.loads((committed / "manifest.json").read_text())
    for split in made["splits"]:
        assert (tmp_path / f"{split}.jsonl").read_text() == (committed / f"{split}.jsonl").read_text()


def test_time_left_counts_steps_on_other_sets_than_the_demos(run_of_three_stages, tmp_path):
    """`make study` trains on with circuit boards."""
    run = run_of_three_stages
    (tmp_path / "boards").mkdir()
    (tmp_path / "boards" / "boards_train.jsonl").write_text("{}\n" * 10)
    command = ["llamafactory-cli", "train", f"dataset_dir={tmp_path / 'boards'}", "dataset=boards_train"]
    run.steps.append(ChainStep(name="boards", command=[*command, "num_train_epochs=4"], output=tmp_path / "adapter"))
    run.current = run.steps[3]
    run.current.output.mkdir(parents=True)
    line = {"current_steps": 2, "total_steps": 4, "elapsed_time": "0:00:16"}
    (run.current.output / "trainer_log.jsonl").write_text(json.dumps(line) + "\n")
    assert time_left(run) == pytest.approx(16 / (2 * 8) * (2 * 8 + 1.5 * 4 * 10))
