"""How far patch features of a query are from those of the templates at the same place.

Features of a pretrained backbone know textures and parts that pixels do not (AnomalyDINO's idea, with DINOv2). Here a
patch is compared with those around its own place instead of with all: parts that are aligned have their places.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F

from ..errors import UserError, one_line

__all__ = ["FEATURES_TOP", "Backbone", "feature_distances"]

#: Share of the patches whose mean is the score, as AnomalyDINO's.
FEATURES_TOP = 0.01


def feature_distances(query: torch.Tensor, templates: Sequence[torch.Tensor], *, search: int) -> torch.Tensor:
    """1 less the cosine of the nearest template patch.

    Args:
        query, templates: (rows, columns, D); templates of another grid are resized to the query's.
        search: patches that a template's may lie away, each way.

    Returns:
        (rows, columns), 0 to 2.
    """
    wanted = F.normalize(query.float(), dim=-1)
    rows, columns = query.shape[:2]
    best = torch.full((rows, columns), -1.0, device=query.device)
    for template in templates:
        grid = template.float().permute(2, 0, 1)[None]
        if grid.shape[-2:] != (rows, columns):
            grid = F.interpolate(grid, size=(rows, columns), mode="bilinear", align_corners=False)
        grid = F.pad(F.normalize(grid, dim=1), (search,) * 4)  # beyond the edge lies nothing: a cosine of 0
        for y in range(2 * search + 1):
            for x in range(2 * search + 1):
                there = grid[0, :, y : y + rows, x : x + columns].permute(1, 2, 0)
                best = torch.maximum(best, (wanted * there).sum(-1))
    return (1 - best).clamp(min=0)


class Backbone:
    """Any vision model of transformers whose last hidden state is one vector a patch, or a grid of channels.

    Args:
        source: folder or hub id; safetensors only, and no code from it.
        device: that it runs on.

    Attributes:
        unit: side of a patch in pixels; pictures are brought to a multiple of it.

    Raises:
        UserError: it cannot be loaded, or is no vision model.
    """

    def __init__(self, source: str | Path, *, device: str = "cpu") -> None:
        from transformers import AutoConfig, AutoImageProcessor, AutoModel

        try:
            config = AutoConfig.from_pretrained(source, trust_remote_code=False)
            config = getattr(config, "vision_config", config)  # of CLIP and its like, the tower alone
            self.model = AutoModel.from_pretrained(
                source, config=config, trust_remote_code=False, use_safetensors=True
            )
            processor = AutoImageProcessor.from_pretrained(source, trust_remote_code=False)
        except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            raise UserError(
                f"--map-backbone {source}: no vision model that transformers can load ({one_line(error)}); give a "
                "folder or a hub id such as facebook/dinov2-small"
            ) from None
        self.model.eval().to(device)
        self.device = device
        self.unit = getattr(config, "patch_size", None) or 32  # of a convolutional network, what it shrinks by
        mean = getattr(processor, "image_mean", None) or [0.5] * 3
        deviation = getattr(processor, "image_std", None) or [0.5] * 3
        self.mean, self.deviation = (torch.tensor(one).view(1, 3, 1, 1) for one in (mean, deviation))

    @torch.inference_mode()
    def features(self, picture: torch.Tensor) -> torch.Tensor:
        """(1, 3, H, W), values 0 to 1, sides multiples of `unit` -> (rows, columns, D)."""
        import inspect

        values = ((picture - self.mean) / self.deviation).to(self.device)
        takes = inspect.signature(self.model.forward).parameters
        options = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in takes else {}
        found = self.model(pixel_values=values, **options).last_hidden_state
        if found.dim() == 4:
            return found[0].permute(1, 2, 0)
        rows, columns = (side // self.unit for side in picture.shape[-2:])
        return found[0, -rows * columns :].unflatten(0, (rows, columns))  # class and register tokens come first
