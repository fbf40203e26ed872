"""Boxes against ground-truth masks: BBox-Mask IoU of one image, and the tables over many.

How true boxes come from a mask is not published for MMAD-BBox, so the rule is a setting that every result records: one
box around each connected region, or one around everything. The same predictions are also held against the mask itself,
which needs no rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adcopilot import masks
from adcopilot.answering.families import Family, read_boxes
from adcopilot.boxes import bbox_mask_iou
from adcopilot.errors import UserError

__all__ = [
    "THRESHOLDS",
    "BoxRule",
    "answered_boxes",
    "decode_mask",
    "encode_mask",
    "read_truth_mask",
    "score_image",
    "summarise",
]

#: IoU from which on an image counts as right, in the order of the paper's Table III.
THRESHOLDS = (0.1, 0.2, 0.3, 0.5)
#: Share of the image that defects cover, from which on they are medium and large.
SIZES = (0.01, 0.1)


@dataclass(frozen=True, kw_only=True)
class BoxRule:
    """How a mask becomes boxes.

    Attributes:
        regions: `components`, a box around each connected region (eight neighbours a pixel), or `whole`, one box
            around all of them.
        min_area: smaller regions, in pixels, are left out, unless that would leave none: then the largest stays.

    Raises:
        UserError: another word, or a negative area.
    """

    regions: str = "components"
    min_area: int = 1

    def __post_init__(self) -> None:
        if self.regions not in ("components", "whole"):
            raise UserError(f"--truth is {self.regions!r}, expected components or whole")
        if self.min_area < 0:
            raise UserError(f"--min-area is {self.min_area}, expected 0 or more pixels")

    def boxes(self, mask: np.ndarray) -> list[list[int]]:
        """`[x1, y1, x2, y2]` in pixels, corner to corner, from a boolean mask (height, width)."""
        from adcopilot.masks.components import mask_components

        regions = mask_components(mask)
        kept = [region for region in regions if region.area >= self.min_area]
        kept = kept or sorted(regions, key=lambda region: region.area)[-1:]
        boxes = [list(region.box) for region in kept]
        if self.regions == "whole" and boxes:
            lows, highs = np.min(boxes, axis=0), np.max(boxes, axis=0)
            boxes = [[int(lows[0]), int(lows[1]), int(highs[2]), int(highs[3])]]
        return boxes

    def describe(self) -> dict[str, Any]:
        """For the results."""
        return {"regions": self.regions, "min_area": self.min_area}


def answered_boxes(line: Mapping[str, Any], *, family: Family) -> list[dict[str, Any]]:
    """The boxes of a run's line in pixels of the original: `{"bbox_2d": [x1, y1, x2, y2], "label": …}`."""
    size, model_size = tuple(line["size"]), tuple(line["model_size"])
    return read_boxes(line["reply"]["text"], family=family, size=size, model_size=model_size)


def read_truth_mask(path: Path, *, size: tuple[int, int]) -> np.ndarray:
    """A mask file, or the union of a folder of them, as truth values (height, width), by `adcopilot.masks`' rule.

    Raises:
        UserError: it cannot be read, or is not of the image's (width, height).
    """
    mask = (masks.read_mask_folder(path) if path.is_dir() else masks.read_mask(path)).values > 0
    masks.check_size(mask, size, name=str(path))
    return mask


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """A mask as COCO's run lengths, a few hundred characters that a line of JSON can hold."""
    from pycocotools import mask as runs

    found = runs.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": list(found["size"]), "counts": found["counts"].decode("ascii")}


def decode_mask(encoded: Mapping[str, Any]) -> np.ndarray:
    """The boolean mask (height, width) that `encode_mask` was given.

    Raises:
        UserError: these are no run lengths.
    """
    from pycocotools import mask as runs

    try:
        height, width = (int(side) for side in encoded["size"])
        return runs.decode({"size": [height, width], "counts": encoded["counts"].encode("ascii")}).astype(bool)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"a mask that is no run lengths ({error}); run the benchmark again") from None


def score_image(
    predicted: Sequence[Sequence[float]], mask: np.ndarray | None, *, size: tuple[int, int], rule: BoxRule
) -> dict[str, Any]:
    """BBox-Mask IoU of one image.

    Args:
        predicted: boxes in pixels of the image.
        mask: its ground truth; None for a normal image.
        size: (width, height).
        rule: from the mask to true boxes.

    Returns:
        `iou` against the union of the true boxes and `mask_iou` against the mask, 0 to 1 (1 for a normal image without
        boxes), `truth` (the true boxes), `defect_share` of the image's pixels, and `size_class` (`small`, `medium`,
        `large`; None for a normal image).
    """
    truth = [] if mask is None else rule.boxes(mask)
    area = 0 if mask is None else int(np.count_nonzero(mask))
    share = area / (size[0] * size[1])
    return {
        "iou": bbox_mask_iou(predicted, truth, size),
        "mask_iou": bbox_mask_iou(predicted, truth if mask is None else mask, size),
        "truth": truth,
        "defect_share": share,
        "size_class": None if mask is None else ("small", "medium", "large")[sum(share >= one for one in SIZES)],
    }


def summarise(images: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Table III's columns over some images, in percent.

    Args:
        images: with `iou`, `mask_iou` and `predicted` (list of boxes).

    Returns:
        `images`; `mean_iou` and `accuracy` (threshold → share of images whose IoU reaches it) against true boxes;
        `mask_mean_iou` and `mask_accuracy` against masks; `empty`, the share of images without a predicted box. None
        for each of them where there is no image.
    """
    images = list(images)
    found: dict[str, Any] = {"images": len(images)}
    for prefix, name in (("", "iou"), ("mask_", "mask_iou")):
        values = np.array([image[name] for image in images], float)
        found[f"{prefix}mean_iou"] = 100 * float(values.mean()) if images else None
        found[f"{prefix}accuracy"] = {
            str(threshold): 100 * float((values >= threshold).mean()) if images else None for threshold in THRESHOLDS
        }
    found["empty"] = 100 * sum(not image["predicted"] for image in images) / len(images) if images else None
    return found
