"""`adcopilot grpo` in two processes under DeepSpeed's ZeRO-2, with rollouts by transformers."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch

from tests.grpo.conftest import write_run
from tests.grpo.runs import rollouts, weights
from tests.helpers.model_folders import change_json
from tests.training.test_deepspeed import extensions  # noqa: F401 - the fixture: where DeepSpeed's extension is kept

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_two_ranks_share_the_groups(policy_dir, rl_data, tmp_path, project_root, extensions):  # noqa: F811
    settings = {"deepspeed": str(project_root / "examples/deepspeed/zero2.json"), "beta": 0.01}
    settings |= {"per_device_train_batch_size": 2, "max_steps": 3, "save_steps": 1}  # a group lies across both ranks
    file = write_run(tmp_path, policy_dir, rl_data, **settings)
    environment = {
        **os.environ,
        "DS_ACCELERATOR": "cpu",
        "OMP_NUM_THREADS": "1",
        "TORCH_EXTENSIONS_DIR": str(extensions),
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    command += ["-m", "adcopilot.cli", "grpo", str(file)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1000)
    assert result.returncode == 0, result.stderr[-4000:]
    rows = rollouts(tmp_path / "out")
    assert [row["step"] for row in rows] == [0, 1, 2]
    assert all(len(row["completions"]) == 4 for row in rows)
    trained = weights(tmp_path / "out")
    assert all(weight.numel() for weight in trained.values())
    # As after a kill in the third update: no checkpoint of it, no mark that the run is finished.
    shutil.rmtree(tmp_path / "out" / "checkpoint-3")
    about = tmp_path / "out" / "grpo.json"
    assert json.loads(about.read_text())["finished"]["steps"] == 3
    change_json(about, without=["finished"])
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1000)
    assert again.returncode == 0, again.stderr[-4000:]
    assert rollouts(tmp_path / "out") == rows
    torch.testing.assert_close(weights(tmp_path / "out"), trained)
