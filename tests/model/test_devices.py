"""One model over two cards, as `device_map="auto"` spreads it: claimed devices on a CPU, and real cards where there
are two. Stock Qwen2.5-VL goes through the same harness."""

import pytest
import torch

from adcopilot.model import AdCopilotForConditionalGeneration

from .claimed_devices import claimed_devices, placed
from .conftest import encode

pytestmark = pytest.mark.forward

ENCODER = "model.comparison_encoder"


def split(layers: int, first: int, *, visual=0, encoder=1, embed=0, norm=1, head=1) -> dict[str, int]:
    """The language model's layers from `first` on the second card, the rest on the first; other modules by name."""
    where = {"model.visual": visual, "model.language_model.embed_tokens": embed}
    where |= {f"model.language_model.layers.{layer}": int(layer >= first) for layer in range(layers)}
    where |= {"model.language_model.norm": norm, "model.language_model.rotary_emb": norm}
    return where | {ENCODER: encoder, "lm_head": head}


LAYERS = 3
SPLITS = {
    # what infer_auto_device_map makes of the 7B on two equal cards
    "auto": split(LAYERS, 1),
    "encoder first": split(LAYERS, 1, encoder=0),
    "visual first, rest second": split(LAYERS, 0, embed=1),
    "visual second": split(LAYERS, 1, visual=1, encoder=0),
    "visual and encoder second": split(LAYERS, LAYERS, visual=1, norm=0, head=0),
    "only the encoder second": split(LAYERS, LAYERS, norm=0, head=0),
    "head elsewhere": split(LAYERS, LAYERS, encoder=0, norm=0),
    "layers first, embeddings second": split(LAYERS, LAYERS, embed=1, norm=0, head=0, encoder=0),
}


def test_the_small_model_has_the_layers_that_are_split(model):
    assert len(model.model.language_model.layers) == LAYERS


def on(device, inputs):
    return {name: value.to(device) for name, value in inputs.items()}


@pytest.fixture(scope="module")
def spread(model, base_model):
    """(model or the stock one, map, function) → what the function gives for it, spread over two claimed cards."""

    def run(name, device_map, function, *, inputs, **options):
        chosen = model if name == "ours" else base_model
        if name == "stock":
            inputs = {key: value for key, value in inputs.items() if key != "mm_token_type_ids"}
            device_map = {key: device for key, device in device_map.items() if key != ENCODER}
        with claimed_devices() as claims, torch.set_grad_enabled(options.pop("gradients", False)):
            with placed(chosen, device_map, claims):
                result = function(chosen, inputs, **options)
            chosen.model.rope_deltas = None  # kept by upstream, and claimed
            return result

    return run


def forward(model, inputs, device="cuda:0"):
    return model(**on(device, inputs)).logits


GENERATIONS = {"greedy": {}, "beams": {"num_beams": 3, "num_return_sequences": 2}}


def generate(model, inputs, device="cuda:0", **options):
    settings = {"max_new_tokens": 3, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    return model.generate(**on(device, inputs), **settings, **options)


@pytest.fixture(scope="module")
def inputs(processor, conversations):
    """All conversations in one batch: two images, one, none, three."""
    return encode(processor, conversations)


@pytest.mark.parametrize("name", SPLITS)
def test_forward(model, spread, inputs, name):
    with torch.no_grad():
        expected = model(**inputs).logits
    assert torch.equal(spread("ours", SPLITS[name], forward, inputs=inputs), expected)


@pytest.mark.parametrize("name", SPLITS)
def test_forward_of_the_stock_model_is_the_control(spread, inputs, name):
    """What the harness asks of us it asks of Qwen2.5-VL too, whose pads are the images' own here."""
    assert spread("stock", SPLITS[name], forward, inputs=inputs).isfinite().all()


@pytest.mark.parametrize("way", GENERATIONS)
@pytest.mark.parametrize("name", ["auto", "visual and encoder second"])
def test_generation(model, spread, inputs, name, way):
    with torch.no_grad():
        expected = generate(model, inputs, "cpu", **GENERATIONS[way])
    model.model.rope_deltas = None
    assert spread("ours", SPLITS[name], generate, inputs=inputs, **GENERATIONS[way]).tolist() == expected.tolist()


@pytest.mark.parametrize("way", GENERATIONS)
def test_generation_of_the_stock_model_is_the_control(spread, inputs, way):
    assert spread("stock", SPLITS["auto"], generate, inputs=inputs, **GENERATIONS[way]).shape[0] in (4, 8)


@pytest.mark.parametrize("name", ["auto", "only the encoder second"])
def test_inputs_on_the_cpu(model, spread, inputs, name):
    """LlamaFactory and pipelines may leave inputs where the tokenizer made them; the outermost hook moves them."""
    with torch.no_grad():
        expected = model(**inputs).logits
    assert torch.equal(spread("ours", SPLITS[name], forward, inputs=inputs, device="cpu"), expected)


def test_a_mixed_operation_is_seen():
    """The control of the harness itself."""
    with claimed_devices():
        first, second = torch.ones(3, 2, device="cuda:0"), torch.ones(3, 2).to("cuda:1")
        assert (first.device, second.device) == (torch.device("cuda:0"), torch.device("cuda:1"))
        assert (second[:, 0] * 2 + torch.tensor(1.0)).device == torch.device("cuda:1")
        for mixed in (
            lambda: first + second,
            lambda: torch.cat([first, torch.ones(3, 2)]),
            lambda: first.masked_scatter(first > 0, second),
            lambda: first.masked_scatter(second > 0, first),
            lambda: first[torch.arange(2, device="cuda:1")],
            lambda: torch.nn.functional.embedding(torch.zeros(2, dtype=torch.long), first),
        ):
            with pytest.raises(RuntimeError, match="same device"):
                mixed()
        assert torch.equal(first[torch.arange(2)], torch.ones(2, 2, device="cuda:0"))


def test_the_encoder_is_never_split(model):
    """Its parts add to one another, which no hook between modules could reach."""
    assert "ComparisonEncoder" in model._no_split_modules
    assert "ComparisonEncoder" in model.model._no_split_modules


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two cards")
def test_two_real_cards(model, adcopilot_dir, inputs):
    with torch.no_grad():
        expected = model(**inputs).logits
        for device_map in SPLITS.values():
            real = AdCopilotForConditionalGeneration.from_pretrained(
                adcopilot_dir, dtype=torch.float32, device_map=device_map
            )
            real.load_state_dict(model.state_dict())
            found = real(**on("cuda:0", inputs)).logits.cpu()
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)
            tokens = generate(real, inputs)
            assert tokens.tolist() == generate(model, inputs, "cpu").tolist()
