"""`adcopilot.grpo.rollout_log`, and which checkpoint a run goes on from."""

import json
import os

import pytest
import torch
from safetensors.torch import save_file

from adcopilot.errors import UserError
from adcopilot.grpo.checkpoints import check_same_run, last_checkpoint
from adcopilot.grpo.rollout_log import RolloutLog


def rows(path):
    return [json.loads(line)["key"] for line in path.read_text().splitlines()]


def row(mode, step):
    return {"key": f"{mode}-{step}", "mode": mode, "step": step}


def test_a_resumed_run_repeats_nothing(tmp_path):
    log = RolloutLog(folder=tmp_path, step=0)
    log.append([row("eval", 0), row("train", 0), row("train", 1), row("eval", 2), row("train", 2), row("train", 3)])
    with open(log.path, "a") as file:
        file.write('{"key": "torn')
    RolloutLog(folder=tmp_path, step=2)
    assert rows(log.path) == ["eval-0", "train-0", "train-1", "eval-2"]
    RolloutLog(folder=tmp_path, step=0)
    assert rows(log.path) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_one_line(tmp_path):
    log = RolloutLog(folder=tmp_path, step=0)
    log.path.symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"No space left on device.*goes on from its last checkpoint"):
        log.append([row("train", 0)])


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


def test_other_settings_do_not_go_on(tmp_path):
    path = checkpoint(tmp_path, 5)
    check_same_run(path, {"seed": 1})  # a run without a record is not refused
    (tmp_path / "grpo.json").write_text(json.dumps({"settings": {"seed": 1, "beta": 0.0}}))
    check_same_run(path, {"seed": 1, "beta": 0.0})
    with pytest.raises(UserError, match=r"other settings \(beta\)"):
        check_same_run(path, {"seed": 1, "beta": 0.1})
