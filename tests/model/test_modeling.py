"""The model against stock Qwen2.5-VL, and one conversation against itself in every way it can be fed."""

import pytest
import torch

from adcopilot.model import AdCopilotForConditionalGeneration
from adcopilot.model.positions import window_order

from .conftest import TRANSFORMERS_5, chat, encode, random_image

pytestmark = pytest.mark.forward

# Sums in another order differ in the last digits of float32; a wrong pair or position shows above 1e-2.
CLOSE = {"rtol": 0, "atol": 2e-4}


@pytest.fixture(params=[True, False], ids=["first compared", "first not compared"])
def of_first(request, model, processor, monkeypatch):
    """Both values of `comparison_of_first`."""
    for owner in (model.config, processor):
        monkeypatch.setattr(owner, "comparison_of_first", request.param)
    return request.param


def logits_of(model, processor, conversation):
    with torch.no_grad():
        return model(**encode(processor, [conversation])).logits[0]


def without_comparison_tokens(inputs, config):
    keep = inputs["input_ids"][0] != config.comparison_token_id
    per_token = ("input_ids", "attention_mask", "mm_token_type_ids")
    return {name: value[:, keep] if name in per_token else value for name, value in inputs.items()}


def test_logits_without_comparison_tokens_equal_qwen(model, base_model, processor, conversations):
    for conversation in conversations:
        inputs = without_comparison_tokens(encode(processor, [conversation]), model.config)
        with torch.no_grad():
            assert torch.equal(model(**inputs).logits, base_model(**inputs).logits)


def test_comparison_tokens_change_logits(model, processor, conversations):
    with torch.no_grad():
        inputs = encode(processor, [conversations[0]])
        changed = model(**inputs).logits[0, -1]
        plain = model(**without_comparison_tokens(inputs, model.config)).logits[0, -1]
    assert (changed - plain).abs().max() > 1e-2


def test_own_tokens_of_images_are_unchanged(model, base_model, processor, conversations):
    inputs = encode(processor, [conversations[3]])
    with torch.no_grad():
        own, _ = model.model.encode_images(inputs["pixel_values"], inputs["image_grid_thw"])
        expected = base_model.model.get_image_features(inputs["pixel_values"], inputs["image_grid_thw"])
    expected = getattr(expected, "pooler_output", expected)  # an object in transformers 5
    assert torch.equal(own, torch.cat(tuple(expected)))


def test_features_are_the_patch_mergers_input_in_image_order(model, processor, conversations):
    """Merging the features ourselves gives the images' own tokens: they are in the processor's order, not in the
    tower's window order."""
    inputs = encode(processor, [conversations[3]])
    visual = model.model.visual
    order = window_order(inputs["image_grid_thw"], config=visual.config)
    assert not torch.equal(order, torch.arange(len(order))), "the images are too small to have more than one window"
    with torch.no_grad():
        own, features = model.model.encode_images(inputs["pixel_values"], inputs["image_grid_thw"])
        torch.testing.assert_close(visual.merger(features), own, **CLOSE)


@pytest.mark.usefixtures("of_first")
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 0)])
def test_batch_equals_single(model, processor, conversations, order):
    """Conversations of different lengths and numbers of images, left padded, one of them text only; an image would be
    paired with another conversation's last image if pairs crossed rows."""
    conversations = [conversations[index] for index in order]
    with torch.no_grad():
        batch = model(**encode(processor, conversations)).logits
    for row, conversation in zip(batch, conversations, strict=True):
        single = logits_of(model, processor, conversation)
        torch.testing.assert_close(row[-len(single) :], single, **CLOSE)


@pytest.mark.usefixtures("of_first")
def test_packed_row_equals_singles(model, processor, conversations):
    singles = [encode(processor, [conversation]) for conversation in conversations]
    positions = [
        model.model.get_rope_index(one["input_ids"], one.get("image_grid_thw"), attention_mask=one["attention_mask"])[
            0
        ]
        for one in singles
    ]
    lengths = [one["input_ids"].shape[1] for one in singles]
    sequence = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    allowed = (sequence[:, None] == sequence) & torch.ones(len(sequence), len(sequence), dtype=torch.bool).tril()
    mask = torch.zeros(1, 1, len(sequence), len(sequence)).masked_fill(~allowed, torch.finfo(torch.float32).min)
    positions = torch.cat(positions, dim=-1)
    with torch.no_grad():
        packed = model(
            input_ids=torch.cat([one["input_ids"] for one in singles], dim=1),
            attention_mask=mask,
            position_ids=torch.cat([positions[:1], positions]),  # text positions first, as LlamaFactory gives them
            pixel_values=torch.cat([one["pixel_values"] for one in singles if "pixel_values" in one]),
            image_grid_thw=torch.cat([one["image_grid_thw"] for one in singles if "image_grid_thw" in one]),
            use_cache=False,
        ).logits[0]
    for part, conversation in zip(packed.split(lengths), conversations, strict=True):
        torch.testing.assert_close(part, logits_of(model, processor, conversation), **CLOSE)


