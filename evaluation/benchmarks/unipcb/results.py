"""From the lines of a run to Table IV's row, and to the benchmark's own prediction file."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from adcopilot.answering.base import Backend
from adcopilot.answering.families import FAMILIES, Family, says_nothing_is_there, split_thinking
from adcopilot.cli.saying import say
from adcopilot.errors import UserError
from adcopilot.jsonl import write_json

from ...run_folder import stored_results
from .answers import class_boxes, letter_answer
from .dataset import PcbSample
from .judge import OpenAnswer
from .scoring import COLUMNS, IOU, Scored, match_boxes, summary
from .text_scores import BertScore, SBert, TextScorer

__all__ = [
    "iou_of",
    "judge_backend",
    "make_scorers",
    "official_predictions",
    "problem",
    "results_of_records",
    "show",
    "table_text",
]

#: From so many answers on, scoring them is worth a word.
_MANY = 500
#: Grades open answers, as `judge.judge` does.
Judge = Callable[[Sequence[OpenAnswer]], tuple[list[float | None], dict[str, Any]]]


def iou_of(args: argparse.Namespace) -> float:
    """The least overlap that is asked for; where none is, of a run that is scored again, as the run had it.

    Raises:
        UserError: it is no share.
    """
    if args.iou is None:
        before = stored_results(args.score).get("iou") if args.score is not None else None
        return before if isinstance(before, (int, float)) and 0 < before <= 1 else IOU
    if not 0 < args.iou <= 1:
        raise UserError(f"--iou is {args.iou:g}, expected more than 0 and at most 1")
    return args.iou


def make_scorers(args: argparse.Namespace) -> dict[str, TextScorer]:
    """S-BERT and BERTScore as asked for, loaded, once for a command line.

    Raises:
        UserError: one of them cannot be loaded.
    """
    return _scorers(args.sbert, args.bertscore, args.bertscore_layer, args.score_device)


@lru_cache(maxsize=1)
def _scorers(sbert: str, bertscore: str, layer: int | None, device: str | None) -> dict[str, TextScorer]:
    scorers: dict[str, TextScorer] = {}
    if sbert.lower() != "none":
        scorers["sbert"] = SBert(model=sbert, device=device)
    if bertscore.lower() != "none":
        scorers["bertscore"] = BertScore(model=bertscore, layer=layer, device=device)
    return scorers


def judge_backend(args: argparse.Namespace) -> Backend | None:
    """Who grades open answers, None where nobody does."""
    if args.judge_model is None:
        return None
    from adcopilot.answering.api import ApiBackend

    return ApiBackend(
        model=args.judge_model,
        base_url=args.judge_url,
        option="--judge-url",
        key_option="--judge-key-variable",
        key_variable=args.judge_key_variable,
        concurrency=args.concurrency,
        timeout=args.timeout,
    )


def results_of_records(
    records: Sequence[Mapping[str, Any]],
    *,
    scorers: Mapping[str, TextScorer],
    grade: Judge | None = None,
    iou: float = IOU,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """All scores of a run, and those of each question.

    Args:
        records: its lines; boxes have `model_size` and `family`.
        scorers: of `sbert` and `bertscore`, those that are to be computed.
        grade: the judge.
        iou: least overlap of boxes that match.

    Returns:
        What `scoring.summary` returns, with `scorers` and `judge` (what they were); `iou`; `unread`, why an answer
        says nothing → how many (such a choice is wrong, such boxes are none, such a text is empty); and `missing`,
        column → why it has no value.
    """
    rows = [_scored(record, iou) for record in records]
    opened = [index for index, record in enumerate(records) if record["meta"]["form"] == "open"]
    answers = [split_thinking(records[index]["reply"]["text"])[1] for index in opened]
    references = [records[index]["reference"] for index in opened]
    for name, scorer in scorers.items():
        if len(opened) > _MANY:
            say(f"{scorer.name}: {len(opened)} open answers, which takes minutes without a GPU")
        for index, value in zip(opened, scorer.score(answers, references), strict=True):
            setattr(rows[index], name, value)

    found: dict[str, Any] = {"scorers": {name: scorer.describe() for name, scorer in scorers.items()}, "iou": iou}
    if grade is not None:
        asked = [records[index]["meta"]["question"] for index in opened]
        grades, found["judge"] = grade(list(map(OpenAnswer, asked, references, answers)))
        for index, value in zip(opened, grades, strict=True):
            rows[index].grade = value
    found |= summary(rows)
    found["unread"] = _unread(records, rows)
    found["truncated"] = sum(bool(record["reply"].get("truncated")) for record in records)
    found["missing"] = _missing(found["columns"], scorers, grade)
    return found, [{"item": record["item"], **row.line()} for record, row in zip(records, rows, strict=True)]


def read_boxes_of(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The boxes of an answer, in pixels of the original image."""
    family: Family = FAMILIES[record["family"]]
    return class_boxes(
        record["reply"]["text"],
        family=family,
        size=tuple(record["meta"]["size"]),
        model_size=tuple(record["model_size"]),
    )


