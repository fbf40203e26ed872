"""The policy: a merged AD-Copilot whose language model gets a LoRA; without it, the same weights are the reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import LoraConfig
from transformers import GenerationConfig

from ..inspect.loading import load_model
from ..model.registration import register_auto_classes

__all__ = ["language_model_lora", "load_policy", "pad_tokens"]

#: The linear layers of Qwen2.5's blocks. The vision tower's have other names or another path.
LANGUAGE_LAYERS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"


def load_policy(folder: str, *, attention: str, bf16: bool) -> tuple[Any, Any]:
    """Model and processor of a merged folder, ready for TRL.

    Args:
        folder: an AD-Copilot or Qwen2.5-VL model (safetensors).
        attention: transformers' `attn_implementation`.
        bf16: load the weights in bfloat16; float32 otherwise.

    Raises:
        UserError: as `inspect.loading.load_model`.
    """
    register_auto_classes()
    model, processor = load_model(
        Path(folder),
        device="cpu",
        dtype="bfloat16" if bf16 else "float32",
        attention=attention,
        remedy="set bf16=false",
    )
    processor.tokenizer.padding_side = "right"  # it is saved beside the adapter; TRL pads as it needs
    model.config.use_cache = False
    # transformers fills settings that equal its defaults from the model's own generation_config.json. Qwen2.5-VL's
    # says temperature 1e-6 and a repetition penalty of 1.05: TRL's temperature of 1 would silently become greedy
    # decoding, all completions of a group the same, and nothing would be learned.
    model.generation_config = GenerationConfig(
        bos_token_id=processor.tokenizer.bos_token_id,
        eos_token_id=processor.tokenizer.eos_token_id,
        pad_token_id=processor.tokenizer.pad_token_id,
    )
    return model, processor


def language_model_lora(*, rank: int, alpha: int, dropout: float) -> LoraConfig:
    """LoRA on the language model's linear layers alone (paper, Table I), which every vLLM server can load."""
    return LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=LANGUAGE_LAYERS, task_type="CAUSAL_LM"
    )


def pad_tokens(model: Any, processor: Any) -> tuple[int, ...]:
    """Ids that stand for images, or begin and end one: a completion with them would be read as an image that is not
    there."""
    config = model.config
    ids = {config.image_token_id, config.video_token_id, getattr(config, "comparison_token_id", None)}
    for token in ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>"):
        ids.add(processor.tokenizer.convert_tokens_to_ids(token))
    return tuple(sorted(ids - {None, processor.tokenizer.unk_token_id}))
