"""How much GPU memory a training run needs, from shapes: counted on modules without weights, not measured.

What autograd keeps of one layer, for one token or patch, is read off the layer itself at the model's true widths, run
on tensors that have a shape and no memory (torch's `FakeTensorMode`). The rest is arithmetic: weights, what the
optimiser keeps of trained ones, the inputs of checkpointed layers, one layer computed again, logits where labels are.
Left out: the allocator's fragments, NCCL's buffers, other programs. So it says what cannot fit, not what will.

Units: bytes, unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import UserError
from ..files import stored_object
from ..model import AdCopilotConfig, AdCopilotForConditionalGeneration
from ..model.pairing import comparison_tokens_of
from ..model.vision import Windows

__all__ = [
    "GIB",
    "LongestBatch",
    "Need",
    "Shapes",
    "StageStep",
    "kept_bytes",
    "not_counted",
    "sample_of",
    "step_of",
    "told",
    "uncounted",
]

#: Tokens or patches that a layer is run on to count.
_COUNTED = 256
#: What training keeps beside a trained weight in bfloat16: float32 copy, gradient, Adam's two moments; and with
#: `pure_bf16` the last three in bfloat16.
_OF_TRAINED, _OF_TRAINED_PURE = 4 + 4 + 8, 2 + 4
GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class StageStep:
    """What a step of one of LlamaFactory's stages makes of a sample.

    Attributes:
        of_logit: bytes while most are kept: of the policy's, gradients included, and of the reference's meanwhile.
        sequences: that the policy sees: an answer, or one that was chosen and one that was rejected.
        everywhere: whether logits of all tokens are made, or where labels are (`model.modeling`).
        compares: whether a reference model answers too.
    """

    of_logit: int
    sequences: int = 1
    everywhere: bool = False
    compares: bool = False


#: Bytes as tests/llamafactory/test_memory.py measures them on LlamaFactory's trainers, which make float32 logits and
#: their logarithms, each kept or not.
_STEPS = {
    "sft": StageStep(of_logit=12),
    "rm": StageStep(of_logit=10, sequences=2),
    "dpo": StageStep(of_logit=16, sequences=2, everywhere=True, compares=True),
    "dpo alone": StageStep(of_logit=12, sequences=2, everywhere=True),
    "kto": StageStep(of_logit=20, everywhere=True, compares=True),
}


def step_of(settings: Mapping[str, Any]) -> StageStep:
    """The step of a YAML for `llamafactory-cli train`."""
    stage = settings.get("stage", "sft")
    alone = stage == "dpo" and settings.get("pref_loss") in ("orpo", "simpo")
    return _STEPS["dpo alone" if alone else stage]


#: Settings that share, move or replace what is counted here in ways that are not.
_UNCOUNTED = (
    *("fsdp", "fp8", "use_galore", "use_apollo", "use_badam", "use_adam_mini", "use_unsloth", "use_unsloth_gc"),
    *("use_kt", "mixture_of_depths"),
)


@dataclass(frozen=True, kw_only=True)
class LongestBatch:
    """The longest samples of a run, a batch of them.

    Attributes:
        tokens: of the sequence, comparison tokens too.
        patches: of its images together, before merging.
        labels: tokens that logits are made for.
    """

    tokens: int
    patches: int
    labels: int


def sample_of(
    config: AdCopilotConfig,
    tokens: int,
    sizes: Sequence[tuple[int, int]],
    *,
    batch: int,
    step: StageStep = _STEPS["sft"],
) -> LongestBatch:
    """A batch of so many samples like one.

    Args:
        config: of the model.
        tokens: of the sample, with the longer of its answers.
        sizes: (width, height) of its images as the model sees them.
        step: that it is for.
    """
    batch *= step.sequences
    vision = config.vision_config
    patches = sum(width * height for width, height in sizes) // vision.patch_size**2
    of_images = patches // vision.spatial_merge_size**2
    of_images += sum(comparison_tokens_of(config, place) for place in range(len(sizes)))
    labels = tokens if step.everywhere else max(tokens - of_images, 1)
    return LongestBatch(tokens=batch * tokens, patches=batch * patches, labels=batch * labels)


def _reference_bits(settings: Mapping[str, Any]) -> int:
    """Of a weight of the model that answers are compared with; 0 where there is none, or it is the policy itself
    without its LoRA adapters. It is taken to be as large as the policy."""
    if not step_of(settings).compares:
        return 0
    if settings.get("ref_model"):
        return settings.get("ref_model_quantization_bit") or 16
    return 0 if settings.get("finetuning_type", "lora") == "lora" else 16


def uncounted(settings: Mapping[str, Any]) -> str | None:
    """The setting, as it is written, under which this count says nothing; None if there is none."""
    kind = settings.get("finetuning_type", "lora")
    if kind not in ("lora", "full"):
        return f"finetuning_type: {kind}"
    if "deepspeed" in settings and _zero(settings) is None:
        return f"deepspeed: {settings['deepspeed']} (no JSON file with zero_optimization)"
    return next((f"{name}: {settings[name]}" for name in _UNCOUNTED if settings.get(name)), None)


def _zero(settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """`zero_optimization` of the run's DeepSpeed settings; empty without DeepSpeed, None if it cannot be known."""
    if not settings.get("deepspeed"):
        return {}
    given = settings["deepspeed"]
    zero = (given if isinstance(given, dict) else stored_object(Path(str(given)))).get("zero_optimization")
    return zero if isinstance(zero, dict) and isinstance(zero.get("stage"), int) else None


