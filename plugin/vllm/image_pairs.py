"""What vLLM schedules, hashes and caches for AD-Copilot: not an image, but an image together with the one before it.

An image's comparison tokens depend on its predecessor, while vLLM treats each image as an item of its own: it caches
the item's pixels and its encoder output under the item's hash, shares prefixes by it, and may encode it alone, in
another step than its predecessor or in another request. So here an item is a pair: its hash is made of both images'
hashes, and it carries both images' pixels. Everything of vLLM's that goes by items is right from then on.

An image that is the first of its conversation is its own predecessor, and its pixels are carried once. Under
`comparison_of_first: false` it has none, and no comparison tokens.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from transformers import BatchFeature
from vllm.model_executor.models.qwen2_5_vl import Qwen2_5_VLMultiModalProcessor, Qwen2_5_VLProcessingInfo
from vllm.multimodal.inputs import MultiModalFieldConfig
from vllm.multimodal.parse import ImageProcessorItems, MultiModalDataItems
from vllm.multimodal.processing import PromptReplacement

from ..model.pairing import comparison_tokens_of
from ..model.processing import AdCopilotProcessor


class ImagePair(NamedTuple):
    """An image and the one before it in the conversation; of the first, itself, or None if it is not compared."""

    previous: object | None
    image: object


def pair_images(images: Sequence[object], hashes: Sequence[str], *, of_first: bool = True) -> list[ImagePair | None]:
    """Pair each image of a conversation with its predecessor; the first with itself, or `of_first` false, with none.

    Images of one hash become one object, by which `_call_hf_processor` knows an image that it has already: vLLM makes
    an object of its own of each. An image that the client only names by its uuid is None, and so is a pair without
    both images: vLLM then takes the pair from its cache, or says that data is missing.
    """
    known = {key: image for key, image in zip(hashes, images, strict=True) if image is not None}
    images = [known.get(key) for key in hashes]
    before = [images[0] if of_first else None, *images[:-1]] if images else []
    pairs = []
    for place, (previous, image) in enumerate(zip(before, images, strict=True)):
        missing = image is None or (previous is None and (place or of_first))
        pairs.append(None if missing else ImagePair(previous, image))
    return pairs


def pair_hashes(hashes: Sequence[str], *, of_first: bool = True) -> list[str]:
    """The pairs' hashes from the images' own, in the order of the conversation.

    An own digest: vLLM's hasher changes its signature from line to line, and a hash of hashes needs nothing of it. As
    JSON, so that a client's uuids, which may hold any character, cannot be split in two ways.
    """
    previous = [hashes[0] if of_first else None, *hashes[:-1]] if hashes else []
    pairs = zip(previous, hashes, strict=True)
    return [hashlib.sha256(json.dumps(pair).encode()).hexdigest() for pair in pairs]


class AdCopilotProcessingInfo(Qwen2_5_VLProcessingInfo):
    """Qwen2.5-VL's, with comparison tokens counted in and images as the only modality."""

    def get_hf_processor(self, **kwargs: object) -> AdCopilotProcessor:
        return self.ctx.get_hf_processor(AdCopilotProcessor, **kwargs)

    def get_supported_mm_limits(self) -> Mapping[str, int | None]:
        return {"image": None}

    def get_mm_max_tokens_per_item(self, seq_len: int, mm_counts: Mapping[str, int]) -> Mapping[str, int]:
        return {"image": self.get_max_image_tokens()}

    def get_num_image_tokens(self, **kwargs) -> int:
        """Tokens of an image of some size, its comparison tokens included."""
        return super().get_num_image_tokens(**kwargs) + self.get_hf_config().num_comparison_tokens


