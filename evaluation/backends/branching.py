"""Questions that branch from one prefix: images and shared text run once, each question goes on from their KV cache.

Greedy decoding by hand instead of transformers' `generate`, which cannot be told that rows of a filled cache belong to
several prompts. What must not change are the tokens; tests hold them against `generate`. Three things decide:

- Token ids are those of each whole prompt. The prefix is what the prompts of a group have in common as tokens, so no
  word is cut otherwise than `generate` would see it.
- mRoPE positions come from the model's own `get_rope_index` on a group's first whole prompt: comparison tokens and
  images move the text behind them by an amount that only the model knows. Text behind the last image counts on by one.
- All branches of a prefix stand in its row, behind one another, so that its keys and values are kept once. A mask for
  each pair of tokens shows a token its prefix and its own question's tokens, and hides padding and other questions.
  Positions are given for every token, so holes do not count.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from adcopilot.finite import bad_rows
from adcopilot.inspect.greedy import Answered, Greedy

__all__ = [
    "Prefix",
    "Prompt",
    "answer_branches",
    "make_prompts",
    "pad_left",
    "patches_as_product",
    "shared_length",
]

#: Whose a token in the cache is: a question's, or one of these.
_EVERYONE, _NOBODY = -1, -2


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One whole prompt of a group.

    Attributes:
        ids: its token ids, image and comparison pads written out.
        positions: (3, len(ids)) mRoPE positions.
        following: position of the first token of the answer.
    """

    ids: list[int]
    positions: torch.Tensor
    following: int


@dataclass(frozen=True, kw_only=True)
class Prefix:
    """Prefixes that have been run, one a row.

    Attributes:
        cache: keys and values of every layer, (rows, heads, length, width).
        mask: (rows, length) 1 at tokens, 0 at padding.
    """

    cache: DynamicCache
    mask: torch.Tensor


