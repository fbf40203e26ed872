"""A transformers that breaks an assumption of ours gives an error, never an answer without the comparison.

Each test is a transformers that does not exist (or did: 5.18 encodes images before the model sees them).
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig

from adcopilot.model import modeling
from adcopilot.model.positions import window_order

from .conftest import encode

pytestmark = pytest.mark.forward

GRIDS = st.lists(
    st.tuples(st.integers(1, 2), st.integers(1, 20), st.integers(1, 20)).map(lambda g: [g[0], 2 * g[1], 2 * g[2]]),
    min_size=1,
    max_size=4,
)


@settings(max_examples=60, deadline=None)
@given(grid=GRIDS)
def test_window_order_is_upstreams(model, grid):
    visual, grid = model.model.visual, torch.tensor(grid)
    try:
        from transformers.vision_utils import get_vision_window_index
    except ImportError:  # up to 5.16 it is a method
        expected, _ = visual.get_window_index(grid)
    else:
        names = ("spatial_merge_size", "window_size", "patch_size")
        expected, _ = get_vision_window_index(grid, **{name: getattr(visual, name) for name in names}, kwargs={})
    assert torch.equal(window_order(grid, config=visual.config), torch.as_tensor(expected))


@pytest.fixture
def inputs(processor, conversations):
    return encode(processor, [conversations[0]])


def generate(model, inputs, **options):
    return model.generate(**inputs, max_new_tokens=2, do_sample=False, eos_token_id=None, **options)


@pytest.mark.parametrize("beams", [1, 2])
def test_generate_loses_the_pixels(model, inputs, monkeypatch, beams):
    prepare = type(model).prepare_inputs_for_generation

    def without_pixels(self, *args, **kwargs):
        return {**prepare(self, *args, **kwargs), "pixel_values": None}

    monkeypatch.setattr(type(model), "prepare_inputs_for_generation", without_pixels)
    with pytest.raises(ValueError, match="passes comparison tokens on without their pixel_values"):
        generate(model, inputs, num_beams=beams)


def test_generate_encodes_images_by_itself(model, inputs, monkeypatch):
    """As from 5.18 on for models that say that they take it; older ones are given what it would pass."""
    own, _ = model.model.encode_images(inputs["pixel_values"], inputs["image_grid_thw"])
    encoded = {"image": type("Output", (), {"pooler_output": own.split(6)})()}
    without = {name: value for name, value in inputs.items() if name != "pixel_values"}
    with pytest.raises(ValueError, match="mm_encoder_outputs"):
        model.model(**without, mm_encoder_outputs=encoded)
    with pytest.raises(ValueError, match="mm_encoder_outputs"):
        model.model(**inputs, mm_encoder_outputs=encoded)
    if hasattr(type(model).__mro__[1], "_supports_mm_encoder_outputs"):
        monkeypatch.setattr(type(model), "_supports_mm_encoder_outputs", lambda self: True)
        with pytest.raises(ValueError, match="mm_encoder_outputs"):
            generate(model, inputs)


@pytest.mark.parametrize("name", ["_expand_inputs_for_generation", "get_rope_index", "get_image_features"])
def test_what_is_overridden_is_gone(model, monkeypatch, name):
    """Renamed upstream, so that ours would never be called; beams' pixels would be repeated in the wrong order."""
    for upstream in type(model).__mro__[1:] + type(model.model).__mro__[1:]:
        if name in vars(upstream):
            monkeypatch.delattr(upstream, name)
    with torch.device("meta"), pytest.raises(RuntimeError, match=rf"has no Qwen2_5_VL\w+\.{name}"):
        type(model)(model.config)


@pytest.mark.parametrize("where", ["argument", "configuration", "model"])
def test_the_prompt_comes_in_pieces(model, inputs, monkeypatch, where):
    """`prefill_chunk_size` cuts between an image and its comparison tokens; with the last token alone in the second
    piece, transformers 4 answered from other positions."""
    size = inputs["input_ids"].shape[1] - 1
    settings = {"prefill_chunk_size": size}
    if where == "configuration":
        settings = {"generation_config": GenerationConfig(**settings)}
    elif where == "model":
        monkeypatch.setattr(model.generation_config, "prefill_chunk_size", settings.pop("prefill_chunk_size"))
    with pytest.raises(ValueError, match=f"prefill_chunk_size is {size}, but the prompt has images"):
        generate(model, inputs, **settings)


def test_the_tower_works_in_another_order(model, processor, conversations, monkeypatch):
    inputs = encode(processor, [conversations[3]])  # of several windows
    monkeypatch.setattr(modeling, "window_order", lambda grid, config: torch.arange(int(grid.prod(-1).sum()) // 4))
    with pytest.raises(RuntimeError, match="merges an image's patches in another order"):
        model(**inputs)


@pytest.mark.parametrize("calls", [0, 2])
def test_the_merger_is_called_otherwise(model, inputs, monkeypatch, calls):
    merger = type(model.model.visual.merger)

    def call(self, *args, **kwargs):
        results = [torch.nn.Module.__call__(self, *args, **kwargs) for _ in range(calls)]
        return results[0] if results else self.forward(*args, **kwargs)

    monkeypatch.setattr(merger, "__call__", call)
    with pytest.raises(RuntimeError, match="merges an image's patches in another order"):
        model(**inputs)


def test_the_towers_order_is_checked_with_what_is_not_a_number(model, inputs):
    """Weights that are not finite are another mistake, which whoever reads the logits names."""
    inputs["pixel_values"] = inputs["pixel_values"].clone()
    inputs["pixel_values"][0, 0] = torch.nan
    with torch.no_grad():
        assert model(**inputs).logits.isnan().any()


@pytest.mark.parametrize("name", ["get_rope_index", "get_image_features"])
def test_a_method_is_gone(model, inputs, monkeypatch, name):
    monkeypatch.delattr(type(model.model).__mro__[1], name)
    with pytest.raises(AttributeError):
        generate(model, inputs)


def test_positions_come_from_elsewhere(model, inputs):
    """Of an upstream that no longer calls `get_rope_index`: comparison tokens would stand where text does."""
    length = inputs["input_ids"].shape[1]
    positions = torch.arange(length).expand(3, 1, length)
    for given_ids in (positions, positions[0], torch.cat([positions[:1], positions])):  # the last: of the text first
        with pytest.raises(ValueError, match="positions that are not those of `get_rope_index`"):
            model(**inputs, position_ids=given_ids)


def test_an_image_is_at_another_time(model, inputs, monkeypatch):
    """As in 5.3 to 5.5.3, which gave still images times of their own: answers of another model, and no word."""
    upstream = type(model.model).__mro__[1]
    get = upstream.get_rope_index

    def get_other_times(self, *args, **kwargs):
        positions, deltas = get(self, *args, **kwargs)
        positions[0] *= 4
        return positions, deltas

    monkeypatch.setattr(upstream, "get_rope_index", get_other_times)
    with pytest.raises(RuntimeError, match="begins an image's positions at another time than row and column"):
        generate(model, inputs)


def test_comparison_tokens_without_images(model, inputs):
    """Called directly, as some training loops do with a batch whose images were filtered out."""
    text = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    for call in (lambda: model(**text), lambda: generate(model, text)):
        with pytest.raises(ValueError, match="passes comparison tokens on without their pixel_values"):
            call()
