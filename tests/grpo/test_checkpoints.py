"""`adcopilot.grpo.checkpoints`: where a run goes on from, whether it is the same, and whether it is over."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from adcopilot.errors import UserError
from adcopilot.grpo.checkpoints import check_same_run, finish, finished_steps, has_ended, last_checkpoint, write_about


def checkpoint(folder, step, *, whole=True):
    path = folder / f"checkpoint-{step}"
    path.mkdir()
    save_file({"weight": torch.zeros(4)}, path / "adapter_model.safetensors")
    if whole:
        (path / "trainer_state.json").write_text("{}")
    return path


def test_the_newest_whole_checkpoint(tmp_path):
    assert last_checkpoint(tmp_path, tidy=True) is None
    checkpoint(tmp_path, 8)
    checkpoint(tmp_path, 9)
    torn = checkpoint(tmp_path, 10)
    weights = torn / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-3])
    checkpoint(tmp_path, 11, whole=False)
    assert last_checkpoint(tmp_path, tidy=False) == (tmp_path / "checkpoint-9", 9)
    assert torn.exists()
    assert last_checkpoint(tmp_path, tidy=True) == (tmp_path / "checkpoint-9", 9)
    assert not torn.exists()


def same(folder, settings, versions=None):
    said = []
    check_same_run(folder, settings, versions=versions or {}, say=said.append)
    return said


def test_other_settings_do_not_go_on(tmp_path):
    write_about(tmp_path, {"settings": {"seed": 1, "beta": 0.0}, "versions": {"torch": "2.8.0"}})
    assert same(tmp_path, {"seed": 1, "beta": 0.0}) == []
    with pytest.raises(UserError, match=r"other settings \(beta 0\.0, now 0\.1\)"):
        same(tmp_path, {"seed": 1, "beta": 0.1})
    with pytest.raises(UserError, match=r"beta 0\.0, now null"):
        same(tmp_path, {"seed": 1})


def test_other_versions_are_said(tmp_path):
    write_about(tmp_path, {"settings": {}, "versions": {"torch": "2.8.0", "trl": "0.24.0"}})
    [line] = same(tmp_path, {}, {"torch": "2.9.1", "trl": "0.24.0"})
    assert "torch 2.8.0, now 2.9.1" in line
    assert "trl" not in line


def test_what_an_older_version_did_not_write_is_said_and_not_compared(tmp_path):
    write_about(tmp_path, {"settings": {"seed": 1}})
    [line] = same(tmp_path, {"seed": 1, "optim": "sgd"})
    assert "optim" in line


@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}", '{"settings": 3}', "[" * 100_000])
def test_what_a_run_was_begun_with_must_be_known(tmp_path, content):
    if content is not None:
        (tmp_path / "grpo.json").write_text(content)
    with pytest.raises(UserError, match=r"grpo\.json: does not say with which settings"):
        same(tmp_path, {"seed": 1})
    assert finished_steps(tmp_path) is None


STOPPED = {"TrainerControl": {"args": {"should_training_stop": True}}}


def ended(folder, step, state):
    path = checkpoint(folder, step)
    (path / "trainer_state.json").write_text(json.dumps(state))
    return path


@pytest.mark.parametrize(
    ("state", "over"),
    [
        ({"global_step": 4, "max_steps": 4}, True),
        ({"global_step": 5, "max_steps": 4}, True),
        ({"global_step": 2, "max_steps": 4}, False),
        ({"global_step": 2, "max_steps": 0}, False),
        ({}, False),
        ({"global_step": 3, "max_steps": 20, "stateful_callbacks": STOPPED}, True),
    ],
)
def test_whether_all_steps_are_made(tmp_path, state, over):
    assert has_ended(ended(tmp_path, 4, state)) is over


def test_finishing_takes_the_adapter_and_no_optimizer(tmp_path):
    write_about(tmp_path, {"settings": {"seed": 1}})
    last = ended(tmp_path, 4, {"global_step": 4, "max_steps": 4})
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "rng_state_0.pth", "latest", "zero_to_fp32.py"):
        (last / name).write_text("x")
    (last / "global_step4").mkdir()
    (last / "adapter_config.json").write_text("{}")
    finish(tmp_path, last, best=False)
    assert finished_steps(tmp_path) == 4
    found = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert found == {"grpo.json", "adapter_config.json", "adapter_model.safetensors", "trainer_state.json"}
    assert json.loads((tmp_path / "grpo.json").read_text())["settings"] == {"seed": 1}


def test_finishing_takes_the_best_adapter_where_the_run_would(tmp_path):
    best = ended(tmp_path, 2, {})
    save_file({"weight": torch.ones(4)}, best / "adapter_model.safetensors")
    state = {"global_step": 4, "max_steps": 4, "best_model_checkpoint": "/moved/away/checkpoint-2"}
    last = ended(tmp_path, 4, state)
    finish(tmp_path, last, best=True)
    assert load_file(tmp_path / "adapter_model.safetensors")["weight"].sum() == 4
    (best / "adapter_model.safetensors").unlink()
    with pytest.raises(UserError, match="the best checkpoint is gone or damaged"):
        finish(tmp_path, last, best=True)
