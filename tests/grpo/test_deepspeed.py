"""`adcopilot grpo` in two processes under DeepSpeed's ZeRO-2, with rollouts by transformers."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.grpo.conftest import grpo_settings
from tests.training.test_deepspeed import extensions  # noqa: F401 - the fixture: where DeepSpeed's extension is kept

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_two_ranks_share_the_groups(policy_dir, rl_data, tmp_path, project_root, extensions):  # noqa: F811
    settings = grpo_settings(
        policy_dir,
        rl_data,
        tmp_path / "out",
        per_device_train_batch_size=2,  # a group lies across both ranks
        beta=0.01,
        max_steps=3,
        save_steps=1,
        deepspeed=str(project_root / "examples/deepspeed/zero2.json"),
    )
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(settings))
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
    rows = [json.loads(line) for line in (tmp_path / "out" / "rollouts.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 1, 2]
    assert all(len(row["completions"]) == 4 for row in rows)
    weights = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert all(weight.numel() for weight in weights.values())
    # As after a kill in the third update: no checkpoint of it, no mark that the run is finished.
    shutil.rmtree(tmp_path / "out" / "checkpoint-3")
    about = json.loads((tmp_path / "out" / "grpo.json").read_text())
    assert about.pop("finished")["steps"] == 3
    (tmp_path / "out" / "grpo.json").write_text(json.dumps(about))
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1000)
    assert again.returncode == 0, again.stderr[-4000:]
    assert [json.loads(line) for line in (tmp_path / "out" / "rollouts.jsonl").read_text().splitlines()] == rows
    torch.testing.assert_close(load_file(tmp_path / "out" / "adapter_model.safetensors"), weights)
