"""`adcopilot.grpo.rollout_log`."""

import json
import os

import pytest

from adcopilot.errors import UserError
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


@pytest.mark.parametrize("line", ['{"key": "x"}', '{"step": "1", "mode": "train"}', '{"step": 1, "mode": null}'])
def test_a_file_of_something_else_is_left_as_it_is(tmp_path, line):
    file = tmp_path / "rollouts.jsonl"
    file.write_text(line + "\n")
    with pytest.raises(UserError, match=r"rollouts\.jsonl:1: not a rollout"):
        RolloutLog(folder=tmp_path, step=1)
    assert file.read_text() == line + "\n"
