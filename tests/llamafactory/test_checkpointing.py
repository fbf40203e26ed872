"""Checkpointing through frozen layers: what stage 0 keeps of a token, counted at 7B's shapes without weights."""

from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from adcopilot.llamafactory.memory import kept_bytes
from benchmarks.shapes import random_model

pytestmark = pytest.mark.forward

TOKENS = 256


@pytest.fixture(scope="module")
def checkpointing(llamafactory):
    from llamafactory.model.model_utils import checkpointing

    return checkpointing


def kept_of_a_token(model, checkpointing) -> float:
    """What the language model keeps for the backward pass, in bytes a token, if its input requires gradients."""
    settings = {"upcast_layernorm": False, "disable_gradient_checkpointing": False, "use_unsloth_gc": False}
    settings |= {"use_reentrant_gc": True, "upcast_lmhead_output": False}
    checkpointing.prepare_model_for_training(model, SimpleNamespace(**settings))
    model.requires_grad_(False).train()
    embeds = torch.empty(1, TOKENS, 3584, dtype=torch.bfloat16, requires_grad=True)
    positions = torch.zeros(3, 1, TOKENS, dtype=torch.long)

    def run() -> torch.Tensor:
        out = model.model.language_model(inputs_embeds=embeds, position_ids=positions, use_cache=False)
        assert out.last_hidden_state.requires_grad
        return out.last_hidden_state

    return kept_bytes(run, besides=model) / TOKENS


@pytest.mark.parametrize("name", ["AD-Copilot", "Qwen2.5-VL"])
def test_bytes_of_a_token_at_7b(checkpointing, name):
    with FakeTensorMode():
        model = random_model(name, "7B", device=torch.device("cpu"), dtype=torch.bfloat16)
        kept = kept_of_a_token(model, checkpointing)
    if name == "AD-Copilot":
        assert kept < 0.5e6
    else:
        assert kept > 3e6  # LlamaFactory's own way, which other models keep
