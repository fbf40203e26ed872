"""Prefixes run: whole ones, and those of pairs with the same templates, of which the beginning runs once.

A prompt begins with its templates and goes on with the query. Up to there, the trunk, keys and values are the same for
each query that is shown with these templates, and the query is compared with the last of them, whose patch features
are kept. So a trunk runs once; from it each pair's prefix goes on with the query's own image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from adcopilot.model import AdCopilotConfig

from .branching import Prefix, Prompt, pad_left, patches_as_product

__all__ = ["Stem", "Trunk", "grow", "plant", "trunk_length"]


@dataclass(frozen=True, kw_only=True)
class SeenImage:
    """An image that the vision tower has seen.

    Attributes:
        tokens: (n, T) its own tokens.
        features: (P, D) before the patch merger, in the image processor's order; None where nothing is compared.
        grid: (3,) its patch grid.
    """

    tokens: torch.Tensor
    features: torch.Tensor | None
    grid: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Trunk:
    """A trunk that has been run.

    Attributes:
        keys, values: of every layer, (1, heads, length, width).
        last: its last image, which the query is compared with.
    """

    keys: list[torch.Tensor]
    values: list[torch.Tensor]
    last: SeenImage

    @property
    def length(self) -> int:
        """In tokens."""
        return self.keys[0].shape[2]


@dataclass(frozen=True, kw_only=True)
class Stem:
    """What is to be run: tokens `start` to `end` of a prompt, and the images among them.

    Attributes:
        prompt: whole.
        start, end: of the part to run; what is before stands in a trunk.
        pixel_values: (P, patch dimension) of its images, None without images.
        grid: (N, 3) their patch grids.
    """

    prompt: Prompt
    start: int
    end: int
    pixel_values: torch.Tensor | None
    grid: torch.Tensor | None


def trunk_length(ids: Sequence[int], *, image_end: int) -> int:
    """Tokens up to the end of the last image but one; 0 where there are fewer than two images."""
    ends = [place for place, token in enumerate(ids) if token == image_end]
    return ends[-2] + 1 if len(ends) > 1 else 0


@torch.inference_mode()
def plant(model: Any, stems: Sequence[Stem], *, pad: int) -> list[Trunk]:
    """Run trunks, which begin at token 0."""
    seen = _see(model, stems)
    cache, mask = _run(model, stems, seen, [], pad=pad)
    trunks = []
    for row, images in enumerate(seen):
        start = int((mask[row] == 0).sum())  # a copy, so that the batch's padding does not stay in memory
        keys = [layer.keys[row : row + 1, :, start:].clone() for layer in cache.layers]
        values = [layer.values[row : row + 1, :, start:].clone() for layer in cache.layers]
        trunks.append(Trunk(keys=keys, values=values, last=images[-1]))
    return trunks


@torch.inference_mode()
def grow(model: Any, stems: Sequence[Stem], trunks: Sequence[Trunk] = (), *, pad: int) -> Prefix:
    """Run prefixes, padded on the left to the longest: whole ones, or the rest of each from its trunk.

    Args:
        stems: of each row, beginning at token 0 or where its trunk ends.
        trunks: of each row; one may stand in several.
        pad: token id of padding.
    """
    cache, mask = _run(model, stems, _see(model, stems), trunks, pad=pad)
    return Prefix(cache=cache, mask=mask)


def _see(model: Any, stems: Sequence[Stem]) -> list[list[SeenImage]]:
    """The images of each stem through the tower, all together."""
    pictured = [stem for stem in stems if stem.grid is not None]
    if not pictured:
        return [[] for _ in stems]
    grid = torch.cat([stem.grid for stem in pictured]).to(model.device)
    pixels = torch.cat([stem.pixel_values for stem in pictured]).to(model.device)
    with patches_as_product(model):
        if _compares(model):
            tokens, features = model.model.encode_images(pixels, grid)
        else:
            found = model.model.get_image_features(pixels, grid)
            tokens, features = torch.cat(tuple(getattr(found, "pooler_output", found))), None
    patches = grid.prod(-1).tolist()
    merge = model.config.vision_config.spatial_merge_size**2
    each_tokens = tokens.split([number // merge for number in patches])
    each_features = [None] * len(patches) if features is None else features.split(patches)
    images = (
        SeenImage(tokens=t, features=f, grid=g) for t, f, g in zip(each_tokens, each_features, grid, strict=True)
    )
    return [[] if stem.grid is None else [next(images) for _ in stem.grid] for stem in stems]


def _compares(model: Any) -> bool:
    return model.config.model_type == AdCopilotConfig.model_type


def _run(
    model: Any, stems: Sequence[Stem], seen: Sequence[Sequence[SeenImage]], trunks: Sequence[Trunk], *, pad: int
) -> tuple[DynamicCache, torch.Tensor]:
    """Run the stems, one a row, behind their trunks if there are any.

    Returns:
        The cache, and the (rows, length) mask of what is in it, 0 at padding.
    """
    spans = [slice(stem.start, stem.end) for stem in stems]
    rows = [(stem.prompt.ids[at], stem.prompt.positions[:, at]) for stem, at in zip(stems, spans, strict=True)]
    ids, mask, positions = pad_left(rows, pad=pad, device=model.device)
    embeds = model.get_input_embeddings()(ids)
    if any(seen):
        places = ids == model.config.image_token_id
        own = torch.cat([image.tokens for row in seen for image in row])
        if int(places.sum()) != len(own):
            raise ValueError(f"{int(places.sum())} image tokens in the prompts, {len(own)} of the images")
        embeds = embeds.masked_scatter(places[..., None], own.to(embeds))
    if any(seen) and _compares(model):
        places = ids == model.config.comparison_token_id
        compared = _compare(model, seen, trunks)
        if int(places.sum()) != compared.shape[0] * compared.shape[1]:
            raise ValueError(f"{int(places.sum())} comparison tokens in the prompts, {len(compared)} images compared")
        embeds = embeds.masked_scatter(places[..., None], compared.to(embeds))
    cache = DynamicCache()
    if trunks:
        length = max(trunk.length for trunk in trunks)
        for layer in range(len(trunks[0].keys)):
            both = [
                torch.cat([_to_length(states, length) for states in of_layer])
                for of_layer in ([one.keys[layer] for one in trunks], [one.values[layer] for one in trunks])
            ]
            cache.update(*both, layer)
        before = mask.new_zeros(len(trunks), length)
        for row, trunk in enumerate(trunks):
            before[row, length - trunk.length :] = 1
        mask = torch.cat([before, mask], 1)
    model.model(
        inputs_embeds=embeds,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
    )
    return cache, mask


def _to_length(states: torch.Tensor, length: int) -> torch.Tensor:
    """(1, heads, n, width) -> (1, heads, length, width), padded on the left."""
    return torch.nn.functional.pad(states, (0, 0, length - states.shape[2], 0))


def _compare(model: Any, seen: Sequence[Sequence[SeenImage]], trunks: Sequence[Trunk]) -> torch.Tensor:
    """(compared images, L, T) comparison tokens: each image with the one before it, the first with its trunk's or
    itself."""
    images = [image for row in seen for image in row]
    lasts = {id(trunk.last): trunk.last for trunk in trunks}
    place_of = {key: len(images) + place for place, key in enumerate(lasts)}
    previous, compared = [], []
    for row, in_row in enumerate(seen):
        if not in_row:
            continue
        first = len(previous)
        previous.append(place_of[id(trunks[row].last)] if trunks else first)
        previous += range(first, first + len(in_row) - 1)
        alone = not trunks and not model.config.comparison_of_first
        compared += range(first + alone, len(previous))
    every = [*images, *lasts.values()]
    features = torch.cat([image.features for image in every])
    if not compared:
        return features.new_zeros(0, model.config.num_comparison_tokens, model.config.text_config.hidden_size)
    return model.comparison_encoder(features, torch.stack([image.grid for image in every]), previous, compared)
