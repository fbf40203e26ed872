"""One conversation has the same logits whichever way LlamaFactory feeds it: alone, in a batch, packed."""

import copy
from itertools import pairwise

import pytest
import torch
from PIL import Image

from .conftest import encode
from .test_template import chat_text

pytestmark = pytest.mark.forward

CLOSE = {"rtol": 0, "atol": 3e-4}  # float32 noise of logits around 10; a wrong pairing shows at 1e-2


def collator(lf, model, encoder, **settings):
    from llamafactory.data import SFTDataCollatorWith4DAttentionMask

    packed = bool(encoder.data_args.neat_packing)
    return SFTDataCollatorWith4DAttentionMask(
        template=encoder.template,
        tokenizer=lf.tokenizer,
        processor=lf.processor,
        model=model,
        pad_to_multiple_of=8,
        label_pad_token_id=-100,
        block_diag_attn=packed,
        neat_packing=packed,
        attn_implementation=model.config._attn_implementation,
        compute_dtype=torch.float32,
        **settings,
    )


def rows(encoded: dict[str, list]) -> list[dict]:
    return [dict(zip(encoded, values, strict=True)) for values in zip(*encoded.values(), strict=True)]


def forward(model, batch) -> torch.Tensor:
    batch = {key: value for key, value in batch.items() if key != "labels" and value is not None}
    with torch.no_grad():
        return model(**batch).logits


@pytest.fixture(scope="module")
def expected(lf, model, samples):
    """Logits of each conversation by itself, through our processor, without LlamaFactory."""
    result = []
    for one in samples:
        images = [Image.open(path) for path in one["_images"] or []]
        inputs = lf.processor(text=[chat_text(lf.processor, one)], images=images or None, return_tensors="pt")
        result.append(forward(model, inputs)[0])
    return result


def test_collator_one_by_one(lf, model, samples, expected):
    """The text-only conversation comes with LlamaFactory's dummy image behind it."""
    encoder = lf.encoder()
    for one, logits in zip(samples, expected, strict=True):
        batch = collator(lf, model, encoder)(rows(encode(encoder, one)))
        assert "pixel_values" in batch
        torch.testing.assert_close(forward(model, batch)[0, : len(logits)], logits, **CLOSE)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 0, 1), (2, 2)])
def test_collator_batch(lf, model, samples, expected, order):
    encoder = lf.encoder()
    batch = collator(lf, model, encoder)(rows(encode(encoder, *(samples[index] for index in order))))
    found = forward(model, batch)
    for row, index in zip(found, order, strict=True):
        torch.testing.assert_close(row[: len(expected[index])], expected[index], **CLOSE)


def packed_logits(lf, model, *samples) -> dict[tuple[int, ...], torch.Tensor]:
    """Logits of each conversation of one packed row, by its ids (the packer chooses the order)."""
    lengths = [len(ids) for ids in encode(lf.encoder(), *samples)["input_ids"]]
    row = (sum(lengths) // 8 + 2) * 8  # some padding, and a multiple of 8 (data_checks.check_packing)
    encoder = lf.encoder(packing=True, neat_packing=True, cutoff_len=row)
    encoded = rows(encode(encoder, *samples))
    assert len(encoded) == 1
    bounds = encoded[0]["packing_params"]["sequence_boundaries"]
    batch = collator(lf, model, encoder)(copy.deepcopy(encoded))
    logits = forward(model, batch)[0]
    ids = batch["input_ids"][0].tolist()
    return {tuple(ids[start:end]): logits[start:end] for start, end in pairwise(bounds)}


def test_packed_row_equals_single_conversations(lf, model, samples, expected):
    found = packed_logits(lf, model, *samples)
    for ids, logits in zip(encode(lf.encoder(), *samples)["input_ids"], expected, strict=True):
        torch.testing.assert_close(found[tuple(ids)], logits, **CLOSE)


def test_packed_conversations_do_not_see_each_others_images(lf, model, samples, image_files):
    """Other pictures in one conversation of a packed row leave the other's logits alone."""
    before = packed_logits(lf, model, samples[0], samples[1])
    other = {**samples[0], "_images": [image_files[1], image_files[0]]}
    after = packed_logits(lf, model, other, samples[1])
    changed, same = encode(lf.encoder(), samples[0], samples[1])["input_ids"]
    assert torch.equal(before[tuple(same)], after[tuple(same)])
    assert (before[tuple(changed)] - after[tuple(changed)]).abs().max() > 1e-2


def test_training_touches_the_comparison_encoder_without_images(lf, model, samples):
    """Under ZeRO-3 ranks hang where one has images and another has not, unless both run the encoder."""
    encoder = lf.encoder()
    batch = collator(lf, model, encoder)(rows(encode(encoder, samples[2])))
    touched = []
    handle = model.comparison_encoder.register_forward_hook(lambda *_: touched.append(True))
    forward(model, batch)
    handle.remove()
    assert touched
