"""Where the comparison tokens look: the last cross-attention of the Comparison Encoder (`colours` draws it).

That attention (Figure 3 of the paper, CrossAttn3) has the L comparison queries on one side and, on the other, the
query image's patches after both images have been compared. Its weights, averaged over queries and heads, say how much
each patch contributes to what the language model is told about the difference. They are read beside the answer, in the
same forward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # a page over an endpoint, which has no attention to show, starts without torch and transformers
    import torch

__all__ = ["WatchedAttention", "watch"]


@dataclass(kw_only=True)
class WatchedAttention:
    """What `watch` has seen.

    Attributes:
        weights: (patches of the last image,) each patch's share, adding up to 1, in the image processor's order; None
            as long as no image was compared.
    """

    weights: torch.Tensor | None = field(default=None)

    def grid(self, size: tuple[int, int], *, patch_size: int, merge_size: int) -> np.ndarray:
        """The shares as rows and columns of patches.

        Args:
            size: (width, height) of the image as the model saw it, in pixels.
            patch_size: side of a patch in pixels.
            merge_size: side of the squares of patches that the image processor keeps together.

        Returns:
            (rows, columns) float32.
        """
        columns, rows = size[0] // patch_size, size[1] // patch_size
        squares = self.weights.view(rows // merge_size, columns // merge_size, merge_size, merge_size)
        return squares.transpose(1, 2).reshape(rows, columns).numpy()


@contextmanager
def watch(model: torch.nn.Module) -> Iterator[WatchedAttention]:
    """Read the attention of the last image that a model compares in this block.

    Args:
        model: an AD-Copilot model; on any other nothing is read. Only one thread may use it meanwhile.
    """
    seen = WatchedAttention()
    encoder = getattr(model, "comparison_encoder", None)
    if encoder is None:
        yield seen
        return

    def read(module, inputs) -> None:
        queries, keys, query_lengths, key_lengths, at_queries, at_keys = inputs
        seen.weights = _shares(
            module,
            queries[-query_lengths[-1] :],
            keys[-key_lengths[-1] :],
            None if at_queries is None else at_queries[-query_lengths[-1] :],
            None if at_keys is None else at_keys[-key_lengths[-1] :],
        )

    handle = encoder.query_block.cross_attention.register_forward_pre_hook(read)
    try:
        yield seen
    finally:
        handle.remove()


def _shares(attention, queries, keys, at_queries, at_keys) -> torch.Tensor:
    """(L, D) queries, (P, D) keys and their coordinates -> (P,) on the CPU, one head at a time to save memory."""
    import torch

    from ...model.comparison_encoder import apply_rotary

    with torch.no_grad():
        q = attention.q_proj(queries).unflatten(-1, (attention.num_heads, -1))
        k = attention.k_proj(keys).unflatten(-1, (attention.num_heads, -1))
        if at_queries is not None:
            q, k = apply_rotary(q, at_queries), apply_rotary(k, at_keys)
        heads = [
            ((q[:, head].float() @ k[:, head].float().T) * attention.scaling).softmax(-1).mean(0)
            for head in range(attention.num_heads)
        ]
        return torch.stack(heads).mean(0).cpu()
