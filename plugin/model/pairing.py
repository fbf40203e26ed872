"""Which image is compared with which: each with the one just before it in its own conversation (paper, Figure 3).

A batch reaches the model as one flat list of images. Where a conversation begins is read off the token sequence, the
one thing that every caller (LlamaFactory's collator, TRL, `generate`, a plain forward) hands over: each row is a
conversation, and in a packed row each place where the positions start over begins one.
"""

from typing import Any

import torch


def comparison_tokens_of(settings: Any, place: int) -> int:
    """How many comparison tokens the image at a place of its conversation has: L, or 0 for the first where that is not
    compared with itself.

    Args:
        settings: an `AdCopilotConfig` or an `AdCopilotProcessor`, which have the same two fields.
        place: 0 for the first image of a conversation.
    """
    # a folder that was saved before this could be chosen brings its own classes along, without the field
    compared = place or getattr(settings, "comparison_of_first", True)
    return settings.num_comparison_tokens if compared else 0


def with_comparison_pads(text: str, processor: Any, *, last: str, then: str = "", place: int = 0) -> str:
    """Put the comparison pads of each image behind its own pads.

    Args:
        text: of a conversation, or a part of it.
        processor: an `AdCopilotProcessor`.
        last, then: what an image's own pads end with and what follows them; side by side they stand once for each
            image.
        place: in the conversation, of the first image of `text`.
    """
    first, *others = text.split(last + then)
    pads = [
        processor.comparison_token * comparison_tokens_of(processor, place + index) for index in range(len(others))
    ]
    return first + "".join(last + pad + then + other for pad, other in zip(pads, others, strict=True))


def images_of_tokens(image_mask: torch.Tensor, grid_thw: torch.Tensor, *, merge_size: int) -> torch.Tensor:
    """Flat index of the first token of each image.

    Args:
        image_mask: (rows, length) true at image pad tokens, N images one after the other in row-major order.
        grid_thw: (N, 3) patch grids.
        merge_size: side of the squares of patches that become one token.

    Returns:
        (N,) indices into the flattened (rows * length) sequence.

    Raises:
        ValueError: the tokens are not those of the images.
    """
    tokens = image_mask.flatten().nonzero()[:, 0]
    counts = grid_thw.prod(-1) // merge_size**2
    if len(tokens) != counts.sum():
        raise ValueError(
            f"{len(grid_thw)} images have {int(counts.sum())} tokens but the text has {len(tokens)} image pad tokens: "
            "was the text cut inside an image (raise `cutoff_len` or lower the pixel budget), or do the <image> "
            "places and the images differ in number?"
        )
    starts = counts.cumsum(0) - counts
    return tokens[starts]


def images_of_rows(image_mask: torch.Tensor, grid_thw: torch.Tensor, *, merge_size: int) -> list[list[int]]:
    """Indices of each row's images; arguments and errors as for `images_of_tokens`."""
    rows, length = image_mask.shape
    owners = (images_of_tokens(image_mask, grid_thw, merge_size=merge_size) // length).tolist()
    return [[index for index, owner in enumerate(owners) if owner == row] for row in range(rows)]


def previous_images(
    image_mask: torch.Tensor, grid_thw: torch.Tensor, position_ids: torch.Tensor | None, *, merge_size: int
) -> list[int]:
    """For each image the index of the image it is compared with: its predecessor, or itself if it is the first.

    Args:
        image_mask: (rows, length) true at image pad tokens.
        grid_thw: (N, 3) patch grids.
        position_ids: (…, rows, length) with time or text positions first, or (rows, length); None if unpacked.
            In a packed row they fall where a conversation begins and nowhere else: mRoPE's time never falls in one.
        merge_size: side of the squares of patches that become one token.

    Raises:
        ValueError: the tokens are not those of the images.
    """
    first_tokens = images_of_tokens(image_mask, grid_thw, merge_size=merge_size)
    rows, length = image_mask.shape
    begins = torch.zeros_like(image_mask)
    begins[:, 0] = True
    if position_ids is not None:
        time = position_ids.reshape(-1, rows, length)[0]
        begins[:, 1:] |= time[:, 1:] < time[:, :-1]
    conversation = begins.flatten().cumsum(0)[first_tokens].tolist()
    return [
        index - 1 if index and conversation[index] == conversation[index - 1] else index
        for index in range(len(conversation))
    ]
