"""`adcopilot eval records FILE.jsonl`: any model on your own labelled records, by task.

A record is what `adcopilot data build` writes and `adcopilot grpo` trains on: `messages` whose last is the answer,
`images` (templates, then the query), and the right `answer` of a task of `adcopilot.tasks`, with `boxes` and `mask`
where something is to be found. The record's own question is asked, word for word; its task's file says what is right.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from adcopilot.errors import UserError, shortened
from adcopilot.jsonl import content_key, file_digest, read_jsonl
from adcopilot.tasks import TASKS, task_of

from ... import map_options, selection
from ...command import evaluate, identity, score_again
from ...options import add_asking_arguments, add_benchmark_arguments, make_backend, require
from ...wording import Wording
from .benchmark import BENCHMARK
from .items import items, truth_fields

WHOSE = "the records' own wording"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = add_benchmark_arguments(
        parser, data_root="the folder that the records' image paths start from (that of the first file)"
    )
    what.add_argument(
        "files", nargs="*", default=[], type=Path, metavar="FILE", help="records, one JSON object a line"
    )
    what.add_argument("--task", action="append", default=[], choices=list(TASKS), help="only records of this task")
    add_asking_arguments(parser)
    map_options.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    map_options.check_options(args)
    if args.score is not None:
        return score_again(args, BENCHMARK)
    if not args.files:
        raise UserError("FILE is missing: name a file of records, as in adcopilot eval records parts.jsonl …")
    require(args, "model", "output")
    args.data_root = args.data_root or args.files[0].resolve().parent
    records = choose(args)
    backend = make_backend(args)
    asked = items(records, root=args.data_root, family=backend.family, thinking=args.thinking, folder=args.output)
    wording = Wording(whose=WHOSE, text={"questions": sorted({item.question for item in asked})[:100]})
    asked, more = map_options.ready(args, backend, asked)
    data = content_key([file_digest(file) for file in args.files])
    return evaluate(
        args,
        BENCHMARK,
        backend=backend,
        items=asked,
        settings=identity(backend, BENCHMARK, data=data, **more),
        wording=wording,
        truth=lambda item: truth_fields(item, backend),
    )


def choose(args: argparse.Namespace) -> list[dict[str, Any]]:
    """The records that are asked about.

    Raises:
        UserError: some cannot be used (it names the first ones), or none is left.
    """
    from adcopilot.grpo.prompts import read_rollout_records

    for file in args.files:
        _check_root(file, args.data_root)
    return selection.choose(
        args,
        read_rollout_records(args.files, media_dir=args.data_root),
        keep=lambda record: not args.task or task_of(record).name in args.task,
        names=lambda record: (str(record.get("category") or ""), str(record.get("source") or "")),
        kinds="category or source",
        outer=lambda record: task_of(record).name,
        inner=lambda record: bool(record.get("anomalous")),
        name=lambda record: record["key"],
        plural="records",
        files=lambda record: (),  # `read_labelled` has looked
    )


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
