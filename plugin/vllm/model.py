"""AD-Copilot for vLLM: its Qwen2.5-VL with the Comparison Encoder beside the vision tower.

Shapes in this file: N = images, P = patches of all images together, M = their merged tokens, L = comparison tokens of
an image, D = the vision tower's width, T = the language model's.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

import torch
from vllm.config import VllmConfig
from vllm.model_executor.models.module_mapping import MultiModelKeys
from vllm.model_executor.models.qwen2_5_vl import (
    Qwen2_5_VisionPatchMerger,
    Qwen2_5_VLDummyInputsBuilder,
    Qwen2_5_VLForConditionalGeneration,
)
from vllm.model_executor.models.utils import WeightsMapper
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm.multimodal.inputs import MultiModalFeatureSpec

from ..errors import UserError
from ..model.comparison_encoder import ComparisonEncoder
from ..model.pairing import comparison_tokens_of
from ..model.positions import diagonal_positions
from .image_pairs import AdCopilotMultiModalProcessor, AdCopilotProcessingInfo


class FeatureKeepingPatchMerger(Qwen2_5_VisionPatchMerger):
    """Upstream's merger, which keeps its input: the features that images are compared by.

    The tower's own merger is made one by assigning `__class__`: the tower builds it itself, and vLLM's compilation
    decorator replaces `__call__` by one that skips forward hooks, the usual way.
    """

    features: torch.Tensor | None = None  # (P, 1, D) in the tower's window order

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        self.features = x
        return super().__call__(x)


@MULTIMODAL_REGISTRY.register_processor(
    AdCopilotMultiModalProcessor, info=AdCopilotProcessingInfo, dummy_inputs=Qwen2_5_VLDummyInputsBuilder
)
class AdCopilotForConditionalGeneration(Qwen2_5_VLForConditionalGeneration):
    """`Qwen2_5_VLForConditionalGeneration` whose images bring their comparison tokens; see `image_pairs.py`.

    Under tensor parallelism each rank has the whole Comparison Encoder: its inputs are whole on each rank, and it is
    small beside the tower. LoRA adapters are those of the language model.

    Raises:
        UserError: vLLM was told to take adapters of the tower (`--enable-tower-connector-lora`). It would lay them out
            by the item's tokens, while the tower also runs on predecessors. Or to capture its images' encoding in CUDA
            graphs (`cudagraph_mm_encoder`): vLLM then runs the tower alone, past the comparison.
    """

    hf_to_vllm_mapper = WeightsMapper(
        # vLLM drops without a word what an adapter holds for layers that are not its own; under this name it refuses
        orig_to_new_regex={
            re.compile(r"^(model\.comparison_encoder\..+)(\.lora_[AB]\.weight)$"): (
                r"\1.merge_this_adapter_into_the_weights\2"
            )
        },
        orig_to_new_prefix={
            "model.comparison_encoder.": "comparison_encoder.",
            **Qwen2_5_VLForConditionalGeneration.hf_to_vllm_mapper.orig_to_new_prefix,
        },
    )

    # its sharded tower returns merged tokens only, where the encoder needs what they are merged from
    supports_encoder_tp_data = False
    supports_multimodal_pruning = False  # of videos, which this model does not take
    supports_tower_connector_lora = False

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = ""):
        lora = vllm_config.lora_config
        if lora is not None and lora.enable_tower_connector_lora:
            raise UserError(
                "--enable-tower-connector-lora: AD-Copilot takes adapters of the language model only; leave it out, "
                "and merge an adapter of the vision tower into the weights first"
            )
        # vLLM asks whether the class has the methods, which it inherits, so there is no flag to say no by
        if vllm_config.compilation_config.cudagraph_mm_encoder:
            raise UserError(
                "cudagraph_mm_encoder: AD-Copilot's images are compared outside of the graphs that vLLM would replay; "
                "leave it out of --compilation-config"
            )
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        config = self.config
        self.visual.merger.__class__ = FeatureKeepingPatchMerger
        self.comparison_encoder = ComparisonEncoder(config=config)
        # as in generation_config.json, whose `suppress_tokens` vLLM does not read
        self.banned_tokens = [config.image_token_id, config.video_token_id, config.comparison_token_id]

    def get_mrope_input_positions(
        self, input_tokens: list[int], mm_features: list[MultiModalFeatureSpec]
    ) -> tuple[torch.Tensor, int]:
        """Positions as Qwen2.5-VL gives them to the prompt without comparison tokens, and their images' diagonals to
        the comparison tokens, as `AdCopilotModel.get_rope_index`.

        Returns:
            (3, length) ids, and what added to a later token's place gives its position.
        """
        features = sorted(mm_features, key=lambda feature: feature.mm_position.offset)
        without, removed = [], 0
        for place, feature in enumerate(features):
            where, num_tokens = feature.mm_position, comparison_tokens_of(self.config, place)
            where = replace(where, offset=where.offset - removed, length=where.length - num_tokens)
            without.append(replace(feature, mm_position=where))
            removed += num_tokens
        positions, delta = super().get_mrope_input_positions(input_tokens[removed:], without)

        pieces, begin = [], 0
        for place, feature in enumerate(without):
            first = feature.mm_position.offset
            end = first + feature.mm_position.length
            pieces.append(positions[:, begin:end])
            begin = end
            if num_tokens := comparison_tokens_of(self.config, place):
                diagonal = diagonal_positions(
                    positions[:, first, None],
                    positions[:, end - 1, None],
                    num_tokens=num_tokens,
                    scaled=self.config.comparison_position_ids == "scaled",
                )
                pieces.append(diagonal[:, 0])
        return torch.cat([*pieces, positions[:, begin:]], dim=1), delta - removed

    def _encode_images(self, pixel_values: torch.Tensor, grid_thw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the vision tower once for images' own tokens and for the features they are merged from.

        Args:
            pixel_values: (P, patch dimension).
            grid_thw: (N, 3) patch grids, on the CPU.

        Returns:
            (M, T) and (P, D), both in the image processor's order.
        """
        tokens = self.visual(pixel_values, grid_thw=grid_thw.tolist())
        features, self.visual.merger.features = self.visual.merger.features, None
        unit = self.visual.spatial_merge_unit
        window_order, begin = [], 0
        for grid in grid_thw.tolist():
            index, _ = self.visual.get_window_index_thw(*grid)
            window_order.append(index + begin)
            begin += len(index)
        back = torch.argsort(torch.cat(window_order)).to(tokens.device)
        return tokens, features.reshape(begin, unit, -1)[back].flatten(0, 1)

    def embed_multimodal(
        self,
        *,
        pixel_values: torch.Tensor | None = None,
        image_grid_thw: torch.Tensor | None = None,
        previous_pixel_values: torch.Tensor | None = None,
        previous_image_grid_thw: torch.Tensor | None = None,
        **kwargs: object,
    ) -> Sequence[torch.Tensor]:
        """Encode images of any requests, each with what it is compared with.

        Args:
            pixel_values: (P, patch dimension) of N images.
            image_grid_thw: (N, 3).
            previous_pixel_values: (P', patch dimension) of those predecessors that are not the image itself.
            previous_image_grid_thw: (N, 3), zero where the image is its own predecessor or has none.

        Returns:
            N tensors (an image's merged tokens + L, T), without the L where an image is not compared.
        """
        if pixel_values is None:
            return []
        tokens, features = self._encode_images(pixel_values, image_grid_thw)
        images = list(pixel_values.split(image_grid_thw.prod(-1).tolist()))
        all_features, all_grids = [features], [image_grid_thw]
        previous_image, unseen, unseen_grids = [], [], []
        previous_pixels = previous_pixel_values.split(previous_image_grid_thw.prod(-1).tolist())
        for index, (pixels, grid) in enumerate(zip(previous_pixels, previous_image_grid_thw, strict=True)):
            if not len(pixels):
                previous_image.append(index)
                continue
            # the predecessor is often an image of this very batch, or another's predecessor
            known = _find(pixels, grid, [*images, *unseen], [*image_grid_thw, *unseen_grids])
            if known is None:
                known = len(images) + len(unseen)
                unseen.append(pixels)
                unseen_grids.append(grid)
            previous_image.append(known)
        if unseen:
            grids = torch.stack(unseen_grids)
            # a pass of its own: the first is as large as the one by which vLLM measured the memory it may use
            all_features.append(self._encode_images(torch.cat(unseen), grids)[1])
            all_grids.append(grids)

        sizes = (image_grid_thw.prod(-1) // self.visual.spatial_merge_unit).tolist()
        embeddings = list(tokens.split(sizes))
        of_first = self.config.comparison_of_first
        compared = [index for index, grid in enumerate(previous_image_grid_thw.tolist()) if of_first or any(grid)]
        if compared:
            grids = torch.cat(all_grids).to(features.device)
            comparisons = self.comparison_encoder(torch.cat(all_features), grids, previous_image, compared)
            for index, comparison in zip(compared, comparisons.to(tokens.dtype), strict=True):
                embeddings[index] = torch.cat([embeddings[index], comparison])
        return embeddings

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor | None:
        """As upstream's, with the pads of images, videos and comparisons at minus infinity: a sampled pad would be
        taken for an image that is not there."""
        logits = super().compute_logits(hidden_states)
        if logits is not None:
            logits[..., self.banned_tokens] = float("-inf")
        return logits

    def get_mm_mapping(self) -> MultiModelKeys:
        """Module prefixes. The Comparison Encoder gets no adapters, as the tower does not."""
        return MultiModelKeys.from_string_field(
            language_model="language_model",
            connector="visual.merger.",
            tower_model=["visual.", "comparison_encoder."],
        )


def _find(
    pixels: torch.Tensor, grid: torch.Tensor, among: list[torch.Tensor], grids: list[torch.Tensor]
) -> int | None:
    """Index of an image with the same pixels and the same grid, or None."""
    for index, (other, other_grid) in enumerate(zip(among, grids, strict=True)):
        if torch.equal(grid, other_grid) and torch.equal(pixels, other):
            return index
    return None
