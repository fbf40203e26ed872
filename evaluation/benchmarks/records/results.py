"""From the lines of a run to scores by task: what a task's file says is right, and how verdicts fall."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adcopilot.answering.families import Family, says_nothing_is_there, split_thinking
from adcopilot.line.ranking import auroc
from adcopilot.masks import MaskOptions
from adcopilot.prompts import ANSWER_WORDS
from adcopilot.tasks import TASKS
from adcopilot.tasks.locate import LOCATE, mask_share
from adcopilot.tasks.verdict import VERDICT, stated

from ...bootstrap import interval, ratio_draws, strata_of
from ...box_scores import answered_boxes
from ...map_options import BOXES, Chosen
from ...ranking import anomaly_score

__all__ = ["KINDS", "cells", "results_of_records", "show"]

#: What verdicts are about; a balanced accuracy is the mean of the shares of right ones of both.
KINDS = ("defective", "normal")


def results_of_records(
    lines: Sequence[Mapping[str, Any]], *, family: Family, root: Path, chosen: Chosen | None = None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Scores of a run, and of each question.

    Returns:
        (scores, each). Scores: `tasks`: of each task `questions`, `score` (percent: accuracy, or mean BBox-Mask IoU)
        and its 95 % `interval`; `verdicts`: percent of right verdicts about `KINDS` and their mean, `balanced`, None
        where a kind was not asked about; `average` of the tasks' scores; `intervals` of `average` and `balanced`, over
        draws of query images; `categories`: `tasks` by category; `columns`: task → score; `auroc`: of verdicts by the
        probability of their first word (percent), None where it is not known; `unread`: why an answer states nothing →
        how many; `masks_over_half`, where masks mark more than half of their image and are perhaps inverted. Each:
        `item`, `task`, `category`, `image` (the query), `score` (0 to 1), `stated`, `kind` of a verdict's right
        answer, `boxes` in pixels of the original.

        With `chosen`, boxes are its, and `boxes_by` has the row of the task of boxes for each of `BOXES`, `whose` they
        are here, and `boxes_made` how the map was made; `by` of a question is its score for each.
    """
    each, unread, ranked, large = [], Counter(), [], 0
    for line in lines:
        meta, text = line["meta"], line["reply"]["text"]
        task = TASKS[meta["task"]]
        record = {**meta, "answer": line["reference"], "messages": [{"role": "user", "content": meta["asked"]}]}
        refused = bool(line["reply"].get("refused"))
        scored = {"item": line["item"], "task": task.name, "category": meta["category"], "image": meta["images"][-1]}
        if task is LOCATE:
            scored["boxes"] = [] if refused else answered_boxes(line, family=family)
            large += mask_share(record, root) > MaskOptions.most
            if chosen is not None:
                kinds = chosen.boxes(line["item"], scored["boxes"])
                scored["by"] = {name: task.reward(json.dumps(some), record, root) for name, some in kinds.items()}
                scored["boxes"] = kinds[chosen.whose]
            # in pixels of the original, as the task reads them; boxes outside of the image say nothing
            none = says_nothing_is_there(split_thinking(text)[1])
            text = json.dumps(scored["boxes"]) if scored["boxes"] or none else ""
            if chosen is not None and chosen.whose == "map":
                text, refused = json.dumps(scored["boxes"]), False
        states = not refused and task.states(text, record)
        if not states:
            unread["were refused by the endpoint" if refused else f"state no answer of {task.name}"] += 1
        scored |= {"score": task.reward(text, record, root), "stated": states}
        if task is VERDICT:
            scored["kind"] = KINDS[0] if stated(line["reference"]) else KINDS[1]
            if line["options"]:
                score = anomaly_score(line["reply"].get("option_logprobs"), line["options"], ANSWER_WORDS[0])
                if score is not None:
                    ranked.append((score, scored["kind"] == KINDS[0]))
        each.append(scored)
    tasks = _by_task(each)
    found = auroc([score for score, _ in ranked], [label for _, label in ranked]) if ranked else None
    of_kind = {kind: _mean([one["score"] for one in each if one.get("kind") == kind]) for kind in KINDS}
    return {
        "tasks": tasks,
        "verdicts": {**of_kind, "balanced": None if None in of_kind.values() else _mean_of(of_kind.values())},
        "average": _mean_of([row["score"] for row in tasks.values()]),
        "intervals": _intervals(each, list(tasks)),
        "columns": {name: row["score"] for name, row in tasks.items()},
        "categories": {
            name: _by_task([one for one in each if one["category"] == name])
            for name in sorted({one["category"] for one in each})
        },
        "auroc": None if found is None else 100 * found,
        "unread": dict(unread),
        **({"masks_over_half": large} if large else {}),
        **({} if chosen is None else {"boxes_by": _by(each, chosen), "boxes_made": dict(chosen.made)}),
    }, each


