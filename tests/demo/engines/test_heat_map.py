"""The comparison tokens' attention: equal to a computation written out by hand, at the right place of the picture."""

import numpy as np
import pytest
import torch
from PIL import Image

from adcopilot.anomaly_map.comparing import AnomalyMap
from adcopilot.demo.colours import draw_heat
from adcopilot.demo.engines.heat_map import WatchedAttention, watch
from adcopilot.drawing import draw_map
from adcopilot.inspect import Question

from ...inspect.conftest import inspector, part  # noqa: F401 - the first is a fixture


def asked(inspector, *images):  # noqa: F811
    with watch(inspector.model) as seen:
        [result] = inspector.ask([Question(templates=images[:-1], query=images[-1], text="Is there a defect?")])
    return seen, result


def test_weights_equal_attention_written_out(inspector):  # noqa: F811
    """Through torch's own attention with the identity as values, whose output is the weights."""
    attention = inspector.model.comparison_encoder.query_block.cross_attention
    inputs = []
    handle = attention.register_forward_pre_hook(lambda _, given: inputs.append(given))
    seen, result = asked(inspector, part(1), part(2), part(3, size=(120, 90), defect=True))
    handle.remove()
    [(queries, keys, query_lengths, key_lengths, at_queries, at_keys)] = inputs
    last = key_lengths[-1]
    width, height = inspector.model_size((120, 90))
    assert last == (width // 14) * (height // 14)
    assert len(key_lengths) == 3
    with torch.no_grad():
        from adcopilot.model.comparison_encoder import apply_rotary

        q = attention.q_proj(queries[-query_lengths[-1] :]).unflatten(-1, (attention.num_heads, -1))
        k = attention.k_proj(keys[-last:]).unflatten(-1, (attention.num_heads, -1))
        assert at_queries is not None, "the small model has rotary positions, or half of this is not tested"
        q, k = apply_rotary(q, at_queries[-query_lengths[-1] :]), apply_rotary(k, at_keys[-last:])
        identity = torch.eye(last).expand(attention.num_heads, -1, -1)
        weights = torch.nn.functional.scaled_dot_product_attention(
            q.transpose(0, 1), k.transpose(0, 1), identity, scale=attention.scaling
        )
    assert torch.allclose(seen.weights, weights.mean((0, 1)), atol=1e-6)
    assert float(seen.weights.sum()) == pytest.approx(1, abs=1e-5)
    assert float(seen.weights.std()) > 0
    assert result.size == (120, 90)


def test_answers_are_the_same_when_watched(inspector):  # noqa: F811
    pair = part(1), part(2, defect=True)
    [alone] = inspector.inspect_many([pair])
    _, watched = asked(inspector, *pair)
    inspector_question = inspector.question
    with watch(inspector.model):
        [again] = inspector.inspect_many([pair])
    assert again == alone
    assert inspector.question == inspector_question
    assert not inspector.model.comparison_encoder.query_block.cross_attention._forward_pre_hooks
    assert watched.size == alone.size


def test_a_model_without_comparison_tokens_has_no_map():
    with watch(torch.nn.Linear(2, 2)) as seen:
        pass
    assert seen.weights is None


def test_the_grid_undoes_the_order_of_the_image_processor():
    """The processor lists patches square by square, 2×2 in each."""
    rows, columns = 4, 6
    wanted = np.arange(rows * columns).reshape(rows, columns)
    listed = [
        wanted[2 * y + dy, 2 * x + dx]
        for y in range(rows // 2)
        for x in range(columns // 2)
        for dy in range(2)
        for dx in range(2)
    ]
    seen = WatchedAttention(weights=torch.tensor(listed))
    assert np.array_equal(seen.grid((columns * 14, rows * 14), patch_size=14, merge_size=2), wanted)


def test_the_strongest_patch_is_red_where_it_lies():
    grid = np.zeros((4, 8), dtype=np.float32)
    grid[1, 6] = 1
    drawn = np.asarray(draw_heat(Image.new("RGB", (160, 80), (128, 128, 128)), grid)).astype(int)
    red = drawn[..., 0] - drawn[..., 2]
    y, x = np.argwhere(red == red.max()).mean(axis=0)
    assert (int(y // 20), int(x // 20)) == (1, 6)
    assert drawn[70, 10].tolist() == [70, 70, 70]  # nothing there: the darkened picture alone


def test_the_colours_mean_the_same_in_every_picture():
    """An even attention has no red in it, and a patch of twice an even share is as yellow as the map's threshold."""
    grey = Image.new("RGB", (160, 80), (128, 128, 128))
    flat = np.asarray(draw_heat(grey, np.ones((4, 8), dtype=np.float32))).astype(int)
    assert (flat == flat[0, 0]).all()
    assert flat[0, 0, 0] < 140
    twice = np.ones((4, 8), dtype=np.float32)
    twice[:, :4], twice[:, 4:] = 2, 1e-9
    yellow = np.asarray(draw_heat(grey, twice)).astype(int)[40, 10]
    found = AnomalyMap(values=np.full((4, 8), 0.3, np.float32), size=(160, 80), pred_score=0.9)
    assert np.abs(np.asarray(draw_map(grey, found, threshold=0.3)).astype(int)[40, 10] - yellow).max() <= 1
