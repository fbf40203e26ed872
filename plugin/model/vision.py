"""The vision tower's attention under SDPA: windows of equal length as one batch.

Upstream calls the kernel window by window: 4,544 calls for a pair of 1 megapixel, 35,000 at 2800 x 2800, each with the
host's work of a launch, and asks the device for the windows' lengths in each of 32 layers. Here they are read once a
forward, and the windows of a length, of which there are at most four, go through the kernel together.

Shapes in this file: P = patches of all images together, H = heads, K = width of a head.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch.utils.weak import WeakTensorKeyDictionary
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLVisionAttention, apply_rotary_pos_emb_vision


@dataclass(frozen=True)
class Windows:
    """How sequences of some lengths are batched.

    Attributes:
        groups: (length, how many of that length), shortest first.
        order: (P,) the patches sorted by the length of their sequence; None where all have one length.
        back: (P,) the patches' places in that order.
    """

    groups: list[tuple[int, int]]
    order: torch.Tensor | None
    back: torch.Tensor | None

    @classmethod
    def of(cls, boundaries: torch.Tensor) -> "Windows":
        """From (sequences + 1,) boundaries, as the tower passes them: `cu_seqlens`."""
        ends = boundaries.tolist()
        places = sorted(range(len(ends) - 1), key=lambda place: ends[place + 1] - ends[place])
        lengths = [ends[place + 1] - ends[place] for place in places]
        groups = [(length, lengths.count(length)) for length in dict.fromkeys(lengths)]
        if len(groups) == 1:
            return cls(groups, None, None)
        order = torch.cat([torch.arange(ends[place], ends[place + 1]) for place in places])
        return cls(groups, order.to(boundaries.device), order.argsort().to(boundaries.device))


#: Of the boundaries that are alive: a forward has two, of windows and of whole images, and passes them to each layer.
_windows = WeakTensorKeyDictionary()


class VisionAttention(Qwen2_5_VLVisionAttention):
    """`Qwen2_5_VLVisionAttention`, with the same numbers in fewer calls under SDPA."""

    def forward(self, hidden_states: torch.Tensor, cu_seqlens: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        """(P, width) and (sequences + 1,) boundaries of what attends to each other -> (P, width)."""
        if self.config._attn_implementation != "sdpa":
            return super().forward(hidden_states, cu_seqlens, *args, **kwargs)
        windows = _windows.get(cu_seqlens)
        if windows is None:
            windows = _windows[cu_seqlens] = Windows.of(cu_seqlens)
        return self.attend(hidden_states, windows, kwargs["position_embeddings"])

    def attend(
        self, hidden_states: torch.Tensor, windows: Windows, position_embeddings: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        """(P, width), with (P, K) cosines and sines of the patches' places -> (P, width)."""
        q, k, v = self.qkv(hidden_states).unflatten(-1, (3, self.num_heads, -1)).unbind(1)  # (P, H, K) each
        q, k = apply_rotary_pos_emb_vision(q, k, *position_embeddings)
        if windows.order is not None:
            q, k, v = (states[windows.order] for states in (q, k, v))
        sizes = [length * number for length, number in windows.groups]
        batches = zip(windows.groups, q.split(sizes), k.split(sizes), v.split(sizes), strict=True)
        attended = torch.cat([self._batch(number, *states) for (_, number), *states in batches])
        if windows.back is not None:
            attended = attended[windows.back]
        return self.proj(attended.flatten(1))

    def _batch(self, number: int, *states: torch.Tensor) -> torch.Tensor:
        """`number` sequences of one length, (all their patches, H, K) each of queries, keys, values -> the same."""
        q, k, v = (one.unflatten(0, (number, -1)).transpose(1, 2) for one in states)
        dropout = self.attention_dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=self.scaling)
        return attended.transpose(1, 2).flatten(0, 1)
