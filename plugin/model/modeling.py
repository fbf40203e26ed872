"""AD-Copilot's model: Qwen2.5-VL with a Comparison Encoder beside its vision tower (paper, section IV, Figure 3).

Everything of Qwen2.5-VL is inherited (transformers/models/qwen2_5_vl/modeling_qwen2_5_vl.py); this file adds the place
where comparison tokens enter the sequence. Without comparison tokens in the input the logits are Qwen2.5-VL's, bit for
bit, and an image's own tokens are the same with and without.
"""

import functools
import threading

import torch
from torch import nn
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLModel,
    Qwen2_5_VLPreTrainedModel,
)

from .comparison_encoder import ComparisonEncoder
from .configuration import AdCopilotConfig
from .pairing import images_of_rows, images_of_tokens, previous_images
from .positions import diagonal_positions, window_order
from .upstream import CACHE_NAMES, TOKEN_TYPES, UNTRIED, check_upstream, warn_beyond_tried
from .vision import VisionAttention

# Labels that are not trained on: torch's and transformers' default.
IGNORE_INDEX = -100


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal in every element; what is not a number is equal to itself here and reported where logits are read."""
    return a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan())).all())


class AdCopilotModel(Qwen2_5_VLModel):
    """`Qwen2_5_VLModel` whose sequence may hold comparison tokens after each image's own tokens."""

    config: AdCopilotConfig
    config_class = AdCopilotConfig
    base_model_prefix = "model"  # `AutoModel` loads the whole model's folder; transformers 5 has it upstream
    _checkpoint_conversion_mapping = {}  # weights are stored under the names of this class; see conversion.py
    # The encoder whole: what its blocks return is added to their inputs, on one device.
    _no_split_modules = ["Qwen2_5_VLDecoderLayer", "Qwen2_5_VLVisionBlock", "ComparisonEncoder"]

    def __init__(self, config: AdCopilotConfig):
        check_upstream(Qwen2_5_VLModel, "get_rope_index", "get_image_features")
        super().__init__(config)
        for block in self.visual.blocks:
            block.attn = VisionAttention(config.vision_config)
        self.comparison_encoder = ComparisonEncoder(config=config)
        self.post_init()

    @property
    def _merge_size(self) -> int:
        return self.config.vision_config.spatial_merge_size

    def _token_mask(self, input_ids, inputs_embeds, token_id: int) -> torch.Tensor:
        """(rows, length) true where the token is `token_id`; by embedding, as upstream, when ids are not given."""
        if input_ids is not None:
            return input_ids == token_id
        embedding = self.get_input_embeddings()(torch.tensor(token_id, device=inputs_embeds.device))
        return (inputs_embeds == embedding).all(-1)

    def _comparison_tokens_of_images(
        self, comparison_mask: torch.Tensor, compared: list[int], num_images: int
    ) -> torch.Tensor | None:
        """Flat indices (compared images, L) of each one's comparison tokens, or None if the text has none.

        Args:
            comparison_mask: (rows, length) true at comparison pad tokens.
            compared: indices of the images that are to have comparison tokens.
            num_images: N, of all.

        Raises:
            ValueError: some images have comparison tokens and others not, or they are cut short.
        """
        tokens = comparison_mask.flatten().nonzero()[:, 0]
        if len(tokens) == 0:
            return None
        config = self.config
        expected = len(compared) * config.num_comparison_tokens
        if len(tokens) != expected:
            which = f"{num_images} images"
            if len(compared) < num_images:
                which = f"{len(compared)} of {which}, those after the first of each conversation,"
            raise ValueError(
                f"{which} need {expected} comparison tokens ({config.num_comparison_tokens} each) but the text has "
                f"{len(tokens)}: was the text cut (raise `cutoff_len`), does it say <|compare_pad|> itself, or was it "
                "written by a processor with another `num_comparison_tokens` or `comparison_of_first`?"
            )
        return tokens.view(len(compared), -1)

    def _compared_images(self, comparison_mask: torch.Tensor, last: torch.Tensor) -> list[int]:
        """Indices of the images that the text gives comparison tokens, which follow at once on their own; `last`: (N,)
        flat index of the last token of each image."""
        if self.config.comparison_of_first:
            return list(range(len(last)))
        after = nn.functional.pad(comparison_mask.flatten(), (0, 1))[last + 1]
        return after.nonzero()[:, 0].tolist()

    def token_types(self, input_ids: torch.LongTensor) -> torch.Tensor:
        """What transformers 5 calls `mm_token_type_ids`, from the ids alone: text 0 (comparison tokens too), image 1,
        video 2."""
        types = torch.zeros_like(input_ids, dtype=torch.int)
        types[input_ids == self.config.image_token_id] = 1
        types[input_ids == self.config.video_token_id] = 2
        return types

    def get_rope_index(
        self,
        input_ids: torch.LongTensor | None = None,
        image_grid_thw: torch.LongTensor | None = None,
        video_grid_thw: torch.LongTensor | None = None,
        second_per_grid_ts: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        mm_token_type_ids: torch.Tensor | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Positions as Qwen2.5-VL gives them to the sequence without comparison tokens, and their images' diagonals to
        the comparison tokens. Text after an image starts where it would have started without them.

        `mm_token_type_ids`, which transformers 5 wants, is derived from `input_ids`, so callers of either version may
        leave it out.

        Returns:
            (3, rows, length) ids and (rows, 1) deltas, as `Qwen2_5_VLModel.get_rope_index`.
        """
        version_args = {}
        if TOKEN_TYPES:
            version_args["mm_token_type_ids"] = mm_token_type_ids if input_ids is None else self.token_types(input_ids)

        comparison_mask = None
        if input_ids is not None and image_grid_thw is not None and len(image_grid_thw):
            comparison_mask = input_ids == self.config.comparison_token_id
        if comparison_mask is None or not comparison_mask.any():
            return super().get_rope_index(
                input_ids,
                image_grid_thw=image_grid_thw,
                video_grid_thw=video_grid_thw,
                second_per_grid_ts=second_per_grid_ts,
                attention_mask=attention_mask,
                **version_args,
            )

        attended = torch.ones_like(comparison_mask) if attention_mask is None else attention_mask.bool()
        position_ids, rope_deltas = super().get_rope_index(
            input_ids,
            image_grid_thw=image_grid_thw,
            video_grid_thw=video_grid_thw,
            second_per_grid_ts=second_per_grid_ts,
            attention_mask=(attended & ~comparison_mask).to(input_ids.dtype),
            **version_args,
        )
        if TOKEN_TYPES:  # before, it was counted from the whole length of the row
            rope_deltas = rope_deltas - (comparison_mask & attended).sum(-1, keepdim=True)

        image_mask = input_ids == self.config.image_token_id
        first = images_of_tokens(image_mask, image_grid_thw, merge_size=self._merge_size)
        last = first + image_grid_thw.to(first.device).prod(-1) // self._merge_size**2 - 1
        # not by conversations: in a packed row only the positions, which are made here, tell where one begins
        compared = self._compared_images(comparison_mask, last)
        places = self._comparison_tokens_of_images(comparison_mask, compared, len(first))
        if len(compared) < len(first):
            first, last = first[compared], last[compared]
        flat = position_ids.flatten(1)
        if not (flat[1:, first] == flat[:1, first]).all():  # transformers 5.3 to 5.5.3, stock models' too
            raise RuntimeError(UNTRIED.format("begins an image's positions at another time than row and column"))
        flat[:, places.flatten()] = diagonal_positions(
            flat[:, first],
            flat[:, last],
            num_tokens=self.config.num_comparison_tokens,
            scaled=self.config.comparison_position_ids == "scaled",
        ).flatten(1)
        return flat.view_as(position_ids), rope_deltas

    def encode_images(
        self, pixel_values: torch.Tensor, image_grid_thw: torch.LongTensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the vision tower once for an image's own tokens and for the features they are merged from.

        Args:
            pixel_values: (P, patch dimension) as the image processor makes them.
            image_grid_thw: (N, 3) patch grids.

        Returns:
            (tokens, T) the images' own tokens, exactly Qwen2.5-VL's, and (P, D) the features before the patch merger,
            in the image processor's order (the tower works in window order inside).
        """
        calls, thread = [], threading.get_ident()

        def keep(_, inputs, output):
            if threading.get_ident() == thread:  # a server may run this model from several threads
                calls.append((inputs[0], output))

        handle = self.visual.merger.register_forward_hook(keep)
        try:
            embeds = self.get_image_features(pixel_values, image_grid_thw)
        finally:
            handle.remove()
        embeds = torch.cat(tuple(getattr(embeds, "pooler_output", embeds)))  # an object in transformers 5
        order = torch.argsort(window_order(image_grid_thw, config=self.config.vision_config))
        # What the comparison rests on: one call of the merger, whose rows are the images' own tokens in window order.
        if len(calls) != 1 or not _same(calls[0][1][order].to(embeds.device), embeds):
            raise RuntimeError(UNTRIED.format("merges an image's patches in another order than AD-Copilot knows"))
        features = calls[0][0].unflatten(0, (-1, self._merge_size**2))[order].flatten(0, 1)
        return embeds, features

    def _embed_images(
        self, input_ids, inputs_embeds, pixel_values, image_grid_thw, position_ids, previous_image
    ) -> tuple[torch.Tensor, bool]:
        """Put the images' own tokens and their comparison tokens in their places of `inputs_embeds`; whether there
        are comparison tokens at all."""
        image_mask = self._token_mask(input_ids, inputs_embeds, self.config.image_token_id)
        comparison_mask = self._token_mask(input_ids, inputs_embeds, self.config.comparison_token_id)
        # both raise on a mismatch, so they come before any work
        pairs = previous_images(image_mask, image_grid_thw, position_ids, merge_size=self._merge_size)
        of_first = self.config.comparison_of_first
        compared = [index for index, previous in enumerate(pairs) if of_first or previous != index]
        places = self._comparison_tokens_of_images(comparison_mask, compared, len(image_grid_thw))
        if previous_image is not None:
            pairs = self._check_previous(previous_image, len(image_grid_thw))
        if places is not None and position_ids is not None:
            by_ids = input_ids is not None
            self._check_positions(position_ids, image_mask, image_grid_thw, compared, places, by_ids)

        def put(mask: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
            # tower, encoder and embeddings may lie on three devices (`device_map`), as upstream allows for its own
            return inputs_embeds.masked_scatter(mask[..., None].to(inputs_embeds.device), tokens.to(inputs_embeds))

        image_embeds, features = self.encode_images(pixel_values, image_grid_thw)
        inputs_embeds = put(image_mask, image_embeds)
        if places is not None:
            compared_tokens = self.comparison_encoder(features, image_grid_thw, pairs, compared)
            inputs_embeds = put(comparison_mask, compared_tokens)
        return inputs_embeds, places is not None

    @staticmethod
    def _check_previous(previous_image, num_images: int) -> list[int]:
        """A caller's `previous_image` as a list.

        Raises:
            ValueError: it is not one index of an image for each image.
        """
        pairs = [int(index) for index in previous_image]
        if len(pairs) != num_images or not all(0 <= index < num_images for index in pairs):
            raise ValueError(f"previous_image is {pairs}, expected {num_images} indices from 0 to {num_images - 1}")
        return pairs

    def _check_positions(self, position_ids, image_mask, image_grid_thw, compared, places, by_ids) -> None:
        """Comparison tokens share their image's time, or somebody made positions without `get_rope_index`.

        Raises:
            ValueError: they do not.
        """
        # (rows, length) counts text alone, as transformers 4 does for `prefill_chunk_size`; it can be before the three
        time = (position_ids[-3] if position_ids.dim() == 3 else position_ids).flatten()
        first = images_of_tokens(image_mask, image_grid_thw, merge_size=self._merge_size)
        if len(compared) < len(first):
            first = first[compared]
        if not torch.equal(time[places], time[first][:, None].expand_as(places)):
            if not by_ids:
                raise ValueError(
                    "images were given with inputs_embeds, whose positions `generate` counts as if all were text: "
                    "leave inputs_embeds out and pass input_ids beside pixel_values and image_grid_thw, or call the "
                    "model itself with the position_ids that `get_rope_index` makes of the ids"
                )
            raise ValueError(
                UNTRIED.format("gives comparison tokens positions that are not those of `get_rope_index`")
            )

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        pixel_values: torch.Tensor | None = None,
        image_grid_thw: torch.LongTensor | None = None,
        previous_image: list[int] | None = None,
        **kwargs,
    ):
        """As `Qwen2_5_VLModel.forward`.

        Args:
            previous_image: for each image the index of the image it is compared with; left out, each row of
                `input_ids` (and each sequence of a packed row, seen from `position_ids`) is one conversation.

        Raises:
            ValueError: image or comparison tokens that do not match the images; comparison tokens without images;
                images given together with a filled KV cache, where the predecessor of the first is no longer known,
                nor their positions; embeddings of comparison tokens without `position_ids`; or a `previous_image`
                that is not one index for each image.
        """
        if (kwargs.get("mm_encoder_outputs") or {}).get("image") is not None:
            raise ValueError(
                "AD-Copilot compares images by their pixels: pass pixel_values, not images that were encoded before "
                "(mm_encoder_outputs)"
            )
        cache = next((kwargs[name] for name in CACHE_NAMES if kwargs.get(name) is not None), None)
        begins = cache is None or cache.get_seq_length() == 0
        compared = False
        is_text = pixel_values is None and input_ids is not None and input_ids.shape[1] > 1
        if is_text and (input_ids == self.config.comparison_token_id).any():
            # Whoever lost the pixels on the way here would get an answer without comparison, and no word.
            raise ValueError(UNTRIED.format("passes comparison tokens on without their pixel_values"))
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)
        if pixel_values is not None:
            if not begins and previous_image is None:
                raise ValueError(
                    "images were given with a filled KV cache: the image before them is not in this call, so they "
                    "cannot be compared with it; pass the whole conversation, or `previous_image` and position_ids"
                )
            inputs_embeds, compared = self._embed_images(
                input_ids, inputs_embeds, pixel_values, image_grid_thw, position_ids, previous_image
            )
        if compared and position_ids is None:
            if input_ids is None or not begins:  # upstream would count all as text
                raise ValueError(
                    "images were given "
                    + ("without input_ids" if input_ids is None else "with a filled KV cache")
                    + ", from which their positions cannot be told: pass position_ids, `get_rope_index` of the whole "
                    "conversation's ids makes them"
                )
            # as upstream does a moment later; here, so that it is this class's positions whatever upstream calls then
            videos = {name: kwargs[name] for name in ("video_grid_thw", "second_per_grid_ts") if name in kwargs}
            position_ids, self.rope_deltas = self.get_rope_index(
                input_ids, image_grid_thw, attention_mask=attention_mask, **videos
            )
        if TOKEN_TYPES and input_ids is not None:  # without them upstream would fall back to text positions
            kwargs["mm_token_type_ids"] = self.token_types(input_ids)
        return super().forward(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            image_grid_thw=image_grid_thw,
            **kwargs,
        )


