"""The comparison encoder never allocates patches x patches; at full size: benchmarks/encoder_memory.py."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from adcopilot.model import AdCopilotConfig, ComparisonEncoder, comparison_encoder
from benchmarks.encoder_memory import Allocations

pytestmark = pytest.mark.forward

WIDTH = 32
EQUAL = [[1, 32, 32], [1, 32, 32]]
UNEQUAL = [[1, 32, 32], [1, 16, 48], [1, 40, 24]]


def encoder_and_features(grid, position_encoding):
    config = AdCopilotConfig(
        vision_config={"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_heads": 2, "out_hidden_size": WIDTH},
        text_config={"hidden_size": WIDTH, "num_attention_heads": 2, "num_key_value_heads": 1},
        num_comparison_tokens=8,
        comparison_position_encoding=position_encoding,
    )
    config.vision_config._attn_implementation = "sdpa"
    grid = torch.tensor(grid)
    return ComparisonEncoder(config=config), torch.randn(int(grid.prod(-1).sum()), WIDTH), grid


def run(grid, position_encoding, *, gradients=False):
    encoder, features, grid = encoder_and_features(grid, position_encoding)
    previous = [0, *range(len(grid) - 1)]
    with torch.set_grad_enabled(gradients), Allocations() as allocations:
        tokens = encoder(features, grid, previous)
        if gradients:
            tokens.sum().backward()
    assert tokens.shape == (len(grid), 8, WIDTH)
    return allocations


@pytest.mark.parametrize("gradients", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("position_encoding", ["none", "rope2d"])
@pytest.mark.parametrize("grid", [EQUAL, UNEQUAL], ids=["equal", "unequal"])
def test_no_tensor_of_patches_squared(grid, position_encoding, gradients):
    allocations = run(grid, position_encoding, gradients=gradients)
    smallest = min(height * width for _, height, width in grid)
    assert allocations.largest < smallest**2 / 2, allocations.shape
    # what grows with the patches alone: the feed-forward network's hidden layer of all images at once
    assert allocations.largest >= smallest * 2 * WIDTH


@pytest.mark.parametrize("grid", [EQUAL, UNEQUAL], ids=["equal", "unequal"])
def test_the_recorder_sees_scores_where_there_are_some(grid):
    """The control: the kernel that does build the matrix of scores is caught."""
    with sdpa_kernel(SDPBackend.MATH):
        allocations = run(grid, "none")
    assert allocations.largest >= min(height * width for _, height, width in grid) ** 2


def test_memory_grows_with_the_largest_image_not_with_their_number(monkeypatch):
    """Images beyond the limit are encoded in groups."""
    monkeypatch.setattr(comparison_encoder, "MAX_PATCHES_AT_ONCE", 1024)
    two, eight = (run(EQUAL * repeats, "rope2d").largest for repeats in (1, 4))
    features = 2 * 4 * 1024 * WIDTH  # the input itself, which views of it are counted as
    assert eight <= max(two, features)
