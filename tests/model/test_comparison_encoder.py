"""The encoder against the paper's formulas written out, and against itself in batches."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from adcopilot.model import AdCopilotConfig, ComparisonEncoder
from adcopilot.model import comparison_encoder as module

pytestmark = pytest.mark.forward

WIDTH, HEADS, TOKENS, OUT = 32, 4, 6, 24


def make_encoder(**options) -> ComparisonEncoder:
    config = AdCopilotConfig(
        text_config={"hidden_size": OUT, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 1},
        vision_config={"hidden_size": WIDTH, "intermediate_size": 48, "num_heads": HEADS, "out_hidden_size": OUT},
        num_comparison_tokens=TOKENS,
        **options,
    )
    config._attn_implementation = "sdpa"
    torch.manual_seed(0)
    encoder = ComparisonEncoder(config=config).eval()
    for weight in encoder.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return encoder


def images(*sizes) -> tuple[torch.Tensor, torch.Tensor]:
    """Features and grids of images of (height, width) patches."""
    grid = torch.tensor([[1, height, width] for height, width in sizes])
    return torch.randn(int(grid.prod(-1).sum()), WIDTH), grid


def norm(x, layer):
    return x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * layer.weight


def block(layer, queries, keys_values):
    """FFN(Norm(CrossAttn(Norm(q), Norm(kv)))) with the scores written out, head by head."""
    attention, q_in, kv_in = (
        layer.cross_attention,
        norm(queries, layer.input_norm),
        norm(keys_values, layer.input_norm),
    )
    q, k, v = attention.q_proj(q_in), attention.k_proj(kv_in), attention.v_proj(kv_in)
    heads = [
        ((a @ b.T) / (WIDTH // HEADS) ** 0.5).softmax(-1) @ c
        for a, b, c in zip(*(x.chunk(HEADS, dim=-1) for x in (q, k, v)), strict=True)
    ]
    hidden = norm(attention.o_proj(torch.cat(heads, -1)), layer.output_norm)
    ffn = layer.feed_forward
    return ffn.down_proj(F.silu(ffn.gate_proj(hidden)) * ffn.up_proj(hidden))


def reference(encoder, x, p):
    """The three lines of design section 4 / Figure 3."""
    queries = encoder.comparison_queries.weight
    p = p + block(encoder.previous_block, p, x)
    d = block(encoder.current_block, x, p)
    c = queries + block(encoder.query_block, queries, d)
    return encoder.projector(c)


@torch.no_grad()
@pytest.mark.parametrize("sizes", [[(4, 4), (4, 4), (4, 4)], [(4, 6), (2, 8), (6, 2)]])
def test_equals_the_formulas(sizes):
    encoder = make_encoder()
    features, grid = images(*sizes)
    tokens = encoder(features, grid, [0, 0, 1])
    assert tokens.shape == (3, TOKENS, OUT)
    parts = features.split(grid.prod(-1).tolist())
    for token, x, p in zip(tokens, parts, (parts[0], parts[0], parts[1]), strict=True):
        torch.testing.assert_close(token, reference(encoder, x, p), rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("encoding", ["none", "rope2d"])
def test_groups_of_images_do_not_change_the_result(monkeypatch, encoding):
    encoder = make_encoder(comparison_position_encoding=encoding)
    features, grid = images((4, 4), (4, 4), (2, 6), (4, 4), (6, 6))
    pairs = [0, 0, 1, 3, 3]
    expected = encoder(features, grid, pairs)
    monkeypatch.setattr(module, "MAX_PATCHES_AT_ONCE", 20)
    groups = encoder._groups(features.split(grid.prod(-1).tolist()), range(5))
    assert groups == [[0], [1], [2], [3], [4]]
    torch.testing.assert_close(encoder(features, grid, pairs), expected, rtol=1e-5, atol=1e-5)
    some = encoder(features, grid, pairs, [1, 4])
    torch.testing.assert_close(some, expected[[1, 4]], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_without_positions_the_order_of_patches_is_not_seen():
    """The paper's encoder matches by content alone; with rope2d the place matters."""
    features, grid = images((4, 4), (4, 4))
    shuffled = torch.cat([features[:16], features[16:][torch.randperm(16)]])
    same = make_encoder()
    torch.testing.assert_close(same(shuffled, grid, [0, 0]), same(features, grid, [0, 0]), rtol=1e-4, atol=1e-4)
    places = make_encoder(comparison_position_encoding="rope2d")
    assert (places(shuffled, grid, [0, 0]) - places(features, grid, [0, 0])).abs().max() > 1e-2


def test_patch_coordinates_follow_the_image_processor():
    """The processor cuts an image into patches square by square; colours that encode the place must agree."""
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor

    height, width = 4, 6
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([y * 40, x * 40, 0 * y], -1).astype(np.uint8).repeat(14, 0).repeat(14, 1)
    processor = Qwen2VLImageProcessor(min_pixels=28 * 28, max_pixels=28 * 28 * 100, do_normalize=False)
    out = processor(Image.fromarray(pixels), return_tensors="pt")
    assert out["image_grid_thw"].tolist() == [[1, height, width]]
    colours = out["pixel_values"].unflatten(-1, (3, -1)).mean(-1) * 255 / 40  # (P, 3)
    coordinates = module.patch_coordinates(out["image_grid_thw"], merge_size=2)
    expected = (colours[:, :2] + 0.5) / torch.tensor([height, width])
    torch.testing.assert_close(coordinates, expected, rtol=0, atol=0.02)


def test_rotation_is_relative_and_keeps_lengths():
    states = torch.randn(5, HEADS, 8)
    a, b = torch.rand(5, 2) * 6, torch.rand(5, 2) * 6
    rotated = module.apply_rotary(states, a)
    torch.testing.assert_close(rotated.norm(dim=-1), states.norm(dim=-1))
    other = torch.randn(5, HEADS, 8)
    scores = (module.apply_rotary(states, a) * module.apply_rotary(other, b)).sum(-1)
    shifted = (module.apply_rotary(states, a + 3) * module.apply_rotary(other, b + 3)).sum(-1)
    torch.testing.assert_close(scores, shifted, rtol=1e-4, atol=1e-4)


def test_every_weight_receives_a_gradient():
    encoder = make_encoder()
    features, grid = images((4, 4), (2, 6))
    encoder(features, grid, [0, 0]).sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in encoder.parameters())


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"num_comparison_tokens": 0}, "num_comparison_tokens is 0"),
        ({"comparison_num_heads": 7}, "does not divide"),
        ({"comparison_position_encoding": "sine"}, "'sine', expected one of"),
        ({"comparison_position_ids": "row"}, "'row', expected one of"),
        ({"comparison_num_heads": 640, "comparison_position_encoding": "rope2d"}, "divisible by 4"),
    ],
)
def test_wrong_options_are_named(options, match):
    with pytest.raises(ValueError, match=match):
        AdCopilotConfig(vision_config={"hidden_size": 1280, "num_heads": 16}, **options)


def test_full_width_sizes():
    """At 7B: 1280 wide, 16 heads by default, 64 M weights."""
    config = AdCopilotConfig(
        text_config={"hidden_size": 3584}, vision_config={"hidden_size": 1280, "intermediate_size": 3420}
    )
    with torch.device("meta"):
        encoder = ComparisonEncoder(config=config)
    assert config.comparison_num_heads == 16
    assert sum(weight.numel() for weight in encoder.parameters()) == 63_825_704
    assert encoder.comparison_queries.weight.shape == (100, 1280)
    assert encoder.projector.weight.shape == (3584, 1280)
