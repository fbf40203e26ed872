"""`adcopilot eval records FILE.jsonl`: any model on your own labelled records, by task.

A record is what `adcopilot data build` writes and `adcopilot grpo` trains on: `messages` whose last is the answer,
`images` (templates, then the query), and the right `answer` of a task of `adcopilot.tasks`, with `boxes` and `mask`
where something is to be found. The record's own question is asked, word for word; its task's file says what is right.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adcopilot.answering.base import Backend
from adcopilot.answering.choices import anomaly_score
from adcopilot.answering.families import Family, read_boxes, split_thinking
from adcopilot.answering.items import Item
from adcopilot.boxes import text_boxes
from adcopilot.errors import UserError, shortened
from adcopilot.files import path_inside
from adcopilot.images import image_size
from adcopilot.jsonl import content_key, file_digest, read_jsonl
from adcopilot.prompts import ANSWER_WORDS, THINK_INSTRUCTION
from adcopilot.records import IMAGE_PLACEHOLDER
from adcopilot.tasks import TASKS, task_of
from adcopilot.tasks.choice import CHOICE, options_of
from adcopilot.tasks.locate import LOCATE
from adcopilot.tasks.verdict import OPTIONS, VERDICT

from ... import selection
from ...bootstrap import interval, ratio_draws
from ...command import add_arguments as add_arguments_of_a_run
from ...command import add_benchmark_arguments, evaluate, identity, make_backend, print_json, require, score_again
from ...image_digests import image_digests
from ...ranking import auroc
from ...run_folder import family_of_run
from ...wording import Wording

#: Counts up whenever the same command would ask something else.
VERSION = 1
WHOSE = "the records' own wording"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = add_benchmark_arguments(
        parser, data_root="the folder that the records' image paths start from (that of the first file)"
    )
    what.add_argument("files", nargs="*", type=Path, metavar="FILE", help="records, one JSON object a line")
    what.add_argument("--task", action="append", default=[], choices=list(TASKS), help="only records of this task")
    add_arguments_of_a_run(parser)


def run(args: argparse.Namespace) -> int:
    if args.score is not None:
        root = args.data_root

        def again(manifest: Mapping[str, Any], records: list[dict[str, Any]]) -> dict[str, Any]:
            where = root or Path(manifest["selection"]["data_root"])
            return results(records, family=family_of_run(manifest), root=where)

        return score_again(args, benchmark="records", score=again, show=show)
    if not args.files:
        raise UserError("FILE is missing: name a file of records, as in adcopilot eval records parts.jsonl …")
    require(args, "model", "output")
    args.data_root = args.data_root or args.files[0].resolve().parent
    records = choose(args)
    backend = make_backend(args)
    asked = items(records, root=args.data_root, family=backend.family, thinking=args.thinking, folder=args.output)
    settings = identity(
        backend, benchmark="records", version=VERSION, data=content_key([file_digest(file) for file in args.files])
    )

    def truth(item: Item) -> dict[str, Any]:
        return truth_fields(item, backend)

    def finish(folder: Path, lines: list[dict[str, Any]]) -> dict[str, Any]:
        return results(lines, family=backend.family, root=args.data_root)

    return evaluate(
        args,
        backend=backend,
        items=asked,
        settings=settings,
        wording=Wording(whose=WHOSE, text={"questions": sorted({item.question for item in asked})[:100]}),
        answer_tokens=512,
        finish=finish,
        truth=truth,
        show=show,
    )


def choose(args: argparse.Namespace) -> list[dict[str, Any]]:
    """The records that are asked about.

    Raises:
        UserError: some cannot be used (it names the first ones), or none is left.
    """
    from adcopilot.grpo.prompts import read_records

    for file in args.files:
        _check_root(file, args.data_root)
    records = read_records(args.files, media_dir=args.data_root)
    records = [record for record in records if not args.task or task_of(record).name in args.task]

    def names(record: Mapping[str, Any]) -> list[str]:
        return [str(record.get("category") or ""), str(record.get("source") or "")]

    records = selection.of_category(records, args.category, names=names, kinds="category or source")
    if args.quick is not None:
        records = selection.stratified(
            records,
            args.quick,
            outer=lambda record: task_of(record).name,
            inner=lambda record: bool(record.get("anomalous")),
            name=lambda record: record["key"],
        )
    records = selection.first(records, args.limit)
    if not records:
        raise UserError(f"{', '.join(map(str, args.files))}: no record is left; leave out --task or --category")
    return records


def _check_root(file: Path, root: Path) -> None:
    """Whether the first record's images lie where they are looked for; if not, it is the folder that is wrong.

    Raises:
        UserError: they do not.
    """
    first = next((record for _, record in read_jsonl(file)), {})
    names = first.get("images") or []
    missing = next((name for name in names if isinstance(name, str) and not (root / name).exists()), None)
    if missing is not None:
        raise UserError(
            f"{file}: its first record has {shortened(missing, 120)}, which is not below {root}; say with --data-root "
            "which folder the records' paths start from"
        )


def items(
    records: Sequence[Mapping[str, Any]], *, root: Path, family: Family, thinking: bool, folder: Path | None
) -> list[Item]:
    """One question a record, with the conversation before it.

    Raises:
        UserError: a record has a system prompt, images after its first turn, or boxes before its answer.
    """
    paths = {name: path_inside(root, name) for record in records for name in record["images"]}
    digests = image_digests(list(paths.values()), folder=folder)
    found = []
    for record in records:
        task = task_of(record)
        if any(message["role"] == "system" for message in record["messages"]):
            raise UserError(f"record {record['key']}: has a system prompt, which is not asked here; leave it out")
        turns = [message["content"] for message in record["messages"][:-1]]
        if any(IMAGE_PLACEHOLDER in text for text in turns[1:]):
            raise UserError(f"record {record['key']}: has images after its first turn, expected all in the first")
        if any(text_boxes(text) for text in turns):
            raise UserError(
                f"record {record['key']}: has boxes before its answer, which are pixels of the file and not of what "
                "the model sees; leave such records out"
            )
        *before, first = turns[0].split(IMAGE_PLACEHOLDER)
        prefix: list[str | int] = []
        for place, text in enumerate(before):
            prefix += [text, place] if text else [place]
        turns[0] = first
        question = turns[-1]
        if thinking and THINK_INSTRUCTION not in question:
            question = family.question(question, thinking=True)
        history = tuple(zip(turns[:-1:2], turns[1:-1:2], strict=True))
        images = tuple(paths[name] for name in record["images"])
        # behind reasoning, the first word's probabilities say nothing
        reasons = thinking or THINK_INSTRUCTION in question
        options = None
        if not reasons and task is CHOICE:
            options = options_of(turns[-1])
        elif not reasons and task is VERDICT:
            options = dict(OPTIONS)
        group = content_key("records", list(record["images"]), [digests[path] for path in images], prefix)
        found.append(
            Item(
                key=content_key(group, record["key"], question, list(map(list, history))),
                group=group,
                images=images,
                prefix=tuple(prefix),
                question=question,
                options=options,
                history=history,
                reference=record["answer"],
                meta={
                    "record": record["key"],
                    "task": task.name,
                    "asked": turns[-1],
                    "category": str(record.get("category") or ""),
                    "images": list(record["images"]),
                    "boxes": record.get("boxes") or [],
                    "mask": record.get("mask") or "",
                },
            )
        )
    return found


def truth_fields(item: Item, backend: Backend) -> dict[str, Any]:
    """Sizes of the query in the file and as the model sees it, which boxes are mapped by."""
    if item.meta["task"] != LOCATE.name:
        return {}
    size = image_size(item.images[-1])
    return {"size": list(size), "model_size": list(backend.model_size(size))}


def results(lines: Sequence[Mapping[str, Any]], *, family: Family, root: Path) -> dict[str, Any]:
    """Scores of a run.

    Returns:
        `tasks`: of each task `questions`, `score` (percent: accuracy, or mean BBox-Mask IoU) and its 95 % `interval`;
        `categories`: the same by category and task; `columns`: task → score; `auroc`: of verdicts by the probability
        of their first word (percent), None where it is not known; `unread`: why an answer states nothing → how many.
    """
    values: dict[str, list[float]] = {}
    by_category: dict[str, dict[str, list[float]]] = {}
    unread, ranked = Counter(), []
    for line in lines:
        meta, text = line["meta"], line["reply"]["text"]
        task = TASKS[meta["task"]]
        record = {**meta, "answer": line["reference"], "messages": [{"role": "user", "content": meta["asked"]}]}
        if task is LOCATE and not line["reply"].get("refused"):
            text = _mapped(line, family)
        if line["reply"].get("refused"):
            unread["were refused by the endpoint"] += 1
        elif not task.states(text, record):
            unread[f"state no answer of {task.name}"] += 1
        value = task.reward(text, record, root)
        values.setdefault(task.name, []).append(value)
        by_category.setdefault(meta["category"], {}).setdefault(task.name, []).append(value)
        if task is VERDICT and line["options"]:
            score = anomaly_score(line["reply"].get("option_logprobs"), line["options"], ANSWER_WORDS[0])
            if score is not None:
                ranked.append((score, task.reward(ANSWER_WORDS[0], record, root) == 1.0))
    tasks = {name: _row(values[name]) for name in TASKS if name in values}
    found = auroc([score for score, _ in ranked], [label for _, label in ranked]) if ranked else None
    return {
        "tasks": tasks,
        "columns": {name: row["score"] for name, row in tasks.items()},
        "categories": {
            name: {task: _row(some) for task, some in rows.items()} for name, rows in sorted(by_category.items())
        },
        "auroc": None if found is None else 100 * found,
        "unread": dict(unread),
    }


def _mapped(line: Mapping[str, Any], family: Family) -> str:
    """An answer's boxes in pixels of the original, as the task reads them; the text itself where it has none."""
    size, model_size = tuple(line["size"]), tuple(line["model_size"])
    boxes = read_boxes(line["reply"]["text"], family=family, size=size, model_size=model_size)
    return json.dumps(boxes) if boxes else split_thinking(line["reply"]["text"])[1]


def _row(values: Sequence[float]) -> dict[str, Any]:
    table = np.array([[[value, 1.0]] for value in values])
    draws = ratio_draws([table])[:, 0]
    spread = interval(draws)
    return {
        "questions": len(values),
        "score": 100 * float(np.mean(values)),
        "interval": None if spread is None else [100 * end for end in spread],
    }


def show(found: Mapping[str, Any], *, as_json: bool) -> None:
    """Print scores: one JSON object, or a line a task."""
    if as_json:
        print_json(found)
        return
    for name, row in found["tasks"].items():
        low, high = row["interval"] or (None, None)
        spread = "" if low is None else f" (95 % interval {low:.2f} to {high:.2f})"
        what = "mean BBox-Mask IoU" if name == LOCATE.name else "right"
        print(f"{name}: {row['score']:.2f} % {what} of {row['questions']}{spread}")
    if found["auroc"] is not None:
        print(f"AUROC of the verdicts' first word: {found['auroc']:.2f}")
