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
from typing import Any

import torch
from torch import nn

from ..model import AdCopilotConfig, AdCopilotForConditionalGeneration
from ..model.vision import Windows

__all__ = ["GIB", "Need", "Sample", "Shapes", "sample_of"]

#: Tokens or patches that a layer is run on to count.
_COUNTED = 256
#: What training keeps beside a trained weight in bfloat16: float32 copy, gradient, Adam's two moments.
_OF_TRAINED = 4 + 4 + 8
#: A logit in bfloat16 and float32, and the gradients of both.
_OF_LOGIT = 2 * (2 + 4)
GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The longest samples of a run, a batch of them.

    Attributes:
        tokens: of the sequence, comparison tokens too.
        patches: of its images together, before merging.
        labels: tokens that are trained on.
    """

    tokens: int
    patches: int
    labels: int


def sample_of(config: AdCopilotConfig, tokens: int, sizes: Sequence[tuple[int, int]], *, batch: int) -> Sample:
    """A batch of so many samples like one.

    Args:
        config: of the model.
        tokens: of the sample.
        sizes: (width, height) of its images as the model sees them.
    """
    vision = config.vision_config
    patches = sum(width * height for width, height in sizes) // vision.patch_size**2
    of_images = patches // vision.spatial_merge_size**2 + len(sizes) * config.num_comparison_tokens
    return Sample(tokens=batch * tokens, patches=batch * patches, labels=batch * max(tokens - of_images, 1))


@dataclass(frozen=True, kw_only=True)
class Need:
    """What one GPU needs, by part."""

    weights: float
    training: float
    activations: float
    logits: float

    def __str__(self) -> str:
        parts = " + ".join(f"{getattr(self, one.name) / GIB:.1f} {one.name}" for one in fields(self))
        return f"{self.total / GIB:.1f} GiB ({parts})"

    @property
    def total(self) -> float:
        """Of all parts."""
        return sum(getattr(self, one.name) for one in fields(self))


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

    def need(self, settings: Mapping[str, Any], sample: Sample) -> Need:
        """What a sample needs with the settings of a YAML for `llamafactory-cli train`."""
        trained = self.trained(settings)
        weights = 2 * _weights(self.model)
        checkpointed = not settings.get("disable_gradient_checkpointing", False)
        vision, text = self.config.vision_config, self.config.text_config
        # Gradients pass through whatever comes after the first trained part.
        passed = [name for name in self.parts if any(trained[one] for one in list(self.parts)[: _place(name) + 1])]
        kept, again = 0.0, [0.0]
        for name, count, width, layers in (
            ("tower", sample.patches, vision.hidden_size, vision.depth),
            ("language", sample.tokens, text.hidden_size, text.num_hidden_layers),
        ):
            one = count * self._of_a_layer(name, bool(trained[name])) if name in passed else 0.0
            kept += layers * (2 * width * count if checkpointed else one) if name in passed else 0.0
            again.append(one)
        encoder = sample.patches * self._of_the_encoder() if "encoder" in passed else 0.0
        # Of its three blocks one is computed again at a time; the inputs of all are kept.
        kept += 6 * 2 * vision.hidden_size * sample.patches if checkpointed else encoder
        again.append(encoder / 2)
        return Need(
            weights=weights,
            training=_OF_TRAINED * sum(trained.values()),
            activations=kept + (max(again) if checkpointed else 0.0),
            logits=_OF_LOGIT * sample.labels * text.vocab_size,
        )

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

    def _of_a_layer(self, name: str, trained: bool) -> float:
        """What autograd keeps of one layer, a token or patch."""
        if name == "language":
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

        return self._kept(layer, run, width, trained)

    def _of_the_encoder(self) -> float:
        """What autograd keeps of the comparison encoder, a patch of any image."""
        encoder = self.model.model.comparison_encoder

        def run(states: torch.Tensor) -> torch.Tensor:
            return encoder._compare(states.split(_COUNTED // 2), None, [0, 0], [0, 1])

        return self._kept(encoder, run, self.config.vision_config.hidden_size, True)

    def _kept(self, module: nn.Module, run: Callable, width: int, trained: bool) -> float:
        kept, own = {}, {weight.untyped_storage()._cdata for weight in module.parameters()}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in own:
                kept[storage._cdata] = storage
            return tensor

        module.requires_grad_(trained)
        with self._mode, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            out = run(torch.empty(_COUNTED, width, dtype=torch.bfloat16, requires_grad=True))
        del out
        return sum(storage.nbytes() for storage in kept.values()) / _COUNTED


def _weights(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def _lora(module: nn.Module, rank: int) -> int:
    linear = [one for one in module.modules() if isinstance(one, nn.Linear)]
    return sum(rank * (one.in_features + one.out_features) for one in linear)


def _place(name: str) -> int:
    return ("tower", "encoder", "language").index(name)