class AdCopilotMultiModalProcessor(Qwen2_5_VLMultiModalProcessor):
    """Turns a prompt's images into pairs, and each image pad of the prompt into image and comparison pads."""

    def apply(self, inputs, timing_ctx):
        """As upstream's.

        Raises:
            ValueError: precomputed image embeddings, from which nothing can be compared; or a prompt whose own text
                holds image or comparison pads.
        """
        images = inputs.mm_data_items.get("image")
        of_first = self.info.get_hf_config().comparison_of_first
        if images:
            if not isinstance(images, ImageProcessorItems):
                raise ValueError(
                    "AD-Copilot compares images by their pixels: send images, not precomputed image embeddings"
                )
            hashes = self._get_mm_hashes(inputs)["image"]
            pairs = pair_images(images.get_all(), hashes, of_first=of_first)
            inputs = replace(
                inputs,
                mm_data_items=MultiModalDataItems({**inputs.mm_data_items, "image": ImageProcessorItems(pairs)}),
                mm_uuid_items={**(inputs.mm_uuid_items or {}), "image": pair_hashes(hashes, of_first=of_first)},
            )
        processed = super().apply(inputs, timing_ctx)
        self._check_pads(processed, num_images=len(images or ()))
        return processed

    def _check_pads(self, processed, *, num_images: int) -> None:
        """Refuse a prompt with more pads than its images account for: written out in a user's text, they would be
        taken for the places of the images."""
        config = self.info.get_hf_config()
        ranges = processed["mm_placeholders"].get("image", ())
        expected_comparisons = sum(comparison_tokens_of(config, place) for place in range(num_images))
        for name, token_id, expected in (
            ("<|image_pad|>", config.image_token_id, sum(one.length for one in ranges) - expected_comparisons),
            ("<|compare_pad|>", config.comparison_token_id, expected_comparisons),
        ):
            found = processed["prompt_token_ids"].count(token_id)
            if found != expected:
                raise ValueError(
                    f"the prompt has {found} {name} tokens where its {num_images} images make {expected}: write one "
                    "<|image_pad|> for each image and no other pad; text must not contain them"
                )

    def _call_hf_processor(self, hf_data: Mapping[str, object], hf_kwargs: Mapping[str, object]) -> BatchFeature:
        """Preprocess each image of the pairs once; the prompt comes tokenized, its pads left to `_get_prompt_updates`.

        Args:
            hf_data: `images`, N pairs.

        Returns:
            `pixel_values` (P, patch dimension) and `image_grid_thw` (N, 3) of the images, `previous_pixel_values`
            (P', patch dimension) and `previous_image_grid_thw` (N, 3) of their predecessors, the latter empty and
            zero where an image is its own or has none. Pixels are raw uint8 unless vLLM was told
            `mm_device_do_normalize=False`: the tower normalises them.
        """
        pairs = hf_data["images"]
        images = {id(image): image for pair in pairs for image in pair if image is not None}
        place = {key: index for index, key in enumerate(images)}
        processed = super()._call_hf_processor({"images": list(images.values())}, hf_kwargs)

        grids = processed["image_grid_thw"]
        pixels = processed["pixel_values"].split(grids.prod(-1).tolist())
        current = [place[id(pair.image)] for pair in pairs]
        previous = [place.get(id(pair.previous)) for pair in pairs]
        if self.info.get_hf_config().comparison_of_first:
            # otherwise an image after its like is compared with it, and only the first of a conversation has no grid
            previous = [None if p == x else p for x, p in zip(current, previous, strict=True)]
        empty, no_grid = pixels[0][:0], torch.zeros_like(grids[0])
        return BatchFeature(
            {
                "pixel_values": torch.cat([pixels[x] for x in current]),
                "image_grid_thw": grids[current],
                "previous_pixel_values": torch.cat([empty if p is None else pixels[p] for p in previous]),
                "previous_image_grid_thw": torch.stack([no_grid if p is None else grids[p] for p in previous]),
            }
        )

    def _get_mm_fields_config(self, hf_inputs, hf_processor_mm_kwargs) -> Mapping[str, MultiModalFieldConfig]:
        previous_grids = hf_inputs.get("previous_image_grid_thw", torch.empty((0, 3), dtype=torch.int64))
        return {
            **super()._get_mm_fields_config(hf_inputs, hf_processor_mm_kwargs),
            "previous_pixel_values": MultiModalFieldConfig.flat_from_sizes("image", previous_grids.prod(-1)),
            "previous_image_grid_thw": MultiModalFieldConfig.batched("image", keep_on_cpu=True),
        }

    def _get_prompt_updates(self, mm_items, hf_processor_mm_kwargs, out_mm_kwargs) -> list[PromptReplacement]:
        config = self.info.get_hf_config()
        merge_length = config.vision_config.spatial_merge_size**2

        def pads(index: int) -> list[int]:
            item = out_mm_kwargs["image"][index]
            own = [config.image_token_id] * (int(item["image_grid_thw"].data.prod()) // merge_length)
            # not by `index`, which counts the images that vLLM has not in its cache
            place = int(item["previous_image_grid_thw"].data.any())
            return own + [config.comparison_token_id] * comparison_tokens_of(config, place)

        return [PromptReplacement(modality="image", target=[config.image_token_id], replacement=pads)]