def _is_elsewhere(zero: Mapping[str, Any], what: str) -> bool:
    offload = zero.get(f"offload_{what}")
    return isinstance(offload, dict) and offload.get("device") in ("cpu", "nvme")


def kept_bytes(run: Callable[[], torch.Tensor], *, besides: nn.Module) -> int:
    """What autograd keeps of a forward pass.

    Args:
        run: makes the pass; its result is held meanwhile.
        besides: whose weights do not count.
    """
    kept, own = {}, {weight.untyped_storage()._cdata for weight in besides.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = run()
    del out
    return sum(storage.nbytes() for storage in kept.values())


@dataclass(frozen=True, kw_only=True)
class Need:
    """What one GPU needs, by part."""

    weights: float
    training: float
    activations: float
    logits: float
    reference: float = 0.0

    def __str__(self) -> str:
        named = {
            one.name: getattr(self, one.name) for one in fields(self) if one.name != "reference" or self.reference
        }
        parts = " + ".join(f"{value / GIB:.1f} {name}" for name, value in named.items())
        return f"{self.total / GIB:.1f} GiB ({parts})"

    @property
    def total(self) -> float:
        """Of all parts."""
        return self.fixed + self.activations + self.logits

    @property
    def fixed(self) -> float:
        """Of the parts that no sample changes."""
        return self.weights + self.training + self.reference


def not_counted(setting: str, *, gpu: float | None) -> str:
    """The line about memory under a setting that `uncounted` names.

    Raises:
        UserError: it is to be checked against a GPU.
    """
    if gpu is not None:
        raise UserError(f"--gpu-memory: memory is not counted with {setting}; leave the option out")
    return f"memory: not counted with {setting}"


def told(
    need: Need,
    *,
    where: str,
    gpu: float | None,
    gpus: int,
    sizes: Sequence[tuple[int, int]],
    checkpointing: str | None,
    batch: int = 1,
) -> str:
    """The line about what a run needs.

    Args:
        need: of one GPU.
        where: what needs it, in words, many of it.
        gpu: GiB of one; None if it is not to be checked.
        gpus: how many.
        sizes: (width, height) of the images of a sample.
        checkpointing: the setting that turns checkpointing on, None where it is on.
        batch: samples that `per_device_train_batch_size` could be lowered from.

    Raises:
        UserError: the GPU has too little; it says what would lower the need.
    """
    one = "one GPU" if gpus == 1 else f"each of {gpus} GPUs"
    if gpu is None or need.total <= gpu * GIB:
        return f"memory of {one} in bfloat16, from shapes and not measured: {need} for {where}"
    share = (gpu * GIB - need.fixed) / (need.activations + need.logits)
    if share <= 0:
        remedy = "take a larger GPU, more of them with ZeRO-3 (--gpus N), or a smaller model"
    elif checkpointing:
        remedy = f"{checkpointing} would lower it"
    elif batch > 1:
        remedy = f"per_device_train_batch_size={max(1, int(batch * share))} would lower it"
    else:
        pixels = max((width * height for width, height in sizes), default=0)
        remedy = f"image_max_pixels={int(pixels * share)} would lower it"
    raise UserError(f"{where} need about {need} of {one}, more than --gpu-memory {gpu:g}; {remedy}")


class Shapes:
    """The parts of a model, for counting.

    Args:
        config: of the model.
    """

    def __init__(self, config: AdCopilotConfig) -> None:
        from torch._subclasses.fake_tensor import FakeTensorMode

        self.config = config
        self._mode = FakeTensorMode()
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.bfloat16)
        try:
            with self._mode:
                self.model = AdCopilotForConditionalGeneration(config)
        finally:
            torch.set_default_dtype(default)
        inner = self.model.model
        self.parts = {"tower": inner.visual, "encoder": inner.comparison_encoder, "language": inner.language_model}

    def need(
        self,
        settings: Mapping[str, Any],
        sample: LongestBatch,
        *,
        gpus: int = 1,
        trained: Mapping[str, int] | None = None,
    ) -> Need:
        """What a sample needs of one GPU.

        Args:
            settings: of a YAML for `llamafactory-cli train`, of which `uncounted` names none.
            sample: a batch on one GPU.
            gpus: over which DeepSpeed shares what its stage says.
            trained: part → how many of its weights train, where it is not LlamaFactory that decides.
        """
        trained, zero = trained or self.trained(settings), _zero(settings) or {}
        bits = settings.get("quantization_bit")
        bits = bits if isinstance(bits, int) and bits > 0 else 16
        weights = _weights(self.model) * bits / 8
        training = sum(trained.values()) * (_OF_TRAINED_PURE if settings.get("pure_bf16") else _OF_TRAINED)
        stage, text = zero.get("stage", 0), self.config.text_config
        if settings.get("stage") == "rm":  # its head, whose weights are float32 themselves
            training += (text.hidden_size + 1) * _OF_TRAINED
        of_weights = 0 if _is_elsewhere(zero, "param") else 1 / (gpus if stage >= 3 else 1)
        return Need(
            weights=weights * of_weights,
            training=0 if _is_elsewhere(zero, "optimizer") else training / (gpus if stage >= 1 else 1),
            activations=self._activations(trained, sample, settings.get("disable_gradient_checkpointing", False)),
            logits=step_of(settings).of_logit * sample.labels * text.vocab_size,
            reference=_weights(self.model) * _reference_bits(settings) / 8 * of_weights,
        )

    def _activations(self, trained: Mapping[str, int], sample: LongestBatch, whole: bool) -> float:
        vision, text = self.config.vision_config, self.config.text_config
        parts = {  # tokens or patches; what autograd keeps of one in all of the part and in what is computed at once;
            # the width of an input, and how many of these are kept where the rest is computed again
            "tower": (sample.patches, vision.depth, 1, vision.hidden_size, vision.depth),
            # three blocks of two inputs, one the largest
            "encoder": (sample.patches, 1, 1 / 2, vision.hidden_size, 6),
            "language": (sample.tokens, text.num_hidden_layers, 1, text.hidden_size, text.num_hidden_layers),
        }
        kept, again, passes = 0.0, 0.0, False
        for name, (count, times, at_once, width, inputs) in parts.items():
            passes = passes or trained[name] > 0  # gradients go back to the first part that trains
            if passes:
                one = count * self._of_a_layer(name, trained[name] > 0)
                kept += times * one if whole else inputs * 2 * width * count
                again = max(again, 0.0 if whole else at_once * one)
        return kept + again

    def trained(self, settings: Mapping[str, Any]) -> dict[str, int]:
        """Part → how many of its weights train."""
        tower = self.parts["tower"]
        modules = {"tower": [], "encoder": [self.parts["encoder"]], "language": []}
        if not settings.get("freeze_vision_tower", True):  # LlamaFactory's defaults
            modules["tower"] += [tower.patch_embed, tower.blocks]
        if not settings.get("freeze_multi_modal_projector", True):
            modules["tower"].append(tower.merger)
        if not settings.get("freeze_language_model", False):
            modules["language"].append(self.parts["language"])
        if settings.get("finetuning_type", "lora") != "lora":
            return {name: sum(_weights(one) for one in found) for name, found in modules.items()}
        rank, queries = settings.get("lora_rank", 8), _weights(self.parts["encoder"].comparison_queries)
        trained = {name: sum(_lora(one, rank) for one in found) for name, found in modules.items()}
        return {**trained, "encoder": trained["encoder"] + queries}

    def trained_by_grpo(self, rank: int) -> dict[str, int]:
        """Part → how many weights `adcopilot grpo` trains: LoRA on the language model alone."""
        return {"tower": 0, "encoder": 0, "language": _lora(self.parts["language"], rank)}

    def cache(self, tokens: int) -> int:
        """Bytes of the keys and values of so many tokens."""
        text = self.config.text_config
        head = text.hidden_size // text.num_attention_heads
        return tokens * text.num_hidden_layers * 2 * text.num_key_value_heads * head * 2

    def _of_a_layer(self, name: str, trained: bool) -> float:
        """What autograd keeps of one layer, of the encoder whole, a token or patch."""
        if name == "encoder":
            layer, width = self.parts[name], self.config.vision_config.hidden_size

            def run(states: torch.Tensor) -> torch.Tensor:
                return layer._compare(states.split(_COUNTED // 2), None, [0, 0], [0, 1])

        elif name == "language":
            layer, width = self.model.model.language_model.layers[0], self.config.text_config.hidden_size

            def run(states: torch.Tensor) -> torch.Tensor:
                positions = torch.zeros(3, 1, _COUNTED, dtype=torch.long)
                angles = self.model.model.language_model.rotary_emb(states, positions)
                return layer(states[None], position_embeddings=angles, attention_mask=None)

        else:
            layer, width = self.model.model.visual.blocks[0], self.config.vision_config.hidden_size
            head = width // self.config.vision_config.num_heads

            def run(states: torch.Tensor) -> torch.Tensor:
                angles = torch.zeros(_COUNTED, head)
                whole = Windows([(_COUNTED, 1)], None, None)
                states = states + layer.attn.attend(layer.norm1(states), whole, (angles, angles))
                return states + layer.mlp(layer.norm2(states))

        layer.requires_grad_(trained)
        with self._mode:
            states = torch.empty(_COUNTED, width, dtype=torch.bfloat16, requires_grad=True)
            return kept_bytes(lambda: run(states), besides=layer) / _COUNTED


def _weights(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def _lora(module: nn.Module, rank: int) -> int:
    linear = [one for one in module.modules() if isinstance(one, nn.Linear)]
    return sum(rank * (one.in_features + one.out_features) for one in linear)
