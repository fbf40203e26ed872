"""Records of training data with the hints that `adcopilot inspect --hints map` gives about the same pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..anomaly_map.comparing import AnomalyMap, Mapper
from ..anomaly_map.hints import hint_of, hinted_record
from ..files import path_inside
from ..images import open_image, used_bits
from ..inspect.mapping import map_of_pair
from ..inspect.opening import LEAST_TEMPLATES, MOST_TEMPLATES
from ..line.thresholds import from_good
from ..records import IMAGE_PLACEHOLDER, check_record

__all__ = ["GOOD_PAIRS", "record_map", "threshold_of", "with_map_hint"]

#: Good pairs that a threshold of the map is found from, at most.
GOOD_PAIRS = MOST_TEMPLATES


def threshold_of(scores: Sequence[float]) -> float | None:
    """The map's threshold from the scores of good pairs; None of fewer than five, as among templates."""
    return from_good(scores, of_map=True).value if len(scores) >= LEAST_TEMPLATES else None


def record_map(record: Mapping[str, Any], mapper: Mapper, *, folder: Path) -> AnomalyMap | None:
    """The map of a record's last image with those before it; None where there is none (`map_of_pair`).

    Args:
        record: of `adcopilot.records`.
        folder: that its images are relative to.

    Raises:
        UserError: an image cannot be read.
    """
    paths = [path_inside(folder, name) for name in record["images"]]
    bits = used_bits(paths)
    *templates, query = (open_image(path, bits=bits) for path in paths)
    return map_of_pair(mapper, query, templates)


def with_map_hint(
    record: Mapping[str, Any], mapper: Mapper, *, threshold: float | None, folder: Path
) -> dict[str, Any] | None:
    """The record with the map's hint in its first question; None where there is none to give.

    There is none where it has one image or none, where these are one picture or of different shapes, and where not all
    of them stand in its first turn.

    Args:
        record, folder: as `record_map`.
        threshold: of the map's score; None for what differs most.

    Raises:
        UserError: an image cannot be read.
    """
    first, *others = record["messages"]
    if first["role"] != "user" or any(IMAGE_PLACEHOLDER in one["content"] for one in others):
        return None
    found = record_map(record, mapper, folder=folder) if len(record["images"]) > 1 else None
    if found is None:
        return None
    hinted = hinted_record(record, hint_of(found, threshold=threshold, space=found.size))
    check_record(hinted, name=record["images"][-1])
    return hinted
