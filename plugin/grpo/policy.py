"""The policy: a merged AD-Copilot whose language model gets a LoRA; without it, the same weights are the reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from transformers import AutoModelForImageTextToText, AutoProcessor, GenerationConfig

from ..errors import UserError
from ..finite import check_weights
from ..inspect.loading import check_folder
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
        UserError: the folder cannot be used, or a weight is not finite.
    """
    _, files = check_folder(Path(folder))
    register_auto_classes()
    processor = AutoProcessor.from_pretrained(folder)
    try:
        model = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=torch.bfloat16 if bf16 else torch.float32, attn_implementation=attention
        )
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"{folder}: cannot be loaded ({' '.join(str(error).split())[:200]})") from None
    check_weights(model, name=folder, remedy="set bf16=false", files=files)
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
