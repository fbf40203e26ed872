"""From an anomaly map to a score, a mask and boxes.

Shape legend: H, W rows and columns of the map.
"""

from __future__ import annotations

import numpy as np

from ..masks.components import mask_components

__all__ = ["PIXELS_TOP", "map_boxes", "pred_mask", "pred_score"]

#: Share of the pixels whose mean is the score of a map of pixels: the few that a small defect has.
PIXELS_TOP = 0.002
#: A pixel is marked from this share of the picture's threshold on, which is that of the mean of the highest pixels.
MARKED_FROM = 0.75
#: Within a marked region, only what reaches this share of its own highest value: a patch reaches beyond the defect.
REGION_FROM = 0.35


def pred_score(anomaly_map: np.ndarray, *, top: float) -> float:
    """The mean of the highest values of a map (H, W): at least one, `top` of all."""
    values = anomaly_map.ravel()
    count = max(1, int(len(values) * top))
    return float(np.partition(values, -count)[-count:].mean())


def pred_mask(anomaly_map: np.ndarray, threshold: float) -> np.ndarray:
    """What is marked in a map (H, W): truth values.

    Args:
        threshold: of the picture's score.
    """
    marked = anomaly_map >= max(threshold * MARKED_FROM, np.finfo(np.float32).tiny)
    found = np.zeros_like(marked)
    for region in mask_components(marked):
        x1, y1, x2, y2 = region.box
        part = np.where(marked[y1:y2, x1:x2], anomaly_map[y1:y2, x1:x2], 0)
        found[y1:y2, x1:x2] |= marked[y1:y2, x1:x2] & (part >= REGION_FROM * part.max())
    return found


def map_boxes(mask: np.ndarray, *, size: tuple[int, int], growth: int = 0, least_area: int = 1) -> list[list[int]]:
    """A box around each connected region of a mask.

    Args:
        mask: (H, W) truth values.
        size: (width, height) of the query in pixels, which the boxes are in.
        growth: pixels of the query that each side of a box is moved outwards: a convention of whoever drew the boxes
            to be met, and none of the map's. DeepPCB's boxes are 6 or 7 pixels away from the defect.
        least_area: smaller regions, in pixels of the mask, get no box.

    Returns:
        `[x1, y1, x2, y2]`, corner to corner, inside the query, largest region first.
    """
    height, width = mask.shape
    across, down = size[0] / width, size[1] / height
    boxes = []
    for region in sorted(mask_components(mask, min_area=least_area), key=lambda one: -one.area):
        x1, y1, x2, y2 = region.box
        box = [
            max(0, int(x1 * across) - growth),
            max(0, int(y1 * down) - growth),
            min(size[0], -int(-x2 * across // 1) + growth),
            min(size[1], -int(-y2 * down // 1) + growth),
        ]
        boxes.append(box)
    return boxes
