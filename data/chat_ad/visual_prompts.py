"""Show a generator where the defects are: contour and box drawn on a copy of the query (paper, section III-b).

The contour runs around the defect's pixels, never over them, and a white edge keeps it visible on any ground. The copy
is enlarged or shrunk as pictures of `adcopilot inspect` are, so that lines and labels can be read; boxes in the text
stay in pixels of the image itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from ..drawing import draw_boxes, line_width, panel_of

__all__ = ["CONTOUR", "draw_visual_prompt"]

#: Contour colour, unlike those of the boxes.
CONTOUR = (255, 230, 0)

# Pixels of the picture between the defect and its contour, and the width of the contour's white edge.
_GAP, _EDGE = 1, 1


def draw_visual_prompt(
    image: Image.Image,
    *,
    mask: np.ndarray | None = None,
    boxes: Sequence[Sequence[int]] = (),
    labels: Sequence[str] = (),
) -> Image.Image:
    """A copy of an image with its defects marked.

    Args:
        image: upright, RGB; it is not changed.
        mask: (height, width) bool, True where a defect is; None draws boxes alone.
        boxes: (x1, y1, x2, y2) in pixels of `image`, corner to corner.
        labels: of the boxes; as many, or none.

    Returns:
        A picture of `image.size` times `drawing.panel_scale(image.size)`.

    Raises:
        ValueError: the mask's size is not the image's, or boxes and labels differ in number.
    """
    if mask is not None and mask.shape != (image.height, image.width):
        raise ValueError(f"a mask of shape {mask.shape} for an image of {image.width}×{image.height} pixels")
    if labels and len(labels) != len(boxes):
        raise ValueError(f"{len(boxes)} boxes but {len(labels)} labels")
    panel = panel_of(image)
    size = panel.size
    if mask is not None and mask.any():
        panel = Image.fromarray(_with_contour(np.asarray(panel), _scaled_mask(mask, size)))
    # Outside the contour and a box's own line, which would else cover the contour of a defect that fills its box.
    room = _GAP + 2 * line_width(size) + _EDGE
    marked = []
    for index, box in enumerate(boxes):
        corners = []
        for axis in (0, 1):
            factor = size[axis] / image.size[axis]
            corners.append(max(box[axis] * factor - room, 0))
            corners.append(min(box[axis + 2] * factor + room, size[axis]))
        outside = [corners[0], corners[2], corners[1], corners[3]]
        marked.append({"bbox_2d": outside, "label": labels[index] if labels else ""})
    return draw_boxes(panel, marked)


def _scaled_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The mask at another size; no defect disappears, however small."""
    if size == (mask.shape[1], mask.shape[0]):
        return mask
    whole = Image.fromarray(mask.astype(np.uint8) * 255)
    if size[0] >= mask.shape[1]:
        return np.asarray(whole.resize(size, Image.Resampling.NEAREST)) > 0
    # Averages of the pixels that fall together: above 0 where any of them is a defect's.
    shares = Image.fromarray(mask.astype(np.float32)).resize(size, Image.Resampling.BOX)
    return np.asarray(shares) > 0


def _with_contour(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    distance = ndimage.distance_transform_edt(~mask)
    result = pixels.copy()
    inner, outer = _GAP, _GAP + line_width((mask.shape[1], mask.shape[0]))
    result[(distance > inner) & (distance <= outer + _EDGE)] = (255, 255, 255)
    result[(distance > inner) & (distance <= outer)] = CONTOUR
    return result
