"""LlamaFactory's multimodal plugin for AD-Copilot: Qwen2-VL's with comparison pads, upright images, mapped boxes."""

from dataclasses import dataclass
from typing import Any

import torch
from llamafactory.data.mm_plugin import Qwen2VLPlugin
from llamafactory.extras.constants import IMAGE_PLACEHOLDER

from .. import __version__
from ..boxes import map_text_boxes, size_for_processor, text_boxes
from ..errors import UserError
from ..images import image_size, open_image
from ..model.pairing import with_comparison_pads
from ..records import REMEDIES, check_notations, check_shares
from ..vision_tokens import escape_vision_tokens


def size_for_model(size: tuple[int, int], processor) -> tuple[int, int]:
    """`boxes.model_image_size` of an upright image's (width, height), by a processor that LlamaFactory has loaded.

    `processor` carries LlamaFactory's `image_max_pixels` and `image_min_pixels` next to its own image processor.
    """
    return size_for_processor(
        size,
        processor.image_processor,
        image_max_pixels=processor.image_max_pixels,
        image_min_pixels=processor.image_min_pixels,
    )


#: The model's own turns, as LlamaFactory calls them: an answer in words, or a call of a tool.
ANSWERS = ("assistant", "function")
#: Key of a message whose boxes are in the model's pixels already.
_IS_MAPPED = "adcopilot_is_mapped"


def is_training_sample(messages: list[dict[str, str]]) -> bool:
    """Whether messages come from a data set (they end with the answer, or a call of a tool) or from a chat (they end
    with the question, or what a tool returned).

    Data files hold boxes in pixels of the original image. In a chat the model's earlier answers are already in its own
    space, and whoever talks to a server maps boxes on their side, so there nothing is mapped.
    """
    return bool(messages) and messages[-1]["role"] in ANSWERS


