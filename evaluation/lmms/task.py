"""What `adcopilot_mmad.yaml` calls: a document's pictures and words, and MMAD's tables from the answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from adcopilot.evaluation.benchmarks.mmad.results import results_of_records
from adcopilot.images import open_image
from adcopilot.records import IMAGE_PLACEHOLDER

__all__ = [
    "average",
    "average_strict",
    "doc_to_messages",
    "doc_to_text",
    "doc_to_visual",
    "f1",
    "process_results",
]


def doc_to_visual(doc: Mapping[str, Any]) -> list[Image.Image]:
    """Templates, then the query, upright, in RGB."""
    return [open_image(path) for path in doc["images"]]


def doc_to_text(doc: Mapping[str, Any], lmms_eval_specific_kwargs: Mapping[str, Any] | None = None) -> str:
    """The words without the pictures' places, for models of lmms-eval that put pictures first."""
    return doc["prefix"].replace(IMAGE_PLACEHOLDER, "") + doc["question"]


def doc_to_messages(
    doc: Mapping[str, Any], lmms_eval_specific_kwargs: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """One turn with each picture in its place, as `adcopilot eval mmad` asks."""
    content: list[dict[str, Any]] = []
    pictures = iter(doc_to_visual(doc))
    for number, text in enumerate(f"{doc['prefix']}".split(IMAGE_PLACEHOLDER)):
        if number:
            content.append({"type": "image", "url": next(pictures)})
        if text:
            content.append({"type": "text", "text": text})
    if content and content[-1]["type"] == "text":
        content[-1]["text"] += doc["question"]
    else:
        content.append({"type": "text", "text": doc["question"]})
    return [{"role": "user", "content": content}]


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """An answer as a line of a run, which our scorer reads."""
    line = {
        "item": doc["key"],
        "options": json.loads(doc["options"]),
        "reference": doc["reference"],
        "meta": json.loads(doc["meta"]),
        "reply": {"text": results[0].strip()},
    }
    return dict.fromkeys(("mmad_average", "mmad_average_strict", "mmad_f1"), line)


def average(lines: Sequence[Mapping[str, Any]]) -> float:
    """MMAD's average by its own rule, percent."""
    return results_of_records(lines, samples=1)["average"]["average"]


def average_strict(lines: Sequence[Mapping[str, Any]]) -> float:
    """The same where only a stated option counts."""
    return results_of_records(lines, samples=1)["strict"]["average"]["average"]


def f1(lines: Sequence[Mapping[str, Any]]) -> float:
    """F1 of anomaly discrimination, percent."""
    return results_of_records(lines, samples=1)["average"]["f1"]