def _by(each: Sequence[Mapping[str, Any]], chosen: Chosen) -> dict[str, Any]:
    asked = [one["by"] for one in each if "by" in one]
    return {"whose": chosen.whose, **{whose: _row([one[whose] for one in asked]) for whose in BOXES if asked}}


def _by_task(each: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    values = {name: [one["score"] for one in each if one["task"] == name] for name in TASKS}
    return {name: _row(some) for name, some in values.items() if some}


def _row(values: Sequence[float]) -> dict[str, Any]:
    draws = ratio_draws([np.array([[[value, 1.0]] for value in values])])[:, 0]
    return {"questions": len(values), "score": _mean(values), "interval": _percent(interval(draws))}


def _mean(values: Sequence[float]) -> float | None:
    return 100 * float(np.mean(values)) if values else None


def _mean_of(values: Any) -> float:
    return float(np.mean(list(values)))


def _percent(ends: Sequence[float] | None) -> list[float] | None:
    return None if ends is None else [100 * end for end in ends]


def cells(scored: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """What a question adds to the numerators and denominators of columns: its task's, and its kind's."""
    one = (scored["score"], 1.0)
    return {scored["task"]: one, **({scored["kind"]: one} if "kind" in scored else {})}


def _intervals(each: Sequence[Mapping[str, Any]], tasks: Sequence[str]) -> dict[str, list[float]]:
    """Of means of columns, by draws of the query images: the questions about one image stand or fall together."""
    columns = [*tasks, *KINDS]
    draws = ratio_draws(strata_of((("", scored["image"], cells(scored)) for scored in each), columns))
    parts = {"average": draws[:, : len(tasks)], "balanced": draws[:, len(tasks) :]}
    found = {name: _percent(interval(some.mean(axis=1))) for name, some in parts.items()}
    return {name: ends for name, ends in found.items() if ends is not None}


def show(found: Mapping[str, Any]) -> None:
    """Print a line a task."""
    if found.get("masks_over_half"):
        print(f"{found['masks_over_half']} masks mark more than half of their image: look whether they are inverted")
    for name, row in found["tasks"].items():
        what = "mean BBox-Mask IoU" if name == LOCATE.name else "right"
        print(f"{name}: {row['score']:.2f} % {what} of {row['questions']}{_spread(row['interval'])}")
    if found["verdicts"]["balanced"] is not None:
        shares = ", ".join(f"{kind} {found['verdicts'][kind]:.2f}" for kind in KINDS)
        spread = _spread(found["intervals"].get("balanced"))
        print(f"balanced accuracy of the verdicts: {found['verdicts']['balanced']:.2f} %{spread}: {shares}")
    for whose in BOXES:
        row = found.get("boxes_by", {}).get(whose)
        if row is not None:
            print(f"boxes by {whose}: {row['score']:.2f} % mean BBox-Mask IoU{_spread(row['interval'])}")
    if found["auroc"] is not None:
        print(f"AUROC of the verdicts' first word: {found['auroc']:.2f}")


def _spread(ends: Sequence[float] | None) -> str:
    return "" if ends is None else f" (95 % interval {ends[0]:.2f} to {ends[1]:.2f})"