@dataclass
class AdCopilotPlugin(Qwen2VLPlugin):
    """Expands `<image>` to `<|vision_start|>`, image pads, L x `<|compare_pad|>`, `<|vision_end|>`.

    Which image is compared with which the model reads off the tokens, so the collator needs no help. Videos are
    Qwen2.5-VL's: without comparison tokens.
    """

    # Part of what `datasets` hashes: a new version of this package does not reuse samples that an older one tokenised.
    version: str = __version__
    # False while samples are only checked: then headers have to do.
    decode_images: bool = True

    def process_messages(self, messages, images, videos, audios, processor):
        """As upstream's, for a conversation of `images`: paths, bytes, PIL images or dictionaries of `datasets`.

        Raises:
            UserError: the processor is not AD-Copilot's; `<image>` count and images differ; an image cannot be used; a
                box stands before any image.
        """
        self._validate_input(processor, images, videos, audios)
        self._validate_messages(messages, images, videos, audios)
        messages = self._written(messages, images, processor)
        messages = super().process_messages(messages, images, videos, audios, processor)
        if self.expand_mm_tokens:  # otherwise a server's own processor expands the single pad
            place = 0
            for message in messages:
                ends = {"last": self.image_token, "then": self.vision_eos_token}
                text = message["content"]
                message["content"] = with_comparison_pads(text, processor, **ends, place=place)
                place += text.count("".join(ends.values()))
        return messages

    def map_answers(self, prompt, answers, images, videos, audios, processor) -> list[dict[str, str]]:
        """The answers to a prompt with their boxes in the model's pixels, marked so that `process_messages` leaves
        them as they are: for KTO, which puts an answer behind another sample's prompt and images too.

        Raises:
            UserError: as `process_messages`.
        """
        mapped = []
        for answer in answers:
            if answer["content"]:  # of two, the one that is empty says what kind the other is
                messages = [*prompt, answer]
                self._validate_messages(messages, images, videos, audios)
                answer = {**self._written(messages, images, processor)[-1], _IS_MAPPED: True}
            mapped.append(answer)
        return mapped

    def _written(self, messages, images, processor) -> list[dict[str, str]]:
        """Messages with control tokens as words and, of a sample, boxes in the model's pixels."""
        trains = is_training_sample(messages)
        messages = [
            {
                **message,
                "content": escape_vision_tokens(message["content"], is_label=trains and message["role"] in ANSWERS),
            }
            for message in messages
        ]
        return self._map_boxes(messages, images, processor) if trains else messages

    def _map_boxes(self, messages, images, processor) -> list[dict[str, str]]:
        """Every `"bbox_2d"` of a sample from original pixels to the model's, by the last image before it.

        Whatever the stage, streamed or not, each sample comes through here: so boxes that would be mapped wrongly, or
        not at all, are refused here.
        """
        given = [message for message in messages if _IS_MAPPED not in message]
        if images:
            check_notations({"messages": given}, name=f"sample with images {_names(images)}")
        used = 0
        mapped = []
        for message in messages:
            if _IS_MAPPED in message:
                mapped.append(message)
                continue
            pieces = message["content"].split(IMAGE_PLACEHOLDER)
            for index, piece in enumerate(pieces):
                used += index > 0
                boxes = text_boxes(piece) if images else []
                if not boxes:
                    continue  # nothing to map: no file is opened
                if not used:
                    raise UserError(
                        f"sample with images {_names(images)}: a box stands before any {IMAGE_PLACEHOLDER}, so it "
                        "refers to no image; move it behind its image"
                    )
                for box in boxes:
                    check_shares(box, name=f"sample with images {_names(images)}", remedies=REMEDIES)
                size = image_size(images[used - 1])
                pieces[index] = map_text_boxes(piece, size, size_for_model(size, processor))
            mapped.append({**message, "content": IMAGE_PLACEHOLDER.join(pieces)})
        return mapped

    def _get_mm_token_metadata(self, images, videos, audios, processor) -> dict[str, Any] | None:
        # Upstream runs the whole image processor to learn how many pads to write. The size tells; the image is still
        # decoded, so that a damaged file is found now and not in the middle of training.
        metadata = super()._get_mm_token_metadata([], videos, audios, processor)
        if images and metadata is not None:
            patch = processor.image_processor.patch_size
            sizes = [open_image(image).size if self.decode_images else image_size(image) for image in images]
            sizes = [size_for_model(size, processor) for size in sizes]
            grids = [[1, height // patch, width // patch] for width, height in sizes]
            metadata["image_grid_thw"] = torch.tensor(grids)
        return metadata

    def _regularize_images(self, images, **kwargs):
        return super()._regularize_images([open_image(image) for image in images], **kwargs)

    def _validate_input(self, processor, images, videos, audios) -> None:
        super()._validate_input(processor, images, videos, audios)
        if not hasattr(processor, "num_comparison_tokens"):
            folder = getattr(processor.tokenizer, "name_or_path", "the model's folder")
            raise UserError(
                f"{folder}: template adcopilot needs AD-Copilot's processor, found {type(processor).__name__}; make a "
                f"checkpoint with `adcopilot init --base {folder} --output …`, or use template qwen2_vl"
            )

    def _validate_messages(self, messages, images, videos, audios) -> None:
        marks = sum(message["content"].count(IMAGE_PLACEHOLDER) for message in messages)
        if marks != len(images):
            raise UserError(
                f"sample with images {_names(images)}: {len(images)} images but {marks} {IMAGE_PLACEHOLDER} in its "
                f"messages; write one {IMAGE_PLACEHOLDER} for each image"
            )
        super()._validate_messages(messages, images, videos, audios)


def _names(images: list[Any]) -> str:
    """A sample's images as a message can show them."""
    names = [image if isinstance(image, str) else f"<{type(image).__name__}>" for image in images]
    return ", ".join(names[:4] + ["…"] * (len(names) > 4)) or "(none)"


if "_register_when_defined" in globals():  # see template.register
    _register_when_defined()  # noqa: F821
