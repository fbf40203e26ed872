"""Patch features that the model's own vision tower makes while it answers: no forward pass for the map alone.

They are what the patch merger, and the Comparison Encoder, get: one vector for each 14×14 pixels.
"""

from __future__ import annotations

import threading

import torch

from ..errors import UserError
from ..model.positions import window_order

__all__ = ["TowerFeatures"]


class TowerFeatures:
    """Keeps the features of all images of the first forward pass in its block.

    Args:
        model: AD-Copilot or Qwen2.5-VL.
        wanted: False for a block that keeps nothing.
    """

    def __init__(self, model: torch.nn.Module, *, wanted: bool = True) -> None:
        self.tower = model.model.visual
        self.wanted = wanted
        self._kept: list[torch.Tensor] = []

    def __enter__(self) -> TowerFeatures:
        thread = threading.get_ident()  # a server may run this model from several threads

        def keep(_, inputs) -> None:
            if not self._kept and threading.get_ident() == thread:
                self._kept.append(inputs[0].detach())

        self._handle = self.tower.merger.register_forward_pre_hook(keep) if self.wanted else None
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle is not None:
            self._handle.remove()

    def of_images(self, image_grid_thw: torch.Tensor) -> list[torch.Tensor]:
        """(rows, columns, D) for each image of the batch, in order.

        Args:
            image_grid_thw: (N, 3) patch grids, as the processor gave them.

        Raises:
            UserError: the tower has not worked in the block, or on other images.
        """
        patches = image_grid_thw.prod(-1).tolist()
        if not self._kept or len(self._kept[0]) != sum(patches):
            raise UserError("the model's tower showed no features of these images; give --map pixels")
        merge = self.tower.spatial_merge_size
        order = torch.argsort(window_order(image_grid_thw, config=self.tower.config))
        features = self._kept[0].unflatten(0, (-1, merge**2))[order.to(self._kept[0].device)]
        found = []
        for squares, (_, rows, columns) in zip(
            features.split([count // merge**2 for count in patches]), image_grid_thw.tolist(), strict=True
        ):
            grid = squares.unflatten(0, (rows // merge, columns // merge)).unflatten(2, (merge, merge))
            found.append(grid.transpose(1, 2).reshape(rows, columns, -1))
        return found
