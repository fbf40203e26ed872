"""mRoPE ids of the comparison tokens: the diagonal of their image (paper, section IV-B-c and Figure 3, right)."""

import torch


def diagonal_positions(first: torch.Tensor, last: torch.Tensor, *, num_tokens: int, scaled: bool) -> torch.Tensor:
    """Positions along an image's diagonal.

    Args:
        first: (3, N) time, height, width id of each image's first token.
        last: (3, N) of its last token.
        num_tokens: L, comparison tokens of an image.
        scaled: spread them from corner to corner of the image; otherwise step by one from its first corner, the
            paper's fixed L x L diagonal. Time stays the image's own.

    Returns:
        (3, N, L) ids of the dtype of `first`.
    """
    steps = torch.arange(num_tokens, device=first.device)
    if scaled:
        fraction = steps / max(num_tokens - 1, 1)
        offsets = ((last - first)[:, :, None] * fraction).round().to(first.dtype)
    else:
        offsets = steps.to(first.dtype).expand(3, first.shape[1], -1).clone()
    offsets[0] = 0
    return first[:, :, None] + offsets
