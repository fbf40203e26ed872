"""What each stage trains, by name: read off the project's YAMLs by LlamaFactory's own code."""

import pytest
import torch
from peft import PeftModel
from torch import nn

from adcopilot.model import AdCopilotForConditionalGeneration

from ..helpers.awake import random_image
from .conftest import ON_A_CPU, SIZES, STAGES, asked, logits_of, read_yaml

QUERIES = "model.comparison_encoder.comparison_queries"


def load(size: str, stage: int, **changes):
    """The model as LlamaFactory hands it to its trainer."""
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_model, load_tokenizer

    args = {**read_yaml(size, stage), **ON_A_CPU, **changes}
    args.pop("deepspeed", None)  # LlamaFactory would insist on torchrun
    model_args, _, _, finetuning_args, _ = get_train_args(args)
    tokenizer = load_tokenizer(model_args)["tokenizer"]
    return load_model(tokenizer, model_args, finetuning_args, is_trainable=True)


def trained(model) -> set[str]:
    return {name for name, weight in model.named_parameters() if weight.requires_grad}


@pytest.fixture(scope="module")
def plain(adcopilot_dir):
    return AdCopilotForConditionalGeneration.from_pretrained(adcopilot_dir)


@pytest.fixture(scope="module")
def stage1_adapter(adcopilot_dir, tmp_path_factory):
    """An adapter of stage 1 with every weight moved off its start."""
    folder = tmp_path_factory.mktemp("stage1")
    model = load("tiny", 1, model_name_or_path=str(adcopilot_dir), output_dir=str(folder / "run"))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.normal_(std=0.02)
    model.save_pretrained(folder / "adapter")
    return folder / "adapter"


@pytest.fixture
def places(adcopilot_dir, stage1_adapter, tmp_path):
    """What each stage's YAML is pointed to instead of its folders under saves/."""
    common = {"model_name_or_path": str(adcopilot_dir), "output_dir": str(tmp_path / "run")}
    return {0: common, 1: common, 2: {**common, "adapter_name_or_path": str(stage1_adapter)}}


def lora_on(plain, *prefixes: str) -> set[str]:
    """LoRA's two matrices on every linear layer below the prefixes, and the queries themselves."""
    names = {f"base_model.model.{QUERIES}.modules_to_save.default.weight"}
    for name, module in plain.named_modules():
        if isinstance(module, nn.Linear) and name.startswith(prefixes):
            names |= {f"base_model.model.{name}.lora_{side}.default.weight" for side in "AB"}
    return names


@pytest.mark.parametrize("size", SIZES)
class TestTrainedParameters:
    def test_stage0_trains_all_of_the_comparison_encoder_and_nothing_else(self, size, plain, places):
        expected = {name for name, _ in plain.named_parameters() if name.startswith("model.comparison_encoder.")}
        assert f"{QUERIES}.weight" in expected
        assert trained(load(size, 0, **places[0])) == expected

    def test_stage1_trains_lora_on_encoder_and_language_model_and_the_queries(self, size, plain, places):
        model = load(size, 1, **places[1])
        assert trained(model) == lora_on(plain, "model.comparison_encoder.", "model.language_model.")
        assert (model.peft_config["default"].r, model.peft_config["default"].lora_alpha) == (64, 128)

    def test_stage2_trains_the_vision_blocks_as_well(self, size, plain, places):
        model = load(size, 2, **places[2])
        parts = ("model.comparison_encoder.", "model.language_model.", "model.visual.blocks.")
        assert trained(model) == lora_on(plain, *parts)
        assert list(model.peft_config) == ["default"]  # one new adapter, not stage 1's trained on

    def test_stage2_starts_from_what_stage1_learned(self, size, adcopilot_dir, places, stage1_adapter, mixed_samples):
        before = AdCopilotForConditionalGeneration.from_pretrained(adcopilot_dir, attn_implementation="eager")
        untouched = logits_of(before, adcopilot_dir, mixed_samples)
        after_stage1 = logits_of(PeftModel.from_pretrained(before, stage1_adapter), adcopilot_dir, mixed_samples)
        start_of_stage2 = logits_of(load(size, 2, **places[2]), adcopilot_dir, mixed_samples)
        for start, end, base in zip(start_of_stage2, after_stage1, untouched, strict=True):
            torch.testing.assert_close(start, end, atol=1e-4, rtol=1e-3)  # merging rounds
            assert (start - base).abs().max() > 1e-2


@pytest.mark.parametrize("stage", STAGES)
def test_gradient_checkpointing_changes_no_gradient(stage, places):
    """The 7B YAMLs checkpoint, the tiny ones do not: the same weights must learn the same from the same batch."""
    gradients = {}
    for disabled in (True, False):
        torch.manual_seed(3)
        model = load("7b", stage, **places[stage], disable_gradient_checkpointing=disabled)
        with torch.no_grad():  # B starts at zero, which would leave A without a gradient
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    weight.normal_(std=0.02)
        model.train()
        batch = asked(places[stage]["model_name_or_path"], [random_image(0, 84, 56), random_image(1, 84, 56)])
        model(**batch, labels=batch["input_ids"]).loss.backward()
        gradients[disabled] = {name: weight.grad for name, weight in model.named_parameters() if weight.requires_grad}
    for name, expected in gradients[True].items():
        assert expected is not None, name
        assert expected.abs().max() > 0, name
        torch.testing.assert_close(gradients[False][name], expected, atol=1e-6, rtol=1e-4, msg=name)
