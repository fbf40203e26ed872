"""Stage 0's memory: frozen layers that gradients pass through are checkpointed too.

LlamaFactory checkpoints a layer only if it trains one of its weights. In stage 0 only the comparison encoder trains,
but its gradients come back through the whole frozen language model, which would keep all of its activations: 6 MB a
token at 7B in bfloat16, instead of 0.22 MB (counted in tests/llamafactory/test_checkpointing.py).
"""

from __future__ import annotations

import torch

from .composite import MODEL_TYPE
from .hook import wrap_once

NEEDS = {
    "llamafactory.model.model_utils.checkpointing:_gradient_checkpointing_enable": (
        *("self", "gradient_checkpointing_kwargs", "use_unsloth_gc"),
    ),
    "llamafactory.model.model_utils.checkpointing:get_custom_gradient_checkpointing_func": (
        "gradient_checkpointing_func",
    ),
}


def register(checkpointing) -> None:
    """Wrap what `llamafactory.model.model_utils.checkpointing` turns checkpointing on with; other models' stays."""
    wrap_once(checkpointing, "_gradient_checkpointing_enable", _through_frozen_layers)


def _through_frozen_layers(enable):
    def wrapped(self, *args, **kwargs):
        if self.config.model_type != MODEL_TYPE:
            return enable(self, *args, **kwargs)
        set_up = self._set_gradient_checkpointing

        def with_frozen_layers(enable, gradient_checkpointing_func):
            set_up(
                enable=enable, gradient_checkpointing_func=checkpoint_where_gradients_pass(gradient_checkpointing_func)
            )

        self._set_gradient_checkpointing = with_frozen_layers
        try:
            return enable(self, *args, **kwargs)
        finally:
            del self._set_gradient_checkpointing  # the class's own again

    return wrapped


def checkpoint_where_gradients_pass(of_trained_layers):
    """What a layer runs through: checkpointed if an input requires a gradient, else as LlamaFactory decides.

    Args:
        of_trained_layers: LlamaFactory's function, which wraps the one that checkpoints whatever it is given.
    """
    checkpoint = of_trained_layers.__wrapped__

    def checkpointed(layer, *args, **kwargs):
        passes = any(isinstance(one, torch.Tensor) and one.requires_grad for one in args)
        return (checkpoint if passes else of_trained_layers)(layer, *args, **kwargs)

    return checkpointed
