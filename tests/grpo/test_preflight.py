"""`adcopilot preflight` of a YAML of stage 3: what training would refuse, and memory, without a model."""

import json

import pytest
import yaml

from adcopilot.errors import UserError
from adcopilot.grpo.preflight import _memory, preflight_grpo
from adcopilot.grpo.settings import read_settings
from adcopilot.llamafactory.memory import GIB, Shapes
from adcopilot.model import AdCopilotConfig
from benchmarks import counts


@pytest.fixture
def config(rl_data, untrained_policy, tmp_path):
    """`config(key=value)` writes a YAML and names it."""

    def write(**settings):
        values = {
            "model_name_or_path": str(untrained_policy),
            "dataset_dir": str(rl_data),
            "dataset": str(rl_data / "rl.jsonl"),
            "output_dir": str(tmp_path / "out"),
            "image_max_pixels": 3136,
            "cutoff_len": 512,
            "max_completion_length": 64,
            "num_generations": 8,
            "per_device_train_batch_size": 1,
            "gradient_accumulation_steps": 2,
            "bf16": True,
            "report_to": "none",
        }
        path = tmp_path / "grpo.yaml"
        path.write_text(yaml.safe_dump({**values, **settings}))
        return path

    return write


def test_prompts_and_memory(config, rl_records, run):
    """bf16 and DeepSpeed need no hardware here; eight processes make one group of completions."""
    path = config(deepspeed="examples/deepspeed/zero2.json", val_size=4)
    code, out, _ = run("preflight", path, "--gpus", "8", "--gpu-memory", "80")
    assert code == 0
    training, held_out, memory = out.strip().splitlines()
    assert training.startswith(f"training: {len(rl_records) - 4} prompts, the longest has ")
    assert held_out.startswith("held out: 4 prompts")
    assert memory.startswith("memory of each of 8 GPUs in bfloat16")
    assert "steps on 1 completions" in memory
    assert "to sample 2 at once" in memory
    assert "to sample" not in preflight_grpo(config(rollout_server=["http://127.0.0.1:1"]), [], gpu=None, gpus=8)[-1]


def test_where_memory_is_not_counted(config):
    said = preflight_grpo(config(fsdp="full_shard"), [], gpu=None, gpus=8)
    assert said[-1] == "memory: not counted with fsdp: full_shard"


LARGE = {"gradient_checkpointing": False, "per_device_train_batch_size": 64}


@pytest.mark.parametrize(
    ("settings", "gpus", "gpu", "says"),
    [
        ({}, 1, None, "divisible by num_generations"),
        ({"dataset": "rll.jsonl"}, 8, None, "rll"),
        ({"cutoff_len": 70}, 8, None, "cutoff_len 70: no prompt is short enough"),
        ({"beta": -1}, 8, None, "beta is -1"),
        ({"image_min_pixels": 5000}, 8, None, "^image_min_pixels 5000 and image_max_pixels 3136: expected 0 < min"),
        ({"deepspeed": "nowhere.json"}, 8, None, "deepspeed nowhere.json: no such file"),
        (LARGE, 8, 0.1, "gradient_checkpointing=true would lower it"),
        ({"gradient_checkpointing": True}, 8, 0.001, "take a larger GPU"),
    ],
)
def test_what_is_refused(config, settings, gpus, gpu, says):
    with pytest.raises(UserError, match=says):
        preflight_grpo(config(**settings), [], gpu=gpu, gpus=gpus)


def test_an_override_that_is_none(config, run):
    said = "error: oops: expected KEY=VALUE, as in output_dir=saves/grpo\n"
    assert run("preflight", config(), "oops") == (2, "", said)


def test_sampling_many_at_once(config):
    """Keys and values of 4,096 completions are more than the step's own needs."""
    path = config(steps_per_generation=4096, save_strategy="no", gradient_checkpointing=True)
    with pytest.raises(UserError, match=r"sampling 4096 completions at once needs about .*\(rollout_server\)"):
        preflight_grpo(path, [], gpu=0.5, gpus=8)


def test_at_7b(config, tmp_path):
    """A pair of 1 megapixel: the weights are 15.6 GiB, the language model alone keeps anything of a step."""
    folder = tmp_path / "7b"
    counts.config_of("AD-Copilot", "7B").save_pretrained(folder)
    args, _ = read_settings(config(model_name_or_path=str(folder)), ["bf16=false", "num_generations=2"])
    settings = {"disable_gradient_checkpointing": False}
    asked = {"completion": 512, "rows": 1, "rollouts": 2, "gpus": 8}
    line = _memory(settings, args, 3100, [(1008, 1008)] * 2, gpu=80, **asked)
    assert "to sample 2 at once" in line
    shapes = Shapes(AdCopilotConfig.from_pretrained(folder))
    assert shapes.cache(1) == 28 * 2 * 4 * 128 * 2  # as its config.json says
    trained = shapes.trained_by_grpo(64)
    assert sum(trained.values()) == 161_480_704  # the head of examples/grpo/7b.yaml: 161.5 M
    weights = float(line.split("(")[1].split(" weights")[0])
    assert weights == pytest.approx(sum(one.numel() for one in shapes.model.parameters()) * 2 / GIB, abs=0.1)
    with pytest.raises(UserError, match="more than --gpu-memory 18"):
        _memory(settings, args, 3100, [(1008, 1008)] * 2, gpu=18, **asked)
    assert json.loads((folder / "config.json").read_text())["model_type"] == "adcopilot"