def _scored(record: Mapping[str, Any], iou: float) -> Scored:
    meta, reference, text = record["meta"], record["reference"], record["reply"]["text"]
    if meta["form"] == "choice":
        read = letter_answer(text, record["options"])
        right = read.letter == reference
        return Scored(meta=meta, right=right, right_strictly=right and read.how != "found", read=read.how)
    if meta["form"] == "boxes":
        boxes = read_boxes_of(record)
        return Scored(
            meta=meta,
            matches=match_boxes(boxes, reference, iou=iou),
            matches_any=match_boxes(boxes, reference, iou=iou, by_class=False),
        )
    return Scored(meta=meta)


def _unread(records: Sequence[Mapping[str, Any]], rows: Sequence[Scored]) -> dict[str, int]:
    lost: Counter[str] = Counter()
    for record, row in zip(records, rows, strict=True):
        answer = split_thinking(record["reply"]["text"])[1]
        if record["reply"].get("refused"):
            lost["were refused by the endpoint"] += 1
        elif row.read == "none":
            lost["state no option"] += 1
        elif row.matches is not None and not (row.matches.hits + row.matches.false):
            lost["hold neither a box nor a word that there is none"] += not says_nothing_is_there(answer)
        elif row.meta["form"] == "open":
            lost["are empty"] += not answer
    return {why: count for why, count in lost.items() if count}


def _missing(
    columns: Mapping[str, float | None], scorers: Mapping[str, TextScorer], grade: Judge | None
) -> dict[str, str]:
    reasons = {}
    for title in (title for title in COLUMNS if columns[title] is None):
        if title.startswith("S-BERT") and "sbert" not in scorers:
            reasons[title] = "--sbert none"
        elif title.startswith("BERTScore") and "bertscore" not in scorers:
            reasons[title] = "--bertscore none"
        elif title == "LLM as Judge":
            reasons[title] = "no --judge-model" if grade is None else "no grades"
        else:
            reasons[title] = "no such questions were asked"
    return reasons


def official_predictions(path: Path, records: Sequence[Mapping[str, Any]], samples: Sequence[PcbSample]) -> None:
    """Write the benchmark's own form of predictions: its samples with `model_response` at each question.

    Boxes are written in the benchmark's notation and frame, so that its evaluation reads them whatever the model's
    own notation is; other answers as the model wrote them.
    """
    answers = {(record["meta"]["sample"], record["meta"]["turn"]): record for record in records}
    found = []
    for sample in samples:
        turns = [
            {**entry, "model_response": _official_answer(answers[sample.number, turn])}
            for turn, entry in enumerate(sample.turns)
            if (sample.number, turn) in answers
        ]
        if turns:
            found.append({**sample.entry, "conversation": turns})
    write_json(path, found, allow_nan=False)


def _official_answer(record: Mapping[str, Any]) -> str:
    if record["meta"]["form"] != "boxes":
        return record["reply"]["text"]
    size, frame = record["meta"]["size"], record["meta"]["frame"]
    scale = [frame[0] / size[0], frame[1] / size[1]] * 2
    classes: dict[str, list[list[int]]] = {}
    for box in read_boxes_of(record):
        scaled = [round(value * factor) for value, factor in zip(box["bbox_2d"], scale, strict=True)]
        classes.setdefault(box["label"], []).append(scaled)
    return json.dumps(classes, ensure_ascii=False)


def table_text(found: Mapping[str, Any]) -> str:
    """Table IV's row as text, and what it lacks."""
    columns = [*COLUMNS, "Average"]
    values = [*(found["columns"][title] for title in COLUMNS), found["average"]]
    cells = ["–" if value is None else f"{value:.1f}" for value in values]
    widths = [max(len(title), len(cell)) for title, cell in zip(columns, cells, strict=True)]
    lines = [
        "  ".join(f"{text:>{width}}" for text, width in zip(texts, widths, strict=True)) for texts in (columns, cells)
    ]
    reasons: dict[str, list[str]] = {}
    for title, reason in found["missing"].items():
        reasons.setdefault(reason, []).append(title)
    lines += [f"no {', '.join(titles)}: {reason}" for reason, titles in reasons.items()]
    return "\n".join(lines)


def show(found: Mapping[str, Any]) -> None:
    """Print Table IV's row."""
    print(table_text(found))
    unreadable = found["read"].get("none", 0)
    if unreadable:
        print(f"{unreadable} choices were answered without a letter that could be read; they count as wrong")
    if found["truncated"]:
        print(f"{found['truncated']} answers were cut off; see --max-new-tokens")


def problem(found: Mapping[str, Any]) -> str:
    """Why the judge gave up half-way, "" if it did not."""
    judged = found.get("judge")
    if not judged or judged["judged"] >= judged["of"]:
        return ""
    reason = judged.get("stopped") or (
        f"{judged['failed']} had no reply, {judged['refused']} were refused, {judged['unreadable']} replies hold "
        "no grade"
    )
    return f"{judged['judged']} of {judged['of']} open answers graded ({reason}); start again"
