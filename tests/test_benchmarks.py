"""What the benchmarks measure is what they say: prompts as the processor makes them, ratios the right way round."""

import pytest
import torch

from benchmarks import run, shapes


@pytest.fixture(scope="module")
def models(qwen_base_dir, adcopilot_dir):
    from transformers import Qwen2_5_VLForConditionalGeneration

    from adcopilot.model import AdCopilotForConditionalGeneration

    return {
        "Qwen2.5-VL": Qwen2_5_VLForConditionalGeneration.from_pretrained(qwen_base_dir, dtype=torch.float32).eval(),
        "AD-Copilot": AdCopilotForConditionalGeneration.from_pretrained(adcopilot_dir, dtype=torch.float32).eval(),
    }


def test_prompt_is_laid_out_like_the_processors(models, adcopilot_dir):
    from PIL import Image

    from adcopilot.model import AdCopilotProcessor

    processor = AdCopilotProcessor.from_pretrained(adcopilot_dir)
    text = "<|vision_start|><|image_pad|><|vision_end|>" * 2
    config = models["AD-Copilot"].config
    made = shapes.prompt(config, shapes.Shape(side=56, text=0), device=torch.device("cpu"), dtype=torch.float32)
    expected = processor(text=[text], images=[Image.new("RGB", (56, 56))] * 2, return_tensors="pt")
    assert torch.equal(made["input_ids"], expected["input_ids"])
    assert torch.equal(made["image_grid_thw"], expected["image_grid_thw"])
    assert made["pixel_values"].shape == expected["pixel_values"].shape


def test_generation_and_training_step_of_both(models):
    shape = shapes.Shape(side=56, text=8, new=3)
    stock, ours = shapes.compare_generation(models, shape, repeats=1)
    comparison_tokens = 2 * models["AD-Copilot"].config.num_comparison_tokens
    assert ours["prompt_tokens"] - stock["prompt_tokens"] == comparison_tokens
    for row in (stock, ours):
        assert row["prefill_seconds"] > 0
    for model in models.values():
        assert shapes.train_steps(model, shape, repeats=1, rank=2)["train_step_seconds"] > 0


def test_ratio_is_ours_by_stock():
    rows = [{"model": "Qwen2.5-VL", "side": 56, "seconds": 2.0}, {"model": "AD-Copilot", "side": 56, "seconds": 3.0}]
    assert (
        run.ratio_table(rows, {"seconds": "s"}, lead="side").splitlines()[-1] == "| ratio | 2 × 56 × 56 | **1.50** |"
    )
