"""The 7B YAML's stage 1 under DeepSpeed in two processes on a CPU, against one process with the same global batch.

DeepSpeed compiles a shared-memory collective when it starts on a CPU, about a minute of one core the first time; its
lock file outlives a killed compilation and would make every later run wait forever, so these tests keep a folder of
their own for it and clear the lock, unless another process of the suite is using the folder.
"""

import shutil
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from adcopilot.model import AdCopilotForConditionalGeneration

from .conftest import ON_A_CPU, command_line, export, logits_of, steps_of, train

QUERIES = "base_model.model.model.comparison_encoder.comparison_queries.weight"
STEPS = 3

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def extensions(request):
    """Where DeepSpeed's compiled extension is kept between runs of these tests."""
    pytest.importorskip("deepspeed")
    for tool in ("c++", "ninja"):
        if shutil.which(tool) is None:
            pytest.skip(f"DeepSpeed on a CPU compiles an extension, which needs {tool}")
    import fcntl

    folder = request.config.rootpath / ".pytest_cache" / "torch_extensions"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "in_use", "w") as in_use:
        with suppress(BlockingIOError):
            fcntl.flock(in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for lock in folder.rglob("lock"):
                lock.unlink()
        fcntl.flock(in_use, fcntl.LOCK_SH)
        yield folder


@pytest.fixture(scope="module")
def settings(adcopilot_dir, mixed_samples):
    """In file order, so that one rank gets text alone whenever the other gets two images."""
    return {
        **mixed_samples,
        "model_name_or_path": str(adcopilot_dir),
        "disable_shuffling": True,
        "per_device_train_batch_size": 1,
        "learning_rate": 1e-3,
        "max_steps": STEPS,
    }


@pytest.fixture(scope="module")
def one_process(settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("one_process") / "run"
    return train("7b", 1, **settings, gradient_accumulation_steps=4, output_dir=str(folder)), folder


@pytest.fixture(scope="module", params=["zero2", "zero3"])
def two_processes(request, extensions, settings, tmp_path_factory):
    """(output folder) of the same training in two ranks."""
    folder = tmp_path_factory.mktemp(request.param) / "run"
    changes = {**ON_A_CPU, **settings, "gradient_accumulation_steps": 2, "output_dir": folder}
    changes["deepspeed"] = f"examples/deepspeed/{request.param}.json"
    environment = {"TORCH_EXTENSIONS_DIR": str(extensions)}
    if request.param == "zero3":
        changes["use_cpu"] = False  # with it, zero.Init sees a world of one process
        environment["PYTHONPATH"] = str(Path(__file__).parent / "gloo_waits")  # a fault of DeepSpeed's, told there
    result = command_line("train", "examples/train/7b/stage1.yaml", processes=2, env=environment, **changes)
    assert result.returncode == 0, result.stdout[-4000:]
    return folder


def test_loss_and_gradient_norm_equal_one_process(two_processes, one_process):
    expected, _ = one_process
    steps = steps_of(two_processes)
    assert len(steps) == STEPS
    for step, reference in zip(steps, expected, strict=True):
        assert step["loss"] == pytest.approx(reference["loss"], rel=1e-4)  # logged with four decimals
        assert step["grad_norm"] == pytest.approx(reference["grad_norm"], rel=1e-3)
    assert steps[-1]["loss"] < steps[0]["loss"]


def test_adapter_is_whole_and_equals_one_process(two_processes, one_process):
    _, folder = one_process
    expected = load_file(folder / "adapter_model.safetensors")
    found = load_file(two_processes / "adapter_model.safetensors")
    assert {name: weight.shape for name, weight in found.items()} == {
        name: weight.shape for name, weight in expected.items()
    }
    assert all(weight.numel() for weight in found.values())
    torch.testing.assert_close(found[QUERIES], expected[QUERIES], atol=3e-4, rtol=0)


def test_merged_export_equals_the_adapter(two_processes, adcopilot_dir, mixed_samples, tmp_path):
    merged = tmp_path / "merged"
    export(model_name_or_path=str(adcopilot_dir), adapter_name_or_path=str(two_processes), export_dir=str(merged))
    model = AdCopilotForConditionalGeneration.from_pretrained(adcopilot_dir)
    expected = logits_of(PeftModel.from_pretrained(model, two_processes), adcopilot_dir, mixed_samples)
    found = logits_of(AdCopilotForConditionalGeneration.from_pretrained(merged), merged, mixed_samples)
    for left, right in zip(found, expected, strict=True):
        torch.testing.assert_close(left, right, atol=1e-4, rtol=1e-3)  # merging rounds
