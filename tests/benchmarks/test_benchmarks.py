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


def test_generation_of_both(models):
    shape = shapes.Shape(side=56, text=8, new=3)
    stock, ours = shapes.compare_generation(models, shape, repeats=1)
    comparison_tokens = 2 * models["AD-Copilot"].config.num_comparison_tokens
    assert ours["prompt_tokens"] - stock["prompt_tokens"] == comparison_tokens
    for row in (stock, ours):
        assert row["prefill_seconds"] > 0
        assert row["decode_seconds"] > 0


def test_ratio_is_ours_by_stock():
    rows = [{"model": "Qwen2.5-VL", "side": 56, "seconds": 2.0}, {"model": "AD-Copilot", "side": 56, "seconds": 3.0}]
    assert (
        run.ratio_table(rows, {"seconds": "s"}, lead="side").splitlines()[-1] == "| ratio | 2 × 56 × 56 | **1.50** |"
    )


def test_data_pipeline_counts_what_it_times(tmp_path):
    pytest.importorskip("faiss", reason="needs the extra [data]")
    from benchmarks import data_steps

    data_steps.make_tree(tmp_path, 200)
    steps = [data_steps.index(str(tmp_path)), data_steps.judge(200), data_steps.pair(200)]
    steps += [data_steps.pair_by_hand(200, False), data_steps.generate(200)]
    steps += [data_steps.opened(str(tmp_path / step), step, 2) for step in ("index", "measure", "embed", "cut jpeg")]
    for step in ("index", "measure", "embed", "cut jpeg"):
        (tmp_path / step).mkdir()
    counts = []
    for step in steps:
        next(step)
        counts.append(next(step))
    assert counts == [200] * 5 + [2] * 4


def test_data_pipeline_page():
    pytest.importorskip("faiss", reason="needs the extra [data]")
    from benchmarks import data_pipeline

    def row(entries, milliseconds):
        return {"entries": entries, "cpu_seconds": entries * milliseconds / 1000, "grown_mib": 2.0}

    growing = {name: [row(1000, 2.0), row(2000, 3.0)] for name in data_pipeline.NAMES}
    growing["pair by hand"] = [row(1000, 8.0), row(1000, 9.0)]
    result = {
        "growing": growing,
        "pair with all": [row(100, 20.0), row(100, 60.0)],
        "images": {step: row(4, 10.0) for step in data_pipeline.STEPS},
        "command": "c",
        "date": "d",
        "hardware": {},
        "versions": {},
    }
    lines = data_pipeline.page(result).splitlines()
    assert any(line.startswith("| generate") and "| 2.000 | 3.000 | **1.50** | 2 → 2 |" in line for line in lines)
    assert "| **times faster than in the category** | 4.0 | 3.0 |" in lines
    assert "| **times faster than in all of the pool** | 10.0 | 20.0 |" in lines
    # Index, filter, embed and one way to cut, and 3 ms each for the steps without images.
    assert f"| **together, PNG** | 49 | **{49 * 1.12e6 / 3.6e6:.3g}** |" in lines
