"""The Comparison Encoder: what is different between an image and the one before it, in L tokens.

Paper, section IV-B and Figure 3. With x the patch features of an image and p those of the image before it, both taken
from the vision tower *before* its patch merger:

    p' = p + Block(q = p, kv = x)      each patch of the previous image looks for itself in the current one
    d  =     Block(q = x, kv = p')     each patch of the current image looks for what it found there
    c  = C + Block(q = C, kv = d)      L learnable queries gather the result
    comparison tokens = Projector(c)

where Block is RMSNorm, cross-attention, RMSNorm, SwiGLU. The image's own tokens are never changed.

Shapes in this file: P = patches of all images together, L = comparison queries, N = images, D = the vision tower's
width (1280 at 7B), T = the language model's width (3584 at 7B), H = heads, K = width of a head.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLMLP, rotate_half

from .configuration import AdCopilotConfig

# A 2800 x 2800 image, the paper's largest, has 40,000 patches. Images are encoded in groups of at most so many, so
# that memory grows with the largest image and not with the number of images.
MAX_PATCHES_AT_ONCE = 40_000

# Wavelengths of rope2d run from 2*pi to 2*pi*100 steps of the comparison diagonal, that is, from about a sixteenth of
# the image (L = 100) to several times the image.
ROPE_THETA = 100.0


def patch_coordinates(grid_thw: torch.Tensor, *, merge_size: int) -> torch.Tensor:
    """Centres of the patches of some images, relative to each image's extent, in the order of the tower's input.

    Args:
        grid_thw: (N, 3) time, height, width of each image's patch grid.
        merge_size: side of the squares of patches that the patch merger joins (2 in Qwen2.5-VL); the image processor
            orders patches square by square.

    Returns:
        (P, 2) y and x in 0-1.
    """
    coordinates = []
    for time, height, width in grid_thw.tolist():
        y = (torch.arange(height, device=grid_thw.device) + 0.5) / height
        x = (torch.arange(width, device=grid_thw.device) + 0.5) / width
        centres = torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1)
        squares = centres.reshape(height // merge_size, merge_size, width // merge_size, merge_size, 2).transpose(1, 2)
        coordinates.append(squares.reshape(-1, 2).repeat(time, 1))
    return torch.cat(coordinates)


def apply_rotary(states: torch.Tensor, coordinates: torch.Tensor) -> torch.Tensor:
    """Rotate heads by 2-D positions: half of each head by y, half by x.

    Args:
        states: (P, H, K) queries or keys, K divisible by 4.
        coordinates: (P, 2) y and x in steps of the comparison diagonal, 0-L.

    Returns:
        (P, H, K), in the dtype of `states`; the rotation itself is computed in float32.
    """
    quarter = states.shape[-1] // 4
    frequencies = ROPE_THETA ** (-torch.arange(quarter, device=states.device, dtype=torch.float32) / quarter)
    angles = (coordinates.float()[:, :, None] * frequencies).flatten(1)  # (P, K/2)
    angles = torch.cat((angles, angles), dim=-1)[:, None]  # (P, 1, K)
    rotated = states.float() * angles.cos() + rotate_half(states.float()) * angles.sin()
    return rotated.to(states.dtype)


class CrossAttention(nn.Module):
    """Multi-head attention of one packed list of sequences to another, the i-th to the i-th.

    Scores are never materialised: SDPA, or flash-attention's variable-length kernel when the model was loaded with
    `attn_implementation="flash_attention_2"`. Sequences of unequal lengths are not padded to one another.
    """

    def __init__(self, *, config: AdCopilotConfig):
        super().__init__()
        self.config = config.vision_config  # where transformers keeps the vision side's attention implementation
        width = config.vision_config.hidden_size
        self.num_heads = config.comparison_num_heads
        self.scaling = (width // self.num_heads) ** -0.5
        self.is_causal = False
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.o_proj = nn.Linear(width, width)

    def forward(
        self,
        queries: torch.Tensor,
        keys_values: torch.Tensor,
        query_lengths: list[int],
        key_lengths: list[int],
        query_coordinates: torch.Tensor | None = None,
        key_coordinates: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Attend within each of the N pairs of sequences.

        Args:
            queries: (sum of query_lengths, D).
            keys_values: (sum of key_lengths, D).
            query_lengths, key_lengths: N lengths each.
            query_coordinates, key_coordinates: (…, 2) for rope2d, None without positions.

        Returns:
            (sum of query_lengths, D).
        """
        q = self.q_proj(queries).unflatten(-1, (self.num_heads, -1))
        k = self.k_proj(keys_values).unflatten(-1, (self.num_heads, -1))
        v = self.v_proj(keys_values).unflatten(-1, (self.num_heads, -1))
        if query_coordinates is not None:
            q, k = apply_rotary(q, query_coordinates), apply_rotary(k, key_coordinates)

        if self.config._attn_implementation == "flash_attention_2":
            attended = self._flash(q, k, v, query_lengths, key_lengths)
        elif len(set(query_lengths)) == 1 and len(set(key_lengths)) == 1:
            attended = self._sdpa(q, k, v, batch=len(query_lengths))
        else:
            pairs = zip(q.split(query_lengths), k.split(key_lengths), v.split(key_lengths), strict=True)
            attended = torch.cat([self._sdpa(*pair, batch=1) for pair in pairs])
        return self.o_proj(attended.flatten(1))

    def _sdpa(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, batch: int) -> torch.Tensor:
        """(batch * length, H, K) each -> (batch * query length, H, K)."""
        q, k, v = (states.unflatten(0, (batch, -1)).transpose(1, 2) for states in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, scale=self.scaling).transpose(1, 2).flatten(0, 1)

    def _flash(self, q, k, v, query_lengths: list[int], key_lengths: list[int]) -> torch.Tensor:
        def boundaries(lengths: list[int]) -> torch.Tensor:
            return F.pad(torch.tensor(lengths, device=q.device).cumsum(0), (1, 0)).int()

        attended, _ = ALL_ATTENTION_FUNCTIONS["flash_attention_2"](
            self,
            *(states.transpose(0, 1)[None] for states in (q, k, v)),  # (1, H, length, K)
            attention_mask=None,
            scaling=self.scaling,
            dropout=0.0,
            cu_seq_lens_q=boundaries(query_lengths),
            cu_seq_lens_k=boundaries(key_lengths),
            max_length_q=max(query_lengths),
            max_length_k=max(key_lengths),
            is_causal=False,
        )
        return attended[0]