def test_a_first_image_that_is_not_compared(model, base_model, processor, conversations, monkeypatch):
    """An image alone is then Qwen2.5-VL's, bit for bit; of several, only those after it are compared."""
    for owner in (model.config, processor):
        monkeypatch.setattr(owner, "comparison_of_first", False)
    alone = encode(processor, [conversations[1]])
    with torch.no_grad():
        assert torch.equal(model(**alone).logits, base_model(**alone).logits)

    asked = []
    handle = model.comparison_encoder.register_forward_pre_hook(lambda _, given: asked.append(given[2:]))
    try:
        logits_of(model, processor, conversations[3])
        query = random_image(9)  # the same picture twice is compared with itself all the same
        logits_of(model, processor, (chat(processor, (2, "Compare.")), [query, query]))
    finally:
        handle.remove()
    assert asked == [([0, 0, 1], [1, 2]), ([0, 0], [1])]


@pytest.mark.parametrize("of_model", [True, False])
def test_a_processor_that_was_told_otherwise(model, processor, conversations, monkeypatch, of_model):
    monkeypatch.setattr(model.config, "comparison_of_first", of_model)
    monkeypatch.setattr(processor, "comparison_of_first", not of_model)
    says = "3 images need 15" if of_model else "2 of 3 images, those after the first of each conversation, need 10"
    with pytest.raises(ValueError, match=f"^{says} comparison tokens .* has (10|15): .*comparison_of_first"):
        logits_of(model, processor, conversations[3])


@pytest.mark.usefixtures("of_first")
def test_same_query_after_two_templates(model, processor):
    query = random_image(9)
    text = chat(processor, (2, "Is there a defect?"))
    a, b = (logits_of(model, processor, (text, [random_image(seed), query])) for seed in (7, 8))
    inputs = encode(processor, [(text, [random_image(7), query])])
    query_tokens = (inputs["input_ids"][0] == model.config.comparison_token_id).nonzero()[-5:, 0]
    assert (a - b)[query_tokens].abs().max() > 1e-2


@pytest.mark.usefixtures("of_first")
def test_later_turn_pairs_with_the_last_image_of_the_earlier_turn(model, processor):
    images = [random_image(seed) for seed in range(3)]
    inputs = encode(processor, [(chat(processor, (2, "Is there a defect?"), (1, "And here?")), images)])
    with torch.no_grad():
        inferred = model(**inputs).logits
        chained = model(**inputs, previous_image=[0, 0, 1]).logits
        alone = model(**inputs, previous_image=[0, 0, 2]).logits
    assert torch.equal(inferred, chained)
    assert not torch.allclose(inferred[0, -1], alone[0, -1], atol=1e-3)


@pytest.mark.usefixtures("of_first")
def test_greedy_generation_with_cache_equals_recomputing(model, processor, conversations):
    inputs = encode(processor, [conversations[0]])
    length = inputs["input_ids"].shape[1]
    with torch.no_grad():
        cached = model.generate(**inputs, max_new_tokens=6, do_sample=False, eos_token_id=None)[0, length:]
        rest = {name: inputs[name] for name in ("pixel_values", "image_grid_thw")}
        ids = inputs["input_ids"]
        suppressed = model.generation_config.suppress_tokens
        for _ in range(6):
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, **rest).logits[:, -1]
            logits[:, suppressed] = -torch.inf
            ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], dim=1)
    assert ids[0, length:].tolist() == cached.tolist()


def test_images_are_encoded_once_per_generation(model, processor, conversations, monkeypatch):
    calls = []
    encode_images = type(model.model).encode_images
    monkeypatch.setattr(
        type(model.model), "encode_images", lambda self, *args: calls.append(1) or encode_images(self, *args)
    )
    model.generate(**encode(processor, [conversations[0]]), max_new_tokens=4, do_sample=False, eos_token_id=None)
    assert len(calls) == 1


@pytest.mark.usefixtures("of_first")
def test_batched_generation_equals_single(model, processor, conversations):
    with torch.no_grad():
        inputs = encode(processor, conversations)
        batch = model.generate(**inputs, max_new_tokens=5, do_sample=False, eos_token_id=None)[:, -5:]
        for row, conversation in zip(batch, conversations, strict=True):
            inputs = encode(processor, [conversation])
            single = model.generate(**inputs, max_new_tokens=5, do_sample=False, eos_token_id=None)[0, -5:]
            assert row.tolist() == single.tolist()


