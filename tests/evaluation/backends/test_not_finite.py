"""A model that computes NaN or Inf gives no reply and no probability, whichever way it is asked."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from adcopilot.errors import UserError
from adcopilot.evaluation.backends.loading import load_any_model
from adcopilot.evaluation.backends.transformers_backend import TransformersBackend
from adcopilot.evaluation.benchmarks.attention.probe import AttentionProbe

pytestmark = pytest.mark.forward


def spoil(source, folder, name, value):
    """A copy of a model with one number of a weight changed."""
    shutil.copytree(source, folder)
    for file in folder.glob("*.safetensors"):
        weights = load_file(file)
        for key in weights:
            if key.endswith(name):
                weights[key].view(-1)[-1] = value
                save_file(weights, file, metadata={"format": "pt"})
                return folder
    raise KeyError(name)


@pytest.mark.parametrize("trust", [False, True])
def test_a_weight_that_is_not_finite_is_refused(qwen_base_dir, tmp_path, trust):
    """With trust, the way that any other family's model is loaded."""
    folder = spoil(qwen_base_dir, tmp_path / "m", "norm.weight", float("inf"))
    with pytest.raises(UserError, match="1 Inf of its weights are not finite, the first in model"):
        load_any_model(
            str(folder), family=None, device="cpu", dtype="float32", attention="sdpa", trust_remote_code=trust
        )


@pytest.fixture(scope="module")
def backend(adcopilot_dir):
    return AttentionProbe(model=str(adcopilot_dir), device="cpu", dtype="float32")


@pytest.mark.parametrize("way", ["branch", "generate", "attention"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_logits_that_are_not_finite_are_an_error(backend, items, way, value):
    backend.reuse = way == "branch"
    kind = type(backend) if way == "attention" else TransformersBackend
    backend.model.generation_config.eos_token_id = []  # no answer may end before its second step
    ends, backend.greedy.ends = backend.greedy.ends, []
    steps = 0

    def overflow(_module, _inputs, logits):
        nonlocal steps
        steps += 1
        if steps == 2:
            logits = torch.where(torch.arange(logits.shape[-1]) == 5, value, logits)
        return logits

    hook = backend.model.lm_head.register_forward_hook(overflow)
    try:
        [(_, reply)] = kind.answer(backend, [item for item in items if item.images][:1], max_new_tokens=3)
    finally:
        hook.remove()
        backend.greedy.ends = ends
    assert reply.error.startswith("the model's logits are not finite (step 2 of its answer)")
    assert (reply.text, reply.option_logprobs) == ("", None)
