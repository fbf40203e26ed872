"""The tower's windows in batches: the numbers of upstream's loop over windows, to the last bit, in fewer calls."""

import pytest
import torch
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

from adcopilot.model.vision import VisionAttention, Windows

pytestmark = pytest.mark.forward

SHAPES = {"depth": 3, "hidden_size": 32, "num_heads": 2, "intermediate_size": 48, "out_hidden_size": 24}


def tower(implementation: str, dtype: torch.dtype):
    config = Qwen2_5_VLVisionConfig(**SHAPES, window_size=112, fullatt_block_indexes=[1])
    config._attn_implementation = implementation
    torch.manual_seed(0)
    return Qwen2_5_VisionTransformerPretrainedModel._from_config(config).eval().to(dtype)


def with_batches(stock):
    """The same weights under our attention."""
    ours = tower(stock.config._attn_implementation, stock.dtype)
    ours.load_state_dict(stock.state_dict())
    for block in ours.blocks:
        attention = VisionAttention(ours.config).to(stock.dtype).eval()
        attention.load_state_dict(block.attn.state_dict())
        block.attn = attention
    return ours


def tokens(model, pixels, grid):
    found = model(pixels, grid)
    return getattr(found, "pooler_output", found)  # an object in transformers 5


#: Whole windows; windows cut at one edge and at both; less than a window; several images.
GRIDS = ([[1, 16, 16]], [[1, 18, 16]], [[1, 20, 30]], [[1, 4, 6]], [[1, 10, 8], [1, 18, 22], [1, 8, 8]])


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_bit_for_bit(grid, dtype, implementation):
    stock = tower(implementation, dtype)
    ours, grid = with_batches(stock), torch.tensor(grid)
    pixels = torch.randn(int(grid.prod(-1).sum()), 1176).to(dtype)
    with torch.no_grad():
        assert torch.equal(tokens(ours, pixels, grid), tokens(stock, pixels, grid))


def test_gradients():
    stock = tower("sdpa", torch.float32)
    ours, grid = with_batches(stock), torch.tensor([[1, 18, 22], [1, 8, 8]])
    pixels = torch.randn(int(grid.prod(-1).sum()), 1176)
    for model in (stock, ours):
        tokens(model, pixels, grid).square().sum().backward()
    for (name, expected), found in zip(stock.named_parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, atol=1e-5, rtol=1e-4, msg=name)


def test_groups():
    windows = Windows.of(torch.tensor([0, 4, 6, 10, 12, 13]))
    assert windows.groups == [(1, 1), (2, 2), (4, 2)]
    assert windows.order.tolist() == [12, 4, 5, 10, 11, 0, 1, 2, 3, 6, 7, 8, 9]
    assert windows.order[windows.back].tolist() == list(range(13))
    alike = Windows.of(torch.tensor([0, 4, 8], dtype=torch.int32))
    assert (alike.groups, alike.order, alike.back) == ([(4, 2)], None, None)


def test_few_calls(monkeypatch):
    """As many as there are lengths, however many windows; lengths are read once a forward."""
    calls, read = [], []
    kernel, of = torch.nn.functional.scaled_dot_product_attention, Windows.of.__func__
    monkeypatch.setattr(
        torch.nn.functional, "scaled_dot_product_attention", lambda *a, **k: calls.append(1) or kernel(*a, **k)
    )
    monkeypatch.setattr(Windows, "of", classmethod(lambda cls, ends: read.append(1) or of(cls, ends)))
    ours, grid = with_batches(tower("sdpa", torch.float32)), torch.tensor([[1, 44, 44]] * 2)
    with torch.no_grad():
        ours(torch.randn(int(grid.prod(-1).sum()), 1176), grid)
    assert len(calls) == 2 * 3 + 1  # two layers with whole, cut and corner windows; one over the whole images
    assert len(read) == 2
