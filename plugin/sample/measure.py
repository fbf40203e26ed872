"""Asks a model the question of `adcopilot inspect` about every pair of a test split, and scores the answers."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from adcopilot.boxes import parse_boxes
from adcopilot.prompts import ANSWER_WORDS


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What a model reached on one split.

    Attributes:
        pairs: how many it was asked about.
        balanced_accuracy: mean of the share of defective pairs called defective and of normal ones called normal.
        auroc: of the probability of "Yes" against "No" as the answer's first word.
        iou: mean over defective pairs of BBox-Mask IoU: the union of the answered boxes as a mask against the union of
            the true boxes as a mask (0 where no box was answered).
    """

    pairs: int
    balanced_accuracy: float
    auroc: float
    iou: float


def read_split(data: Path, split: str, *, limit: int | None = None) -> list[dict]:
    lines = (data / f"{split}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines[:limit]]


def measure(
    model_folder: Path, data: Path, records: list[dict], *, batch_size: int = 100
) -> tuple[Scores, list[dict]]:
    """Generates answers, `batch_size` pairs at a time.

    Args:
        model_folder: an exported model, AD-Copilot's or Qwen2.5-VL's.
        data: folder the records' image paths start from.
        records: of a split whose conversations ask the one question of `adcopilot inspect`.

    Returns:
        The scores, and for each record `{"query", "score", "text", "boxes"}`.
    """
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from adcopilot.model.registration import register_auto_classes

    register_auto_classes()
    processor = AutoProcessor.from_pretrained(model_folder)
    processor.tokenizer.padding_side = "left"
    model = AutoModelForImageTextToText.from_pretrained(
        model_folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    yes, no = (processor.tokenizer.encode(word)[0] for word in ANSWER_WORDS)
    answers = []
    for start in range(0, len(records), batch_size):
        batch = records[start : start + batch_size]
        texts = [_prompt(processor, record) for record in batch]
        images = [Image.open(data / path).convert("RGB") for record in batch for path in record["images"]]
        inputs = processor(text=texts, images=images, padding=True, return_tensors="pt")
        with torch.inference_mode():
            output = model.generate(
                **inputs, max_new_tokens=120, do_sample=False, output_logits=True, return_dict_in_generate=True
            )
        first = output.logits[0].float()
        scores = torch.sigmoid(first[:, yes] - first[:, no]).tolist()
        replies = processor.batch_decode(output.sequences[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        for record, score, text in zip(batch, scores, replies, strict=True):
            boxes = [found["bbox_2d"] for found in parse_boxes(text)]
            answers.append({"query": record["images"][1], "score": score, "text": text, "boxes": boxes})
    return score_answers(records, answers, data), answers


def _prompt(processor, record: dict) -> str:
    question = record["messages"][0]["content"].replace("<image>", "")
    content = [{"type": "image"}] * len(record["images"]) + [{"type": "text", "text": question}]
    return processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)


def score_answers(records: list[dict], answers: list[dict], data: Path) -> Scores:
    truth = np.array([record["anomalous"] for record in records])
    said = np.array([answer["text"].strip().startswith(ANSWER_WORDS[0]) for answer in answers])
    score = np.array([answer["score"] for answer in answers])
    overlaps = []
    for record, answer in zip(records, answers, strict=True):
        if record["anomalous"]:
            with Image.open(data / record["images"][1]) as image:
                size = image.size
            overlaps.append(box_mask_iou(answer["boxes"], record["boxes"], size))
    return Scores(
        pairs=len(records),
        balanced_accuracy=float((said[truth].mean() + (~said[~truth]).mean()) / 2),
        auroc=auroc(score, truth),
        iou=float(np.mean(overlaps)),
    )


def auroc(score: np.ndarray, truth: np.ndarray) -> float:
    """The share of (defective, normal) couples ranked rightly; ties count half."""
    above = score[truth][:, None] - score[~truth][None, :]
    return float(((above > 0) + 0.5 * (above == 0)).mean())


def box_mask_iou(boxes: list[list[float]], true_boxes: list[list[int]], size: tuple[int, int]) -> float:
    masks = np.zeros((2, size[1], size[0]), dtype=bool)
    for mask, group in zip(masks, (boxes, true_boxes), strict=True):
        for x1, y1, x2, y2 in group:
            mask[max(0, round(y1)) : max(0, round(y2)), max(0, round(x1)) : max(0, round(x2))] = True
    union = (masks[0] | masks[1]).sum()
    return float((masks[0] & masks[1]).sum() / union) if union else 1.0
