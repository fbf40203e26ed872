"""Connected regions of a mask: where each defect is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Component", "mask_components"]


@dataclass(frozen=True, kw_only=True)
class Component:
    """A connected region of a mask.

    Attributes:
        box: (x1, y1, x2, y2) in pixels, x2 and y2 exclusive.
        area: in pixels.
        value: the class that most of its pixels have, None where no classes were given.
    """

    box: tuple[int, int, int, int]
    area: int
    value: int | None = None


def mask_components(mask: np.ndarray, *, min_area: int = 1) -> list[Component]:
    """The connected regions of a mask (height, width), eight neighbours a pixel, in reading order of their boxes.

    Args:
        mask: boolean, or the numbers of `mask_values`: regions of several classes that touch are one region, of the
            class that has most of its pixels.
        min_area: smaller regions, in pixels, are left out.
    """
    from scipy import ndimage

    values = None if mask.dtype == bool else mask
    mask = mask if values is None else mask > 0
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return []
    # Defects are small: labelling only where there is something is most of the speed.
    top, left = int(rows[0]), int(columns[0])
    inner = np.s_[top : rows[-1] + 1, left : columns[-1] + 1]
    labelled, count = ndimage.label(mask[inner], np.ones((3, 3), bool))
    areas = np.bincount(labelled.ravel(), minlength=count + 1)
    found = []
    for index, where in enumerate(ndimage.find_objects(labelled), 1):
        if areas[index] < min_area:
            continue
        ys, xs = where
        value = None
        if values is not None:
            value = int(np.bincount(values[inner][where][labelled[where] == index]).argmax())
        box = (xs.start + left, ys.start + top, xs.stop + left, ys.stop + top)
        found.append(Component(box=box, area=int(areas[index]), value=value))
    return sorted(found, key=lambda one: (one.box[1], one.box[0], one.box[3], one.box[2], one.area))