class ComparisonBlock(GradientCheckpointingLayer):
    """FFN(Norm(CrossAttention(Norm(q), Norm(kv)))); one norm serves both inputs, as Figure 3 draws it."""

    def __init__(self, *, config: AdCopilotConfig):
        super().__init__()
        width = config.vision_config.hidden_size
        self.input_norm = Qwen2RMSNorm(width, eps=1e-6)  # the vision tower's epsilon
        self.cross_attention = CrossAttention(config=config)
        self.output_norm = Qwen2RMSNorm(width, eps=1e-6)
        self.feed_forward = Qwen2_5_VLMLP(config.vision_config, bias=True)

    def forward(self, queries: torch.Tensor, keys_values: torch.Tensor, *lengths_and_coordinates) -> torch.Tensor:
        """(Pq, D), (Pk, D) and the further arguments of `CrossAttention.forward` -> (Pq, D), without residual."""
        attended = self.cross_attention(
            self.input_norm(queries), self.input_norm(keys_values), *lengths_and_coordinates
        )
        return self.feed_forward(self.output_norm(attended))


class ComparisonEncoder(nn.Module):
    """Turns the patch features of each image and of its predecessor into L comparison tokens."""

    def __init__(self, *, config: AdCopilotConfig):
        super().__init__()
        width = config.vision_config.hidden_size
        self.config = config
        # A module and not a bare parameter: PEFT's `modules_to_save` (LlamaFactory: `additional_target:
        # comparison_queries`) trains, saves, resumes and merges it under LoRA, and ZeRO-3 gathers it by its hook.
        self.comparison_queries = nn.Embedding(config.num_comparison_tokens, width)
        self.previous_block = ComparisonBlock(config=config)
        self.current_block = ComparisonBlock(config=config)
        self.query_block = ComparisonBlock(config=config)
        self.projector = nn.Linear(width, config.text_config.hidden_size)

    def forward(
        self,
        features: torch.Tensor,
        grid_thw: torch.Tensor,
        previous_image: list[int],
        compared: list[int] | None = None,
    ) -> torch.Tensor:
        """Compare each image with the one it is paired with.

        Args:
            features: (P, D) patch features of N images, one after the other, each in the order of the image processor.
            grid_thw: (N, 3) patch grids, their products adding up to P.
            previous_image: for each image the index of the one it is compared with; its own for the first of a
                conversation. With fewer than N, the images after them are there to be compared with only.
            compared: indices of the images that get comparison tokens, at least one; all in `previous_image` if left
                out.

        Returns:
            (len(compared), L, T) comparison tokens, in the encoder's dtype.
        """
        # Norms are never quantised and keep the dtype the frozen weights were loaded in, while LlamaFactory may have
        # upcast the trained ones (the queries, or all of the encoder) to float32.
        dtype = self.query_block.input_norm.weight.dtype
        features = features.to(dtype)
        if self._needs_gradients_at_input() and not features.requires_grad:
            features = features.detach().requires_grad_()
        images = features.split(grid_thw.prod(-1).tolist())
        coordinates = None
        if self.config.comparison_position_encoding == "rope2d":
            merge_size = self.config.vision_config.spatial_merge_size
            coordinates = patch_coordinates(grid_thw, merge_size=merge_size) * self.config.num_comparison_tokens
            coordinates = coordinates.split([len(image) for image in images])
        groups = self._groups(images, range(len(previous_image)) if compared is None else compared)
        return torch.cat([self._compare(images, coordinates, previous_image, group) for group in groups])

    def _needs_gradients_at_input(self) -> bool:
        # Reentrant checkpointing, transformers 4's default, gives a block's weights no gradient when no input asks for
        # one, and a frozen tower's features do not: what `enable_input_require_grads` is for embeddings.
        blocks = (self.previous_block, self.current_block, self.query_block)
        checkpointed = self.training and any(block.gradient_checkpointing for block in blocks)
        return checkpointed and torch.is_grad_enabled() and any(weight.requires_grad for weight in self.parameters())

    @staticmethod
    def _groups(images: tuple[torch.Tensor, ...], compared: Sequence[int]) -> list[list[int]]:
        """The indices `compared`, in order, in groups of at most MAX_PATCHES_AT_ONCE patches (or one image)."""
        groups, patches = [[]], 0
        for index in compared:
            if groups[-1] and patches + len(images[index]) > MAX_PATCHES_AT_ONCE:
                groups.append([])
                patches = 0
            groups[-1].append(index)
            patches += len(images[index])
        return groups

    def _compare(self, images, coordinates, previous_image: list[int], group: list[int]) -> torch.Tensor:
        """The images of one group against their predecessors -> (images of the group, L, T)."""
        num_tokens = self.config.num_comparison_tokens
        predecessors = [previous_image[index] for index in group]
        lengths = [len(images[index]) for index in group]
        previous_lengths = [len(images[index]) for index in predecessors]
        query_lengths = [num_tokens] * len(group)
        x = torch.cat([images[index] for index in group])
        p = torch.cat([images[index] for index in predecessors])
        queries = self.comparison_queries(torch.arange(num_tokens, device=x.device)).to(x.dtype)
        queries = queries.repeat(len(group), 1)
        at_x = at_p = at_queries = None
        if coordinates is not None:
            at_x = torch.cat([coordinates[index] for index in group])
            at_p = torch.cat([coordinates[index] for index in predecessors])
            # the queries stand on the diagonal, as the comparison tokens do in the language model (Figure 3)
            diagonal = torch.arange(num_tokens, device=x.device) + 0.5
            at_queries = diagonal[:, None].expand(-1, 2).repeat(len(group), 1)

        p = p + self.previous_block(p, x, previous_lengths, lengths, at_p, at_x)
        d = self.current_block(x, p, lengths, previous_lengths, at_x, at_p)
        c = queries + self.query_block(queries, d, query_lengths, lengths, at_queries, at_x)
        return self.projector(c).unflatten(0, (len(group), num_tokens))


__all__ = ["ComparisonEncoder"]