class AdCopilotForConditionalGeneration(Qwen2_5_VLForConditionalGeneration):
    """`Qwen2_5_VLForConditionalGeneration` over `AdCopilotModel`; generation, beams and loss are inherited."""

    config: AdCopilotConfig
    config_class = AdCopilotConfig
    _checkpoint_conversion_mapping = {}
    _no_split_modules = AdCopilotModel._no_split_modules
    #: Whether logits are only made where a label is to be predicted (`forward`). LlamaFactory, whose trainers ask for
    #: no more, sets it; other trainers (TRL's) hold the logits of training against the whole text.
    logits_where_labels = False

    def __init__(self, config: AdCopilotConfig):
        warn_beyond_tried()
        check_upstream(Qwen2_5_VLForConditionalGeneration, "_expand_inputs_for_generation")
        # not the direct parent's: it would first build a whole Qwen2.5-VL to throw away
        Qwen2_5_VLPreTrainedModel.__init__(self, config)
        self.model = AdCopilotModel(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self.post_init()

    @functools.wraps(Qwen2_5_VLForConditionalGeneration.forward)  # its signature, which `generate` and Trainer read
    def forward(self, *args, **kwargs):
        """As upstream's; but while training with `logits_where_labels`, logits are made where the answer is judged.

        A prompt with two large images has 20,000 tokens and an answer of 100: logits for all of them are 6 GB in
        bfloat16 at 7B, and four times that with their float32 copy and gradients. `logits` of the output are
        (rows, K, vocabulary) then, for the K places at which any row has a label to be predicted.
        """
        labels = kwargs.get("labels")
        chosen = "logits_to_keep" in kwargs or "shift_labels" in kwargs
        if labels is None or chosen or not self.training or not self.logits_where_labels:
            return super().forward(*args, **kwargs)
        shifted = nn.functional.pad(labels, (0, 1), value=IGNORE_INDEX)[:, 1:]
        places = (shifted != IGNORE_INDEX).any(0).nonzero()[:, 0]
        if len(places):
            kwargs |= {"logits_to_keep": places, "shift_labels": shifted[:, places]}
        return super().forward(*args, **kwargs)

    def generate(self, inputs=None, generation_config=None, *args, **kwargs):
        """As upstream's.

        Raises:
            ValueError: `prefill_chunk_size` for a prompt with images. Its pieces part an image from its comparison
                tokens and, in some versions, count positions as if all were text.
        """
        size = kwargs.get("prefill_chunk_size")
        if size is None:
            size = getattr(generation_config or self.generation_config, "prefill_chunk_size", None)
        if size is not None and kwargs.get("pixel_values") is not None:
            raise ValueError(
                f"prefill_chunk_size is {size}, but the prompt has images, which are compared in one piece: leave "
                "prefill_chunk_size out"
            )
        return super().generate(inputs, generation_config, *args, **kwargs)

    def _prepare_position_ids_for_generation(self, inputs_tensor, model_kwargs):
        """Only transformers 5 calls this. `mm_token_type_ids` are filled in for callers that do not pass them."""
        ids = model_kwargs.get("input_ids", inputs_tensor)
        if not torch.is_floating_point(ids):
            model_kwargs = {**model_kwargs, "mm_token_type_ids": self.model.token_types(ids)}
        return super()._prepare_position_ids_for_generation(inputs_tensor, model_kwargs)

    def _supports_mm_encoder_outputs(self) -> bool:
        """No: `generate`, which asks since transformers 5.18, would encode the images by themselves."""
        return False

    def _expand_inputs_for_generation(self, expand_size=1, is_encoder_decoder=False, input_ids=None, **model_kwargs):
        """Each row `expand_size` times, with its images and videos: rows of pixels and grids are theirs, not the
        prompts'. Upstream does so only up to 5.17; since then it expects them encoded."""
        expanded = {}
        for token_id, names in (
            (self.config.image_token_id, ("image_grid_thw", "pixel_values")),
            (self.config.video_token_id, ("video_grid_thw", "pixel_values_videos", "second_per_grid_ts")),
        ):
            grids = model_kwargs.get(names[0])
            if expand_size == 1 or grids is None:
                continue
            ids = input_ids if input_ids is not None and input_ids.shape[1] else None  # embeddings came instead
            mask = self.model._token_mask(ids, model_kwargs.get("inputs_embeds"), token_id)
            rows = images_of_rows(mask, grids, merge_size=self.model._merge_size)
            places = [place for row in rows for _ in range(expand_size) for place in row]
            for name in names:
                values = model_kwargs.pop(name, None)
                if values is None:
                    continue
                if name.startswith("pixel"):  # as many rows for an image as it has patches; of all else one
                    pieces = values.split(grids.prod(-1).tolist())
                    expanded[name] = torch.cat([pieces[place] for place in places])
                else:
                    expanded[name] = values[places]
        input_ids, model_kwargs = super()._expand_inputs_for_generation(
            expand_size, is_encoder_decoder, input_ids, **model_kwargs
        )
        return input_ids, {**model_kwargs, **expanded}

    @property
    def comparison_encoder(self) -> ComparisonEncoder:
        """The Comparison Encoder, beside upstream's `visual` and `language_model`."""
        return self.model.comparison_encoder


__all__ = ["AdCopilotForConditionalGeneration", "AdCopilotModel"]