@pytest.mark.usefixtures("of_first")
@pytest.mark.parametrize("options", [{"num_beams": 3}, {"do_sample": True, "top_k": 1}])
def test_several_return_sequences_equal_single_runs(model, processor, conversations, options):
    """Of two conversations with different numbers of images: an image must never meet a copy's conversation."""
    both = [conversations[0], conversations[3]]
    settings = {"max_new_tokens": 4, "eos_token_id": None, **options}
    with torch.no_grad():
        inputs = encode(processor, both)
        several = model.generate(**inputs, num_return_sequences=3, **settings)[:, -4:].view(2, 3, 4)
        for rows, conversation in zip(several, both, strict=True):
            single = model.generate(**encode(processor, [conversation]), num_return_sequences=3, **settings)[:, -4:]
            assert rows.tolist() == single.tolist()


def test_pads_are_never_sampled(model, processor, conversations):
    pads = [model.config.image_token_id, model.config.video_token_id, model.config.comparison_token_id]
    inputs = encode(processor, [conversations[0]])
    torch.manual_seed(0)
    out = model.generate(
        **inputs, do_sample=True, temperature=100.0, top_k=0, max_new_tokens=120, num_return_sequences=8
    )
    sampled = out[:, inputs["input_ids"].shape[1] :]
    assert len(sampled.unique()) > 200, "the temperature should make every token likely"
    assert not torch.isin(sampled, torch.tensor(pads)).any()


TRAINED = {
    "all": lambda name: True,
    "encoder": lambda name: "comparison_encoder" in name,
    "queries": lambda name: "comparison_queries" in name,
    "projector": lambda name: "comparison_encoder.projector" in name,
    "one weight of a block": lambda name: name.endswith("previous_block.cross_attention.k_proj.weight"),
    "encoder and tower": lambda name: "comparison_encoder" in name or ".visual." in name,
    "encoder and language model": lambda name: ".visual." not in name,
    "tower": lambda name: ".visual." in name,
}


@pytest.fixture(scope="module")
def trained_model(adcopilot_dir):
    return AdCopilotForConditionalGeneration.from_pretrained(adcopilot_dir, dtype=torch.float32).train()


def gradients_of(model, inputs, *, checkpointing=None):
    model.zero_grad(set_to_none=True)
    if checkpointing is None:
        model.gradient_checkpointing_disable()
    else:
        model.gradient_checkpointing_enable({"use_reentrant": checkpointing == "reentrant"})
        assert model.comparison_encoder.query_block.gradient_checkpointing
    model(**inputs, labels=inputs["input_ids"], use_cache=False).loss.backward()
    return {name: weight.grad for name, weight in model.named_parameters() if weight.requires_grad}


@pytest.mark.filterwarnings("ignore:.*checkpointing_.*able.* is deprecated:FutureWarning")
@pytest.mark.parametrize("trained", TRAINED)
@pytest.mark.parametrize("checkpointing", ["reentrant", "not reentrant"])
def test_gradient_checkpointing_gives_the_same_gradients(
    trained_model, processor, conversations, trained, checkpointing
):
    """Whatever is trained and whatever is frozen; reentrant is transformers 4's default."""
    for name, weight in trained_model.named_parameters():
        weight.requires_grad_(TRAINED[trained](name))
    inputs = encode(processor, conversations)
    expected = gradients_of(trained_model, inputs)
    found = gradients_of(trained_model, inputs, checkpointing=checkpointing)
    assert expected
    assert [name for name in expected if expected[name] is None or found[name] is None] == []
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-6, msg=name)


@pytest.mark.filterwarnings("ignore:.*checkpointing_.*able.* is deprecated:FutureWarning")
@pytest.mark.parametrize("checkpointing", ["reentrant", "not reentrant"])
def test_gradient_checkpointing_with_adapters(adcopilot_dir, processor, conversations, checkpointing):
    """LoRA in the encoder's attention beside its queries, everything else frozen."""
    peft = pytest.importorskip("peft")
    model = AdCopilotForConditionalGeneration.from_pretrained(adcopilot_dir, dtype=torch.float32)
    targets = r".*comparison_encoder.*(q_proj|k_proj|v_proj|o_proj|gate_proj)"
    config = peft.LoraConfig(r=2, target_modules=targets, modules_to_save=["comparison_queries"])
    model = peft.get_peft_model(model, config).train()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    inputs = encode(processor, conversations)
    base = model.base_model.model
    expected, found = gradients_of(base, inputs), gradients_of(base, inputs, checkpointing=checkpointing)
    assert len(expected) == 2 * 3 * 5 + 1
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-6, msg=name)
        assert gradient.abs().max() > 0


