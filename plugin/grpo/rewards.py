"""The rewards of stage 3 (the paper's equation 1): is the answer in its form, and is it right?

    R(x, y) = format_weight * R_fmt(y) + (1[C_pred = C_gt] for multiple choice | IoU(B_pred, M_gt) for localisation)

Both terms are verifiable: nothing is asked of a model, and no text is evaluated. The answer is scored whether or not
the form is kept, as the equation has it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..answering.choices import strict_answer
from ..answering.families import split_thinking
from ..boxes import parse_boxes
from ..boxes.areas import MaskTruth, bbox_mask_iou
from ..errors import UserError
from ..images import image_size
from ..masks import check_size, read_mask

__all__ = ["choice_reward", "format_reward", "localisation_reward", "path_inside", "question_kind", "score"]

_TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_OPTION = re.compile(r"^\s*([A-Z])[.):]\s+(\S.*?)\s*$", re.MULTILINE)


def format_reward(completion: str) -> float:
    """1 for `<think>…</think><answer>…</answer>` and nothing else but white space, 0 otherwise.

    Each tag stands there once, in this order and in lower case, and neither part is empty: a text that mentions the
    tags, repeats them or goes on after the answer has not kept the form.
    """
    if any(completion.count(tag) != 1 for tag in _TAGS):
        return 0.0
    starts = [completion.index(tag) for tag in _TAGS]
    if starts != sorted(starts):
        return 0.0
    ends = [start + len(tag) for start, tag in zip(starts, _TAGS, strict=True)]
    outside = completion[: starts[0]] + completion[ends[1] : starts[2]] + completion[ends[3] :]
    reasoning, answer = completion[ends[0] : starts[1]], completion[ends[2] : starts[3]]
    return float(not outside.strip() and bool(reasoning.strip()) and bool(answer.strip()))


def question_kind(record: Mapping[str, Any]) -> str:
    """`mc` or `loc`, by the record's true answer; its `task` may be `think`, which is one of both asked for reasons.

    Raises:
        UserError: the answer is neither the letter of one option nor a list of boxes.
    """
    answer = record.get("answer")
    if isinstance(answer, str) and re.fullmatch(r"[A-Z]", answer.strip()):
        return "mc"
    if isinstance(answer, str) and answer.strip().startswith("["):
        return "loc"
    raise UserError(
        f"record {record.get('key', '(without key)')}: 'answer' is {str(answer)[:60]!r}, expected the letter of an "
        "option or a JSON list of boxes; use the mc, loc or think records of `adcopilot data build`"
    )


def choice_reward(completion: str, record: Mapping[str, Any]) -> float:
    """1 where the answer states the right option and nothing else (`evaluation.mmad.answers.strict_answer`)."""
    questions = [message["content"] for message in record["messages"] if message["role"] == "user"]
    options = dict(_OPTION.findall(questions[-1]))
    return float(strict_answer(completion, options).letter == record["answer"].strip())


def localisation_reward(completion: str, record: Mapping[str, Any], *, media_dir: str | Path = ".") -> float:
    """BBox-Mask IoU of the answer's boxes with the record's mask, or with its boxes where it has no mask.

    Args:
        completion: its boxes are pixels of the original query, as the record's are; the runner has mapped them there.
        record: `mask` (a PNG's path, "" for none), `boxes`, `images` (the query last).
        media_dir: the folder that the record's paths start from.

    Raises:
        UserError: the mask or the query cannot be read, or lies outside `media_dir`.
    """
    found = [box["bbox_2d"] for box in parse_boxes(split_thinking(completion)[1])]
    if record.get("mask"):
        path = path_inside(media_dir, record["mask"])
        truth = _mask(path)
        if record.get("images"):
            check_size(truth.mask, _size(path_inside(media_dir, record["images"][-1])), name=str(path))
        return bbox_mask_iou(found, truth, truth.size)
    size = _size(path_inside(media_dir, record["images"][-1]))
    return bbox_mask_iou(found, record.get("boxes") or [], size)


def score(
    completion: str,
    record: Mapping[str, Any],
    *,
    format_weight: float,
    media_dir: str | Path = ".",
    choice: bool = True,
    boxes: bool = True,
) -> dict[str, float]:
    """The reward of one completion.

    Args:
        completion: what the model wrote after the prompt; boxes in pixels of the original query.
        record: a Chat-AD record with a verifiable answer (`mc`, `loc`, or `think` about one of them).
        format_weight: the equation's lambda.
        media_dir: the folder that the record's paths start from.
        choice, boxes: False leaves that kind of answer without reward (Table VI's ablations).

    Returns:
        `format` 0 or 1, `answer` 0 to 1, and `total` = `format_weight` * `format` + `answer`.

    Raises:
        UserError: the record has no verifiable answer, or its mask or query cannot be read.
    """
    kind = question_kind(record)
    answer = 0.0
    if kind == "mc" and choice:
        answer = choice_reward(completion, record)
    elif kind == "loc" and boxes:
        answer = localisation_reward(completion, record, media_dir=media_dir)
    kept = format_reward(completion)
    return {"format": kept, "answer": answer, "total": format_weight * kept + answer}


def path_inside(media_dir: str | Path, name: str) -> Path:
    """`name`, a path from a data file, below `media_dir`.

    Raises:
        UserError: it leads out of the folder, by `..`, a link, or by being absolute.
    """
    root = Path(media_dir).resolve()
    path = (root / name).resolve()
    if not path.is_relative_to(root):
        raise UserError(f"{name}: leads out of {media_dir}, expected a path inside it; correct the record")
    return path


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
