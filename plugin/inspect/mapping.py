"""What an anomaly map adds to a result."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from ..anomaly_map.comparing import AnomalyMap, Mapper
from ..errors import UserError
from ..jsonl import atomic_write
from .result import Result
from .same_picture import is_same_picture

__all__ = ["DIFFERENCE", "map_of_pair", "save_map", "with_map"]

#: What a map's boxes are labelled: it cannot name a defect.
DIFFERENCE = "difference"


def map_of_pair(mapper: Mapper, query: Image.Image, templates: Sequence[Image.Image]) -> AnomalyMap | None:
    """The map of a query, upright and RGB as its templates.

    None where it would say nothing: there is no template, one is the query itself, or one is of another shape.
    """
    if not templates or any(is_same_picture(template, query) for template in templates):
        return None
    with suppress(UserError):
        return mapper.compare(query, templates)
    return None


def with_map(result: Result, anomaly_map: AnomalyMap, *, threshold: float | None, alone: bool) -> Result:
    """The result with the map's score and boxes.

    Args:
        threshold: of the map's score, below which there are no boxes; None where none is known, for boxes around what
            differs most.
        alone: whether there is no model, so that score and boxes are the map's.
    """
    score = round(anomaly_map.pred_score, 6)
    boxes = [{"bbox_2d": box, "label": DIFFERENCE} for box in anomaly_map.places(threshold)]
    names = {"score": score, "boxes": boxes} if alone else {"map_score": score, "map_boxes": boxes}
    return replace(result, **names, map_doubt=anomaly_map.doubt, map=anomaly_map, map_threshold=threshold)


def save_map(anomaly_map: AnomalyMap, path: Path) -> None:
    """Write a map of the query's size as a PNG of 16 bits, 65535 for a difference of 1 or more.

    Raises:
        UserError: it cannot be written.
    """
    values = np.rint(anomaly_map.anomaly_map.clip(0, 1) * 65535).astype(np.uint16)
    try:
        atomic_write(path, lambda file: Image.fromarray(values).save(file, format="PNG"))
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); give another --save-maps") from None