def test_trained_parts_in_float32_beside_bfloat16(adcopilot_dir, processor, conversations):
    """LlamaFactory upcasts what it trains and leaves the rest in bfloat16, not always under autocast."""
    model = AdCopilotForConditionalGeneration.from_pretrained(adcopilot_dir, dtype=torch.bfloat16)
    inputs = encode(processor, [conversations[0]])
    reference = model(**inputs).logits
    model.comparison_encoder.comparison_queries.float()
    torch.testing.assert_close(model(**inputs).logits, reference, rtol=0, atol=0)
    model.comparison_encoder.float()
    assert model(**inputs).logits.dtype == torch.bfloat16


@pytest.mark.usefixtures("of_first")
@pytest.mark.parametrize("cut", [20, 45])
def test_cut_image_tokens_are_named(model, processor, conversations, cut):
    inputs = encode(processor, [conversations[0]])
    for name in ("input_ids", "attention_mask", "mm_token_type_ids"):
        if name in inputs:
            inputs[name] = inputs[name][:, :-cut]
    with pytest.raises(ValueError, match=r"cutoff_len") as error:
        model(**inputs)
    assert "\n" not in str(error.value)


def test_images_with_a_filled_cache_are_refused(model, processor, conversations):
    inputs = encode(processor, [conversations[0]])
    cache = model(**inputs, use_cache=True).past_key_values
    with pytest.raises(ValueError, match="filled KV cache"):
        model(**inputs, past_key_values=cache)


@pytest.mark.parametrize("previous", [[0], [0, -1], [0, 2], [0, 0, 0]])
def test_a_previous_image_that_is_none(model, processor, conversations, previous):
    with pytest.raises(ValueError, match=r"previous_image is \[.*, expected 2 indices from 0 to 1"):
        model(**encode(processor, [conversations[0]]), previous_image=previous)


def test_previous_image_as_a_tensor(model, processor, conversations):
    inputs = encode(processor, [conversations[0]])
    with torch.no_grad():
        expected = model(**inputs, previous_image=[0, 0]).logits
        assert torch.equal(model(**inputs, previous_image=torch.tensor([0, 0])).logits, expected)


def test_images_whose_positions_cannot_be_told(model, processor, conversations):
    """Upstream counts them as text then, and the answer is another one."""
    inputs = encode(processor, [conversations[0]])
    ids = inputs["input_ids"]
    embeds = model.get_input_embeddings()(ids)
    others = {name: inputs[name] for name in ("attention_mask", "pixel_values", "image_grid_thw")}
    with pytest.raises(ValueError, match="without input_ids, from which their positions cannot be told"):
        model(inputs_embeds=embeds, **others)

    def generate(**given):
        return model.generate(**given, **others, max_new_tokens=3, do_sample=False)[:, -3:]

    with pytest.raises(ValueError, match="leave inputs_embeds out and pass input_ids"):
        generate(inputs_embeds=embeds)
    if TRANSFORMERS_5:  # it counts positions by the ids where there are both
        assert torch.equal(generate(inputs_embeds=embeds, input_ids=ids), generate(input_ids=ids))
    else:  # it passes the embeddings on alone
        with pytest.raises(ValueError, match="leave inputs_embeds out and pass input_ids"):
            generate(inputs_embeds=embeds, input_ids=ids)

    begin = model(input_ids=ids[:, :3], use_cache=True).past_key_values
    rest = {"input_ids": ids[:, 3:], **others, "previous_image": [0, 0]}
    with pytest.raises(ValueError, match="filled KV cache, from which their positions cannot be told"):
        model(**rest, past_key_values=begin)
    positions, _ = model.model.get_rope_index(ids, others["image_grid_thw"])
    begin = model(input_ids=ids[:, :3], use_cache=True).past_key_values
    with torch.no_grad():
        found = model(**rest, past_key_values=begin, position_ids=positions[..., 3:]).logits
        torch.testing.assert_close(found, model(**inputs).logits[:, 3:], atol=1e-3, rtol=1e-3)


@pytest.mark.usefixtures("of_first")
def test_input_embeddings_instead_of_ids(model, processor, conversations):
    inputs = encode(processor, [conversations[0]])
    ids = inputs.pop("input_ids")
    positions, _ = model.model.get_rope_index(ids, inputs["image_grid_thw"], attention_mask=inputs["attention_mask"])
    with torch.no_grad():
        expected = model(input_ids=ids, position_ids=positions, **inputs).logits
        embeds = model.get_input_embeddings()(ids)
        assert torch.equal(model(inputs_embeds=embeds, position_ids=positions, **inputs).logits, expected)
