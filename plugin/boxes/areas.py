"""Areas that boxes cover together, in whole pixels, without ever painting a picture.

BBox-Mask IoU is defined by painting: all predicted boxes into one binary mask, all true ones (or the true mask) into
another. Here the painting happens on the grid that the boxes' own edges make, which for a handful of boxes has a few
dozen cells, whatever the size of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from ..errors import UserError
from ..masks import marked

__all__ = ["MaskTruth", "bbox_mask_iou"]

# Cells of one grid of edges. More (thousands of boxes on an enormous image) are done in bands, one after the other.
_MAX_CELLS = 1 << 24

# Up to so many boxes, the most direct way is the fastest.
_FEW = 16


class MaskTruth:
    """A ground-truth mask prepared for many predictions: each then costs microseconds instead of a pass over pixels.

    Args:
        mask: (height, width), boolean, or the numbers of a mask, which mark what `adcopilot.masks` says.

    Raises:
        UserError: the array has not two dimensions, or holds what is no finite number.
    """

    def __init__(self, mask: np.ndarray) -> None:
        mask = np.asarray(mask)
        if mask.ndim != 2:
            raise UserError(f"a mask of shape {mask.shape}, expected (height, width)")
        self.mask = mask if mask.dtype == bool else marked(mask).values > 0
        self.area = int(np.count_nonzero(self.mask))

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.mask.shape[1], self.mask.shape[0]

    @cached_property
    def _sums(self) -> tuple[np.ndarray, int, int]:
        """(number of defect pixels above and left of each corner, top, left) within the rows and columns with any.

        Defects are small: most of the memory and the time are saved by leaving the rest out.
        """
        rows, columns = np.flatnonzero(self.mask.any(axis=1)), np.flatnonzero(self.mask.any(axis=0))
        if not rows.size:
            return np.zeros((1, 1), np.int64), 0, 0
        top, left = int(rows[0]), int(columns[0])
        inner = self.mask[top : rows[-1] + 1, left : columns[-1] + 1]
        sums = np.zeros((inner.shape[0] + 1, inner.shape[1] + 1), np.int64)
        np.cumsum(inner, axis=0, out=sums[1:, 1:])
        np.cumsum(sums[1:, 1:], axis=1, out=sums[1:, 1:])
        return sums, top, left

    def cells(self, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
        """Defect pixels in each cell of a grid: (len(ys) - 1, len(xs) - 1), edges in ascending order."""
        sums, top, left = self._sums
        rows = np.clip(ys - top, 0, sums.shape[0] - 1)
        columns = np.clip(xs - left, 0, sums.shape[1] - 1)
        corners = sums[rows[:, None], columns]
        bands = corners[1:] - corners[:-1]
        return bands[:, 1:] - bands[:, :-1]


def bbox_mask_iou(
    predicted: Sequence[Sequence[float]],
    truth: Sequence[Sequence[float]] | np.ndarray | MaskTruth,
    size: tuple[int, int],
) -> float:
    """Intersection over union of two sets of pixels: those inside any predicted box, and the true ones.

    With true boxes it is the metric of MMAD-BBox (the paper's section VI), with a mask the reward of GRPO (its
    equation 1).

    Args:
        predicted: boxes `[x1, y1, x2, y2]` in pixels of the image, corner to corner: `[0, 0, 1, 1]` is the first
            pixel. Edges between pixels go to the nearest pixel's edge (halves up), what lies outside the image is cut
            off, and a box without area (inverted ones too) covers nothing.
        truth: boxes of the same kind, or a mask of shape (height, width), boolean or of numbers (`adcopilot.masks`); a
            `MaskTruth` for many predictions on one mask.
        size: (width, height) of the image in pixels.

    Returns:
        0 to 1. When nothing is predicted and there is nothing to find it is 1; when only one of both, it is 0.

    Raises:
        UserError: a box is not four finite numbers, or the mask is not of this size.
    """
    width, height = size
    boxes = _whole_boxes(predicted, width, height)
    mask, true_boxes = None, None
    if isinstance(truth, MaskTruth):
        mask = truth
    elif isinstance(truth, np.ndarray) and (
        truth.dtype == bool or (truth.ndim == 2 and truth.shape == (height, width))
    ):
        mask = MaskTruth(truth)
    else:
        true_boxes = _whole_boxes(truth, width, height)
    if mask is not None and mask.size != (width, height):
        raise UserError(f"a mask of {mask.size[0]}×{mask.size[1]} pixels for an image of {width}×{height}")

    if mask is not None and not len(boxes):
        return float(mask.area == 0)
    covered, both, true_area = _areas(boxes, true_boxes, mask)
    union = covered + true_area - both
    return both / union if union else 1.0


def _whole_boxes(boxes: Sequence[Sequence[float]] | np.ndarray, width: int, height: int) -> np.ndarray:
    """(n, 4) integers inside the image; boxes without area are left out."""
    try:
        array = np.asarray(boxes, dtype=np.float64) if len(boxes) else np.empty((0, 4))
        if array.shape != (len(boxes), 4) or not np.isfinite(array).all():
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        shown = " ".join(repr(boxes).split())
        raise UserError(f"boxes {shown[:80]}: expected a list of [x1, y1, x2, y2], four finite numbers each") from None
    array = np.minimum(np.maximum(array, 0.0), (width, height, width, height))
    array = np.floor(array + 0.5).astype(np.int64)
    return array[(array[:, 0] < array[:, 2]) & (array[:, 1] < array[:, 3])]


def _areas(boxes: np.ndarray, true_boxes: np.ndarray | None, mask: MaskTruth | None) -> tuple[int, int, int]:
    """(pixels in any of `boxes`, of those the true ones, all true ones)."""
    all_boxes = boxes if true_boxes is None else np.concatenate([boxes, true_boxes])
    if not len(all_boxes):
        return 0, 0, 0 if mask is None else mask.area
    xs, ys = np.sort(all_boxes[:, ::2], axis=None), np.sort(all_boxes[:, 1::2], axis=None)
    # For a few boxes, cells of width 0 cost less than finding the equal edges.
    if len(all_boxes) > _FEW or len(xs) * len(ys) > _MAX_CELLS:
        xs, ys = np.unique(xs), np.unique(ys)
    if len(xs) * len(ys) > _MAX_CELLS and len(ys) > 2:
        middle = ys[len(ys) // 2]
        parts = [
            _areas(_band(boxes, low, high), None if true_boxes is None else _band(true_boxes, low, high), mask)
            for low, high in ((ys[0], middle), (middle, ys[-1]))
        ]
        covered, both, true_area = map(sum, zip(*parts, strict=True))
        return covered, both, true_area if mask is None else mask.area
    inside = _coverage(boxes, xs, ys)
    cell_areas = (ys[1:] - ys[:-1])[:, None] * (xs[1:] - xs[:-1])
    covered = int(cell_areas[inside].sum())
    if mask is not None:
        return covered, int(mask.cells(xs, ys)[inside].sum()), mask.area
    true = _coverage(true_boxes, xs, ys)
    return covered, int(cell_areas[inside & true].sum()), int(cell_areas[true].sum())


def _band(boxes: np.ndarray, low: int, high: int) -> np.ndarray:
    """The boxes cut to the rows from `low` to `high`."""
    cut = boxes.copy()
    cut[:, 1::2] = np.clip(cut[:, 1::2], low, high)
    return cut[cut[:, 1] < cut[:, 3]]


def _coverage(boxes: np.ndarray, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """Which cells of the grid lie in a box: (len(ys) - 1, len(xs) - 1)."""
    if len(boxes) <= _FEW:
        rows = (boxes[:, 1, None] <= ys[:-1]) & (boxes[:, 3, None] >= ys[1:])
        columns = (boxes[:, 0, None] <= xs[:-1]) & (boxes[:, 2, None] >= xs[1:])
        return rows.T @ columns  # of truth values: in any box
    columns, rows = np.searchsorted(xs, boxes[:, ::2]), np.searchsorted(ys, boxes[:, 1::2])
    # +1 where a box begins, -1 where it ends, in both directions; sums of sums then count the boxes over a cell.
    corners = np.zeros(len(ys) * len(xs), np.int32)
    for row, column, sign in ((0, 0, 1), (1, 1, 1), (0, 1, -1), (1, 0, -1)):
        np.add.at(corners, rows[:, row] * len(xs) + columns[:, column], sign)
    count = corners.reshape(len(ys), len(xs)).cumsum(axis=0, dtype=np.int32).cumsum(axis=1, dtype=np.int32)
    return count[:-1, :-1] > 0
