"""Prefill, decoding, training step and peak memory of a model on one pair of images, on any device.

No tokenizer and no image files are needed: the prompt is made of token ids and random patches, laid out as the
processor does it, so that a model of any size can be measured with random weights.
"""

import time
from dataclasses import dataclass
from statistics import median

import torch
from transformers import LogitsProcessorList

from adcopilot.model.pairing import comparison_tokens_of

#: Qwen2.5-VL-Instruct of each size, as its config.json has it.
TEXT = {
    "3B": {
        "vocab_size": 151936,
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    "7B": {
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
    },
}
for text in TEXT.values():
    text |= {"max_position_embeddings": 128000, "rope_theta": 1e6}
    text |= {"rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}}
VISION = {
    size: {
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "out_hidden_size": TEXT[size]["hidden_size"],
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "window_size": 112,
        "fullatt_block_indexes": [7, 15, 23, 31],
    }
    for size in TEXT
}
#: Layers a few numbers wide, for what depends on depth, windows and tokens, and for trying a benchmark out.
NARROW = {
    "text": {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
    },
    "vision": {"hidden_size": 64, "num_heads": 4, "intermediate_size": 80, "out_hidden_size": 64},
}
#: And a few layers, one of them over whole images.
SHALLOW = {
    "text": {**NARROW["text"], "num_hidden_layers": 2},
    "vision": {**NARROW["vision"], "depth": 4, "fullatt_block_indexes": [1, 3]},
}
IDS = {
    "image_token_id": 151655,
    "video_token_id": 151656,
    "vision_start_token_id": 151652,
    "vision_end_token_id": 151653,
}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A prompt: two images of `side` x `side` pixels, `text` tokens around them, and `new` tokens to generate."""

    side: int
    text: int = 64
    new: int = 32


def random_model(name: str, size: str, *, device: torch.device, dtype: torch.dtype, text=(), vision=()):
    """A model with random weights.

    Args:
        name: `Qwen2.5-VL` or `AD-Copilot`.
        size: `3B` or `7B`, whose shapes it has.
        text, vision: what differs from them.
    """
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    from adcopilot.model import AdCopilotConfig, AdCopilotForConditionalGeneration

    config_class, model_class = {
        "Qwen2.5-VL": (Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration),
        "AD-Copilot": (AdCopilotConfig, AdCopilotForConditionalGeneration),
    }[name]
    text, vision = {**TEXT[size], **dict(text)}, {**VISION[size], **dict(vision)}
    config = config_class(text_config=text, vision_config=vision, **IDS)
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            return model_class(config).eval()
    finally:
        torch.set_default_dtype(default)


def prompt(config, shape: Shape, *, device: torch.device, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The model's inputs for one pair; with comparison tokens where the configuration has them."""
    vision = config.vision_config
    rows = shape.side // vision.patch_size
    images = []
    for place in range(2):
        compared = comparison_tokens_of(config, place) if hasattr(config, "num_comparison_tokens") else 0
        images += [config.vision_start_token_id]
        images += [config.image_token_id] * (rows // vision.spatial_merge_size) ** 2
        images += [getattr(config, "comparison_token_id", 0)] * compared
        images += [config.vision_end_token_id]
    generator = torch.Generator().manual_seed(0)
    text = torch.randint(0, 256, (shape.text,), generator=generator).tolist()  # ids of single bytes: never special
    ids = torch.tensor([text[: shape.text // 2] + images + text[shape.text // 2 :]], device=device)
    values = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.randn(2 * rows * rows, values, generator=generator).to(device, dtype),
        "image_grid_thw": torch.tensor([[1, rows, rows]] * 2, device=device),
    }


def labelled(config, side: int, *, device: torch.device, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """A pair and an answer to be learnt, the last half of the prompt's text."""
    shape = Shape(side=side)
    inputs = prompt(config, shape, device=device, dtype=dtype)
    labels = torch.full_like(inputs["input_ids"], -100)
    labels[:, -shape.text // 2 :] = inputs["input_ids"][:, -shape.text // 2 :]
    return {**inputs, "labels": labels}


def clock(device: torch.device) -> float:
    """Seconds, after what the device was asked for is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


@torch.no_grad()
def generate_once(model, inputs: dict[str, torch.Tensor], *, new: int) -> dict[str, float]:
    """Seconds of the prefill, and of each token decoded after the first.

    Raises:
        SystemExit: generation ended early, so the time for a token would be wrong.
    """
    device = model.device
    start = clock(device)
    model(**inputs, use_cache=True, logits_to_keep=1)
    prefill = clock(device) - start
    stamps = []

    def stamp(ids, scores):  # called when a token's logits are there
        stamps.append(clock(device))
        return scores

    output = model.generate(
        **inputs,
        do_sample=False,
        min_new_tokens=new,
        max_new_tokens=new,
        pad_token_id=0,
        logits_processor=LogitsProcessorList([stamp]),
    )
    if output.shape[1] != inputs["input_ids"].shape[1] + new:
        raise SystemExit(f"error: {output.shape[1] - inputs['input_ids'].shape[1]} tokens were generated, not {new}")
    return {"prefill_seconds": prefill, "decode_seconds": (stamps[-1] - stamps[0]) / (new - 1)}


def compare_generation(models: dict, shape: Shape, *, repeats: int) -> list[dict]:
    """The models in turns; the first round is not counted.

    Returns:
        For each model: medians of `generate_once`, the length of the prompt, and tokens a second.
    """
    inputs = {name: prompt(m.config, shape, device=m.device, dtype=m.dtype) for name, m in models.items()}
    rounds = {name: [] for name in models}
    for _ in range(repeats + 1):
        for name, model in models.items():
            rounds[name].append(generate_once(model, inputs[name], new=shape.new))
    results = []
    for name, measured in rounds.items():
        medians = {key: median(one[key] for one in measured[1:]) for key in measured[0]}
        length = inputs[name]["input_ids"].shape[1]
        results.append(
            {
                "model": name,
                "side": shape.side,
                "prompt_tokens": length,
                **medians,
                "prefill_tokens_per_second": length / medians["prefill_seconds"],
                "decode_tokens_per_second": 1 / medians["decode_seconds"],
            }
        )
    return results
