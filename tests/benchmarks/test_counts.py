"""What a prefill costs at 3B and 7B shapes, counted: a change that makes it worse fails here."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import counts, shapes


@pytest.mark.parametrize("name", ["Qwen2.5-VL", "AD-Copilot"])
@pytest.mark.parametrize("side", [112, 252])
def test_flops_are_what_torch_counts(name, side):
    cpu = torch.device("cpu")
    model = shapes.random_model(name, "7B", **shapes.SHALLOW, device=cpu, dtype=torch.float32)
    inputs = shapes.prompt(model.config, shapes.Shape(side=side), device=cpu, dtype=torch.float32)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter, sdpa_kernel(SDPBackend.MATH):  # the fused kernel of CPUs is not counted
        model(**inputs, logits_to_keep=1)
    by_part = counts.flops(model.config, inputs)
    assert sum(by_part.values()) == counter.get_total_flops()
    of = counter.get_flop_counts()
    kind = type(model).__name__
    assert by_part["vision tower"] == sum(of[f"{kind}.model.visual"].values())
    assert by_part["comparison encoder"] == sum(of.get(f"{kind}.model.comparison_encoder", {}).values())


@pytest.mark.parametrize(("size", "most"), [("7B", 0.030), ("3B", 0.045)])
def test_the_encoders_share_of_a_prefill_at_1_megapixel(size, most):
    config = counts.config_of("AD-Copilot", size)
    found = counts.flops(config, counts.inputs_of(config, 1024))
    share = found["comparison encoder"] / sum(found.values())
    assert 0.01 < share <= most


def test_launches_and_host_reads_of_a_pair():
    """At 7B's depth. The tower's windows go in batches, which saves more than the comparison adds."""
    ours, stock = (counts.asked(name, "7B", 512) for name in ("AD-Copilot", "Qwen2.5-VL"))
    # A call for each of 25 windows of 2 images in 28 layers, for each image in the others. (The language model's
    # attention is matrix products on a CPU.)
    assert stock["attention"] == 28 * 2 * 25 + 4 * 2
    assert ours["attention"] <= 32 * 3 + 3
    assert ours["launches"] < stock["launches"]
    assert ours["reads"] <= stock["reads"] + 2
    later = counts.asked("AD-Copilot, first not compared", "7B", 512)
    assert later["reads"] <= stock["reads"] + 2


@pytest.mark.parametrize("name", counts.MODELS[1:])
def test_a_first_image_that_is_not_compared(name):
    """Its tokens and its half of the encoder's work are gone; torch counts the same."""
    config = counts.config_of(name, "7B")
    inputs = counts.inputs_of(config, 512)
    first = name == "AD-Copilot"
    assert (inputs["input_ids"] == config.comparison_token_id).sum() == 100 * (1 + first)
    found = counts.flops(config, inputs)["comparison encoder"]
    both = counts.flops(counts.config_of("AD-Copilot", "7B"), inputs)["comparison encoder"]
    assert found == (both if first else both / 2)


def test_the_page():
    row = {"size": "7B", "side": 1024, "tokens": 9, "launches": 5, "attention": 2, "reads": 1}
    flops = {"vision tower": 3e12, "comparison encoder": 1e12}
    text = counts.page([{**row, "model": "AD-Copilot", "flops": flops}])
    assert "| 7B | 2 × 1024² | AD-Copilot | 9 | 4.0 | 25.0% | 5 | 2 | 1 |" in text
