"""What becomes of the comparison queries: they train beside LoRA and survive save, resume, merge and export."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from adcopilot.model import AdCopilotForConditionalGeneration

from ..helpers.model_folders import weights_of as weights
from .conftest import STAGES, logits_of, steps_of, train, train_all

pytestmark = pytest.mark.forward

QUERIES = "model.comparison_encoder.comparison_queries.weight"
STEPS = 4


def queries_of_adapter(folder) -> torch.Tensor:
    return load_file(folder / "adapter_model.safetensors")[f"base_model.model.{QUERIES}"]


@pytest.fixture(scope="module")
def chain(adcopilot_dir, mixed_samples, tmp_path_factory):
    """Stages 0, 1, 2 and the export, from the tiny YAMLs, four steps each with a checkpoint after the second."""
    folder = tmp_path_factory.mktemp("chain")
    common = {
        **mixed_samples,
        "per_device_train_batch_size": 2,
        "max_steps": STEPS,
        "save_strategy": "steps",
        "save_steps": 2,
        "learning_rate": 5e-3,
    }
    train_all(folder, adcopilot_dir, common)
    return folder, common


def test_stage0_leaves_every_other_weight_as_it_was(chain, adcopilot_dir):
    folder, _ = chain
    before, after = weights(adcopilot_dir), weights(folder / "stage0")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    # A key's bias adds the same to all scores of a query, so softmax gives it no gradient but rounding noise.
    expected = {name for name in before if name.startswith("model.comparison_encoder.") and "k_proj.bias" not in name}
    assert expected <= changed
    assert all(name.startswith("model.comparison_encoder.") for name in changed)


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_leaves_its_curve(stage, chain):
    with Image.open(chain[0] / f"stage{stage}" / "training_loss.png") as picture:
        assert min(picture.size) > 100


def test_queries_train_in_each_stage(chain, adcopilot_dir):
    folder, _ = chain
    values = [
        weights(adcopilot_dir)[QUERIES],
        weights(folder / "stage0")[QUERIES],
        queries_of_adapter(folder / "stage1"),
        queries_of_adapter(folder / "stage2"),
    ]
    for earlier, later in itertools.pairwise(values):
        step = (later - earlier).abs()
        assert 1e-4 < step.max() <= STEPS * 5e-3 * 1.5  # where the stage before ended, plus its own steps


def test_adapter_holds_lora_and_queries_alone(chain):
    folder, _ = chain
    for stage in ("stage1", "stage2", "stage1/checkpoint-2"):
        with safe_open(folder / stage / "adapter_model.safetensors", "pt") as file:
            others = [name for name in file.keys() if ".lora_A." not in name and ".lora_B." not in name]
        assert others == [f"base_model.model.{QUERIES}"]
        config = json.loads((folder / stage / "adapter_config.json").read_text("utf-8"))
        assert config["modules_to_save"] == ["comparison_queries"]


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_resumed_run_equals_the_uninterrupted_one(stage, chain, adcopilot_dir, tmp_path):
    """As after a kill: the output folder holds checkpoint-2 and the same command is given again."""
    folder, common = chain
    output = tmp_path / "run"
    shutil.copytree(folder / f"stage{stage}/checkpoint-2", output / "checkpoint-2")
    changes = {**common, "model_name_or_path": str(folder / "stage0"), "output_dir": str(output)}
    if stage == 0:
        changes["model_name_or_path"] = str(adcopilot_dir)
    if stage == 2:
        changes["adapter_name_or_path"] = str(folder / "stage1")
    steps = train("tiny", stage, **changes)
    uninterrupted = steps_of(folder / f"stage{stage}")
    assert [step["step"] for step in steps] == list(range(1, STEPS + 1))
    assert [step["loss"] for step in steps] == [step["loss"] for step in uninterrupted]
    before, after = weights(folder / f"stage{stage}"), weights(output)
    assert before.keys() == after.keys()
    for name, expected in before.items():
        torch.testing.assert_close(after[name], expected, atol=1e-6, rtol=1e-5, msg=name)


def test_export_holds_the_queries_of_the_last_adapter(chain):
    folder, _ = chain
    assert torch.equal(weights(folder / "merged")[QUERIES], queries_of_adapter(folder / "stage2"))


def test_exported_logits_equal_those_of_the_adapters(chain, mixed_samples):
    folder, _ = chain
    merged = AdCopilotForConditionalGeneration.from_pretrained(folder / "merged")
    model = AdCopilotForConditionalGeneration.from_pretrained(folder / "stage0")
    base = logits_of(model, folder / "stage0", mixed_samples)
    model = PeftModel.from_pretrained(model, folder / "stage1").merge_and_unload()
    model = PeftModel.from_pretrained(model, folder / "stage2")
    expected = logits_of(model, folder / "stage0", mixed_samples)
    found = logits_of(merged, folder / "merged", mixed_samples)
    for left, right, untrained in zip(found, expected, base, strict=True):
        torch.testing.assert_close(left, right, atol=1e-4, rtol=1e-3)  # merging rounds
        assert (right - untrained).abs().max() > 1e-2


#: Stages, export and a question with two images under the stand-in for LlamaFactory's main; prints what was answered.
UNDER_MAIN = """
import json, sys
from pathlib import Path
from tests.llamafactory import main_branch
main_branch.install()
from tests.training.conftest import train_all
from llamafactory.chat import ChatModel
from llamafactory.extras.env import VERSION
from adcopilot.llamafactory.webui.webchat_model import ComparingChatModel, SETTINGS

def chain(folder, base, images, common):
    merged = train_all(Path(folder), base, common)
    chat = ComparingChatModel(manager=None)
    ChatModel.__init__(chat, {"model_name_or_path": merged, "template": "adcopilot", "image_max_pixels": 65536})
    chatbot, messages = chat.ask([], [], "user", "Is there a defect?", True, images)
    settings = {"max_new_tokens": 4, "top_p": 1.0, "temperature": 0.01, "skip_special_tokens": False}
    settings |= {"escape_html": False, "enable_thinking": True}
    values = [settings[name] for name in SETTINGS]
    *_, (_, told, _) = chat.answer(chatbot, messages, "Is there a defect?", "en", "", "", *values)
    print("\\n" + json.dumps([VERSION, told[-1]["role"]]))

chain(*json.loads(sys.argv[1]))
"""


def test_the_main_branch_trains_the_same_and_chats(chain, adcopilot_dir, tmp_path, project_root):
    """Losses, gradient norms and merged weights to every digit, under what LlamaFactory's main does otherwise."""
    folder, common = chain
    images = [str(Path(common["media_dir"]) / f"1-{number}.png") for number in range(2)]
    arguments = json.dumps([str(tmp_path), str(adcopilot_dir), images, common])
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", UNDER_MAIN, arguments]
    result = subprocess.run(command, env=environment, cwd=project_root, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-3000:]
    assert json.loads(result.stdout.splitlines()[-1]) == ["0.9.6.dev0", "assistant"]
    for stage in ("stage0", "stage1", "stage2"):
        for before, now in zip(steps_of(folder / stage), steps_of(tmp_path / stage), strict=True):
            assert (now["loss"], now["grad_norm"]) == (before["loss"], before["grad_norm"])
    before, now = weights(folder / "merged"), weights(tmp_path / "merged")
    assert before.keys() == now.keys()
    assert all(torch.equal(before[name], now[name]) for name in before)
