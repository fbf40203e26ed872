"""Localisation: a JSON list of boxes, checked against the mask."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..answering.families import says_nothing_is_there, split_thinking
from ..boxes import parse_boxes
from ..boxes.areas import MaskTruth, bbox_mask_iou
from ..errors import UserError
from ..files import path_inside
from ..images import image_size
from ..masks import check_size, read_mask
from .task import Task

__all__ = ["LOCATE", "mask_share", "read_truth"]


def reward(completion: str, record: Mapping[str, Any], media_dir: str | Path = ".") -> float:
    """BBox-Mask IoU of the answer's boxes with the record's mask, or with its boxes where it has no mask.

    Args:
        completion: its boxes are pixels of the original query, as the record's are; the runner has mapped them there.
        record: `mask` (a PNG's path, "" for none), `boxes`, `images` (the query last).
        media_dir: the folder that the record's paths start from.

    Raises:
        UserError: the mask or the query cannot be read, or lies outside `media_dir`.
    """
    if not _states(completion, record):
        return 0.0  # of a normal part too, where no box is right: nothing was said about it
    found = [box["bbox_2d"] for box in parse_boxes(split_thinking(completion)[1])]
    truth = read_truth(record, media_dir)
    if truth is not None:
        return bbox_mask_iou(found, truth, truth.size)
    size = _size(path_inside(media_dir, record["images"][-1]))
    return bbox_mask_iou(found, record.get("boxes") or [], size)


def read_truth(record: Mapping[str, Any], media_dir: str | Path) -> MaskTruth | None:
    """What a record's mask marks; None of a record without one.

    Raises:
        UserError: the mask cannot be read, marks nothing, is of another size than the query, or lies outside.
    """
    if not record.get("mask"):
        return None
    path = path_inside(media_dir, record["mask"])
    truth = _mask(path)
    if record.get("images"):
        check_size(truth.mask, _size(path_inside(media_dir, record["images"][-1])), name=str(path))
    return truth


def mask_share(record: Mapping[str, Any], media_dir: str | Path) -> float:
    """Share of the query that a record's mask marks; 0 of a record without one.

    Raises:
        UserError: as `reward`.
    """
    truth = read_truth(record, media_dir)
    return 0.0 if truth is None else float(truth.mask.mean())


@lru_cache(maxsize=4096)  # of every completion of a group, and again in every epoch
def _size(path: Path) -> tuple[int, int]:
    return image_size(path)


@lru_cache(maxsize=256)  # a group of completions is scored on one mask
def _mask(path: Path) -> MaskTruth:
    try:
        values = read_mask(path).values
    except UserError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise UserError(
            f"{path}: the mask cannot be read ({reason}); check the path, or remove it from the record"
        ) from None
    if not values.any():
        raise UserError(
            f"{path}: the mask marks nothing, expected the defect's pixels; correct it, or remove it from the record"
        )
    return MaskTruth(values > 0)


def _states(completion: str, record: Mapping[str, Any]) -> bool:
    answer = split_thinking(completion)[1]
    return bool(parse_boxes(answer)) or says_nothing_is_there(answer)


LOCATE = Task(
    name="loc",
    title="boxes",
    is_answer=lambda text: text.strip().startswith("["),
    states=_states,
    reward=reward,
)