def shared_length(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with; at least the last token of each is left out, for it has to be asked."""
    length = min(map(len, prompts)) - 1
    rows = np.array([prompt[:length] for prompt in prompts])
    differ = (rows != rows[0]).any(0)
    return int(differ.argmax()) if differ.any() else length


def make_prompts(model: Any, prompts: Sequence[list[int]], grid: torch.Tensor | None) -> list[Prompt]:
    """Positions of whole prompts with the same images.

    Args:
        model: AD-Copilot or Qwen2.5-VL.
        prompts: token ids of each, all the same up to the end of the last image.
        grid: (N, 3) patch grids of the images, None without images.
    """
    start, head = 0, torch.zeros(3, 0, dtype=torch.long)
    if grid is not None:
        row = torch.tensor(prompts[:1])
        given = {"image_grid_thw": grid, "attention_mask": torch.ones_like(row)}
        if "mm_token_type_ids" in inspect.signature(model.model.get_rope_index).parameters:  # transformers 5
            given["mm_token_type_ids"] = (row == model.config.image_token_id).int()
        positions, _ = model.model.get_rope_index(row, **given)
        # The token that ends the last image is text, and text counts on by one: the other prompts' positions follow.
        start = int((row[0] == model.config.vision_end_token_id).nonzero()[-1])
        head = positions[:, 0, :start]
        first = int(positions[0, 0, start])
    else:
        first = 0
    made = []
    for ids in prompts:
        text = torch.arange(first, first + len(ids) - start)
        positions = torch.cat([head, text.expand(3, -1)], 1)
        made.append(Prompt(ids=ids, positions=positions, following=first + len(ids) - start))
    return made


@torch.inference_mode()
def answer_branches(
    greedy: Greedy,
    prefix: Prefix,
    questions: Sequence[tuple[int, Prompt, int]],
    *,
    max_new_tokens: int,
) -> Answered:
    """Answer questions in one batch, as `Greedy.answer` does whole prompts. The prefix stays as it is and may be used
    again.

    Args:
        greedy: the model.
        questions: row of the prefix, whole prompt, length of the prefix within it.
        max_new_tokens: longest answer in tokens.

    Returns:
        Of a question whose logits were not finite, the tokens up to that step.
    """
    model, device = greedy.model, greedy.model.device
    used = sorted({row for row, _, _ in questions})
    cache = DynamicCache()
    for index, layer in enumerate(prefix.cache.layers):
        cache.update(layer.keys[used], layer.values[used], index)
    owners = torch.where(prefix.mask[used].bool(), _EVERYONE, _NOBODY)

    tokens: list[list[int]] = [[] for _ in questions]
    failed = [0] * len(questions)
    rows = [used.index(row) for row, _, _ in questions]  # row of each question's branch
    fresh = [(prompt.ids[length:], prompt.positions[:, length:]) for _, prompt, length in questions]
    active = list(range(len(questions)))
    first_logits = None
    with _masked_attention(model):
        for step in range(max_new_tokens):
            ids, positions, new_owners, lasts = _lay_out(rows, fresh, active, pad=greedy.pad)
            owners = torch.cat([owners, new_owners.to(device)], 1)
            hidden = model.model(
                input_ids=ids.to(device),
                attention_mask=_branch_mask(owners, ids.shape[1], dtype=model.dtype),
                position_ids=positions.to(device),
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state
            logits = model.lm_head(hidden[[rows[question] for question in active], lasts]).float()
            logits[:, greedy.banned] = -torch.inf
            bad = bad_rows(logits, banned=len(greedy.banned)).tolist()
            if first_logits is None:
                first_logits = logits
            going_on = []
            for question, token, is_bad in zip(active, logits.argmax(-1).tolist(), bad, strict=True):
                tokens[question].append(token)
                if is_bad:
                    failed[question] = step + 1
                elif token not in greedy.ends:
                    going_on.append(question)
                    place = questions[question][1].following + step
                    fresh[question] = ([token], torch.full((3, 1), place))
            if not going_on:
                break
            active = going_on
            alive = sorted({rows[question] for question in active})
            if len(alive) < len(owners):  # rows without questions leave the batch
                owners = owners[alive]
                for layer in cache.layers:
                    layer.keys, layer.values = layer.keys[alive], layer.values[alive]
                rows = [alive.index(row) if row in alive else -1 for row in rows]
    return Answered(tokens=tokens, first_logits=first_logits, failed=failed)


def _lay_out(
    rows: Sequence[int], fresh: Sequence[tuple[list[int], torch.Tensor]], active: Sequence[int], *, pad: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[int]]:
    """New tokens of the active questions, those of one row behind one another, padded on the right.

    Returns:
        (rows, length) ids, (3, rows, length) positions, (rows, length) owners, and the column of each active
        question's last token.
    """
    ends = [0] * (max(rows[question] for question in active) + 1)
    starts = []
    for question in active:
        starts.append(ends[rows[question]])
        ends[rows[question]] += len(fresh[question][0])
    ids = torch.full((len(ends), max(ends)), pad)
    positions = ids.new_zeros(3, *ids.shape)
    owners = torch.full_like(ids, _NOBODY)
    lasts = []
    for question, start in zip(active, starts, strict=True):
        new, places = fresh[question]
        span = slice(start, start + len(new))
        ids[rows[question], span] = torch.tensor(new)
        positions[:, rows[question], span] = places
        owners[rows[question], span] = question
        lasts.append(start + len(new) - 1)
    return ids, positions, owners, lasts


def _branch_mask(owners: torch.Tensor, new: int, *, dtype: torch.dtype) -> torch.Tensor:
    """(rows, 1, new, length) additive mask: a token sees the prefix, and what its own question has before it."""
    columns = torch.arange(owners.shape[1], device=owners.device)
    asking, at = owners[:, -new:, None], columns[-new:, None]
    seen = (owners[:, None] == _EVERYONE) | ((owners[:, None] == asking) & (columns <= at))
    return torch.zeros_like(seen, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)[:, None]


@contextmanager
def patches_as_product(model: Any) -> Iterator[None]:
    """The vision tower's patches embedded by one matrix product: a convolution whose step is its kernel is nothing
    else, and torch's Conv3d is slow at it (a tenth of a prefix's time with the tiny model on a CPU)."""
    embed = model.model.visual.patch_embed
    weight = embed.proj.weight  # Qwen2.5-VL has no bias here
    embed.forward = lambda pixels: torch.nn.functional.linear(pixels.to(weight.dtype), weight.flatten(1))
    try:
        yield
    finally:
        del embed.forward


@contextmanager
def _masked_attention(model: Any) -> Iterator[None]:
    """Attention that takes a mask for each pair of tokens: flash-attention does not, SDPA and eager do."""
    config = model.model.language_model.config
    given = config._attn_implementation
    if given not in ("sdpa", "eager"):
        config._attn_implementation = "sdpa"
    try:
        yield
    finally:
        config._attn_implementation = given


def pad_left(
    rows: Sequence[tuple[list[int], torch.Tensor]], *, pad: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(rows, length) ids, (rows, length) mask and (3, rows, length) positions, padding at 0."""
    length = max(len(ids) for ids, _ in rows)
    padded = torch.full((len(rows), length), pad)
    mask = torch.zeros_like(padded)
    positions = padded.new_zeros(3, len(rows), length)
    for index, (ids, places) in enumerate(rows):
        start = length - len(ids)
        padded[index, start:] = torch.tensor(ids)
        mask[index, start:] = 1
        positions[:, index, start:] = places
    return padded.to(device), mask.to(device), positions.to(device)
