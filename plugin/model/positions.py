"""Where tokens stand: mRoPE ids of the comparison tokens (paper, section IV-B-c and Figure 3, right), and the order in
which the vision tower works on an image."""

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


def window_order(grid_thw: torch.Tensor, *, config) -> torch.Tensor:
    """For each merged token in the vision tower's window order its index in the image processor's order.

    Windows of `window_size` pixels go row by row over each frame, and within each its tokens row by row; those at the
    right and lower edges may be smaller. As `get_window_index` of the tower in transformers up to 5.16 and
    `get_vision_window_index` after it; its own here, as that place moved once already.

    Args:
        grid_thw: (N, 3) patch grids.
        config: `Qwen2_5_VLVisionConfig`.

    Returns:
        (merged tokens of all images,) on the CPU.
    """
    merge, begin, order = config.spatial_merge_size, 0, []
    side = config.window_size // merge // config.patch_size
    for time, height, width in grid_thw.tolist():
        height, width = height // merge, width // merge
        for frame in torch.arange(begin, begin + time * height * width).view(time, height, width):
            order += [window.flatten() for rows in frame.split(side) for window in rows.split(side, dim=1)]
        begin += time * height * width
    return torch.cat(order)
