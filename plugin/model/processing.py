"""AD-Copilot's processor: Qwen2.5-VL's, with L comparison pads after each image's own pads."""

import json
from pathlib import Path

from transformers.models.qwen2_5_vl.processing_qwen2_5_vl import Qwen2_5_VLProcessor
from transformers.processing_utils import ImagesKwargs, ProcessingKwargs, Unpack

from .configuration import COMPARISON_TOKEN
from .pairing import comparison_tokens_of, with_comparison_pads


class AdCopilotImagesKwargs(ImagesKwargs, total=False):
    """What a call may set for images: Qwen2-VL's image processor's, beside those of all image processors."""

    min_pixels: int | None
    max_pixels: int | None
    patch_size: int | None
    temporal_patch_size: int | None
    merge_size: int | None


class AdCopilotProcessorKwargs(ProcessingKwargs, total=False):
    """What a call may set. Not upstream's class of this kind, which newer transformers no longer have; whoever asks
    the signature (vLLM, for which of `mm_processor_kwargs` to pass on) finds it there."""

    images_kwargs: AdCopilotImagesKwargs


def special_tokens_as_transformers_4(fields: dict) -> dict:
    """A tokenizer_config.json with special tokens as transformers 4 has them, which 5 reads too; the same object where
    they are."""
    if not isinstance(fields.get("extra_special_tokens"), list):  # a dictionary of named ones in transformers 4
        return fields
    others = {name: value for name, value in fields.items() if name != "extra_special_tokens"}
    return {**others, "additional_special_tokens": fields["extra_special_tokens"]}


class AdCopilotProcessor(Qwen2_5_VLProcessor):
    """Calls and chat templates are Qwen2.5-VL's; the text of an image becomes

    `<|vision_start|>` image pads, L x `<|compare_pad|>`, `<|vision_end|>`.

    Each text of a call is a conversation of its own.

    Args:
        image_processor, tokenizer, video_processor, chat_template: as upstream; the tokenizer knows `<|compare_pad|>`.
        num_comparison_tokens: L, the model's.
        comparison_of_first: the model's: whether the first image of a conversation has comparison tokens.
        image_max_pixels, image_min_pixels: LlamaFactory's settings in training, which it puts on the processor itself;
            being arguments they are saved with it, so that inference knows them. This class does not resize by them.
        trained_sizes: what sizes the model was trained on (`adcopilot.trained_sizes`); training sets it, and it is
            saved as they are. Empty before any training, None where it is not known.

    Raises:
        ValueError: the tokenizer lacks `<|compare_pad|>`.
    """

    def __init__(
        self,
        image_processor=None,
        tokenizer=None,
        video_processor=None,
        chat_template=None,
        num_comparison_tokens: int = 100,
        comparison_of_first: bool = True,
        image_max_pixels: int | None = None,
        image_min_pixels: int | None = None,
        trained_sizes: dict | None = None,
        **kwargs,
    ):
        super().__init__(image_processor, tokenizer, video_processor, chat_template=chat_template, **kwargs)
        self.num_comparison_tokens = num_comparison_tokens
        self.comparison_of_first = comparison_of_first
        self.image_max_pixels = image_max_pixels
        self.image_min_pixels = image_min_pixels
        self.trained_sizes = trained_sizes
        self.comparison_token = COMPARISON_TOKEN
        self.comparison_token_id = tokenizer.convert_tokens_to_ids(COMPARISON_TOKEN)
        if self.comparison_token_id is None or self.comparison_token_id == tokenizer.unk_token_id:
            raise ValueError(
                f"the tokenizer has no {COMPARISON_TOKEN}: this is not an AD-Copilot folder; make one with "
                "`adcopilot init --base <this folder> --output <new folder>`"
            )

    def __call__(self, images=None, text=None, videos=None, **kwargs: Unpack[AdCopilotProcessorKwargs]):
        """As upstream's `__call__`. Texts in which an image's pads are already written out, without images, are left
        alone."""
        if images is not None and text is not None:
            texts = [text] if isinstance(text, str) else text
            text = [with_comparison_pads(one, self, last=self.image_token) for one in texts]
        return super().__call__(images=images, text=text, videos=videos, **kwargs)

    def save_pretrained(self, save_directory, *args, **kwargs):
        """As upstream's; the tokenizer's special tokens are written the way transformers 4 has them, which 5 reads
        too, so that a folder saved by either opens in both."""
        files = super().save_pretrained(save_directory, *args, **kwargs)
        path = Path(save_directory, "tokenizer_config.json")
        fields = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        written = special_tokens_as_transformers_4(fields)
        if written is not fields:
            path.write_text(json.dumps(written, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        return files

    def _get_num_multimodal_tokens(self, image_sizes=None, video_sizes=None, **kwargs):
        """As upstream's, comparison tokens counted in."""
        tokens = super()._get_num_multimodal_tokens(image_sizes=image_sizes, video_sizes=video_sizes, **kwargs)
        if image_sizes is not None:
            tokens.num_image_tokens = [
                number + comparison_tokens_of(self, place) for place, number in enumerate(tokens.num_image_tokens)
            ]
        return tokens


__all__ = ["AdCopilotProcessor"]
