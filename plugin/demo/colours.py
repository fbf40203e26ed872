"""What the colours of the page's two maps mean: one scale, dark over yellow to red, the same in every picture."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ..anomaly_map.picture import laid_over

__all__ = ["HEAT_SCALE", "draw_heat", "map_scale"]

#: Yellow where no threshold is known; differences of brightness go from 0 to 1.
UNKNOWN = 0.25
#: Yellow and red of the attention, in even shares: what each patch had if the model looked everywhere alike.
HEAT_SCALE = 2.0, 4.0


def map_scale(threshold: float | None) -> tuple[float, float]:
    """The differences that are yellow and red: the threshold of scores, where one is known, and twice that."""
    middle = threshold or UNKNOWN
    return middle, 2 * middle


def draw_heat(image: Image.Image, grid: np.ndarray) -> Image.Image:
    """Lay the attention over an image.

    Args:
        image: RGB.
        grid: (rows, columns) as `heat_map.Attention.grid` gives it.

    Returns:
        A new picture of `image.size`.
    """
    return laid_over(image, (grid / grid.mean()).astype(np.float32), top=HEAT_SCALE[1])
