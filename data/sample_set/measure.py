"""Asks a model the question of `adcopilot inspect` about every pair of a test split, and scores the answers."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adcopilot.boxes import bbox_mask_iou
from adcopilot.line.ranking import auroc


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What a model reached on one split.

    Attributes:
        pairs: how many it was asked about.
        balanced_accuracy: mean of the share of defective pairs called defective and of normal ones called normal; an
            undecided verdict is neither.
        auroc: of the score, the probability of "Yes" against "No" as the answer's first word; no score ranks lowest.
        iou: mean over defective pairs of BBox-Mask IoU: the union of the answered boxes as a mask against the union of
            the true boxes as a mask (0 where no box was answered).
    """

    pairs: int
    balanced_accuracy: float
    auroc: float
    iou: float


def read_sample_split(data: Path, split: str, *, limit: int | None = None) -> list[dict]:
    lines = (data / f"{split}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines[:limit]]


def measure_model(
    model_folder: Path, data: Path, records: list[dict], *, batch_size: int = 100
) -> tuple[Scores, list[dict]]:
    """Inspects the pairs as `adcopilot inspect` does.

    Args:
        model_folder: an exported model, AD-Copilot's or Qwen2.5-VL's.
        data: folder the records' image paths start from.
        records: of a test split.

    Returns:
        The scores, and the results as dictionaries.
    """
    from adcopilot.inspect.model_inspector import ModelInspector

    inspector = ModelInspector(model=model_folder, batch_size=batch_size, max_new_tokens=120)
    pairs = [tuple(data / path for path in record["images"]) for record in records]
    answers = [result.to_dict() for result in inspector.inspect_many(pairs)]
    return score_answers(records, answers), answers


def score_answers(records: list[dict], answers: list[dict]) -> Scores:
    truth = np.array([record["anomalous"] for record in records])
    defective, normal = (np.array([answer["anomalous"] is said for answer in answers]) for said in (True, False))
    score = np.array([-1.0 if answer["score"] is None else answer["score"] for answer in answers])
    overlaps = []
    for record, answer in zip(records, answers, strict=True):
        if record["anomalous"]:
            found = [box["bbox_2d"] for box in answer["boxes"]]
            overlaps.append(bbox_mask_iou(found, record["boxes"], answer["size"]))
    return Scores(
        pairs=len(records),
        balanced_accuracy=float((defective[truth].mean() + normal[~truth].mean()) / 2),
        auroc=auroc(score, truth) or 0.0,
        iou=float(np.mean(overlaps)),
    )
