"""`adcopilot eval unipcb`: the paper's Table IV row of any model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adcopilot.answering.base import Backend
from adcopilot.answering.items import Item
from adcopilot.errors import UserError
from adcopilot.jsonl import content_key, file_digest

from ... import selection
from ...command import evaluate, identity, score_again
from ...conversation import Conversation
from ...options import add_arguments as add_arguments_of_a_run
from ...options import add_benchmark_arguments, make_backend, require
from ...run_folder import stored_results
from ...running import Shard
from ...selection import shown_files
from . import dataset
from .prompts import items, own_wording
from .results import official_predictions, results_of_records, run_judge, table_text
from .scoring import IOU
from .text_scores import BERTSCORE_MODEL, SBERT_MODEL, BertScore, SBert, TextScorer

__all__ = ["VERSION", "add_arguments", "run"]

#: Counts up whenever the same command would ask something else.
VERSION = 2

_ANSWER = 768


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = add_benchmark_arguments(parser, data_root="UniPCB's repository with its images")
    what.add_argument("--annotations", type=Path, metavar="FILE", help="the file of questions (found in DIR)")
    what.add_argument(
        "--image-size-order",
        default="auto",
        choices=dataset.SIZE_ORDERS,
        help="what the file's image_size means: height first, width first, or whichever fits the image (auto)",
    )
    what.add_argument(
        "--box-frame",
        default="image_size",
        choices=dataset.FRAMES,
        help="what the file's boxes are pixels of: a copy of that size, or the image itself (image_size)",
    )
    what.add_argument(
        "--alone",
        action="store_true",
        help="ask each question by itself; otherwise an image's questions are one conversation, as in the benchmark",
    )
    add_arguments_of_a_run(parser)
    how = parser.add_argument_group("the scores")
    how.add_argument(
        "--iou", type=float, metavar="X", help=f"least overlap of boxes that match ({IOU}; with --score the run's)"
    )
    how.add_argument("--sbert", default=SBERT_MODEL, metavar="MODEL", help=f"folder, hub name or none ({SBERT_MODEL})")
    how.add_argument(
        "--bertscore", default=BERTSCORE_MODEL, metavar="MODEL", help=f"folder, hub name or none ({BERTSCORE_MODEL})"
    )
    how.add_argument("--bertscore-layer", type=int, metavar="N", help="layer that is compared (the package's choice)")
    how.add_argument("--score-device", metavar="DEVICE", help="where S-BERT and BERTScore run (a GPU if there is one)")
    how.add_argument("--judge-model", metavar="M", help="model that grades open answers, as its endpoint names it")
    how.add_argument("--judge-url", metavar="URL", help="its endpoint, such as https://api.openai.com/v1")
    how.add_argument("--judge-key-variable", metavar="NAME", help="environment variable with the key of its endpoint")


def run(args: argparse.Namespace) -> int:
    if args.iou is None:
        before = stored_results(args.score).get("iou") if args.score is not None else None
        args.iou = before if isinstance(before, (int, float)) and 0 < before <= 1 else IOU
    if not 0 < args.iou <= 1:
        raise UserError(f"--iou is {args.iou:g}, expected more than 0 and at most 1")
    if (args.judge_model is None) != (args.judge_url is None):
        raise UserError("--judge-model and --judge-url go together; give both or neither")
    if args.score is not None:
        return _score_again(args)
    require(args, "data_root", "model", "output")
    path = args.annotations or dataset.find_annotations(args.data_root)
    samples = choose(args, dataset.load(path, root=args.data_root))
    prepared = dataset.prepare(samples, root=args.data_root, size_order=args.image_size_order, frame=args.box_frame)
    for reason, count in prepared.unusable.items():
        print(f"left out: {count} × {reason}", file=sys.stderr)
    for note in prepared.notes:
        print(f"note: {note}", file=sys.stderr)
    if not prepared.questions:
        raise UserError(f"{path}: no question can be scored")

    scorers = make_scorers(args)
    judge_backend = _judge_backend(args)
    backend = make_backend(args)
    asked = items(
        prepared.questions, family=backend.family, thinking=args.thinking, alone=args.alone, folder=args.output
    )
    if not args.alone:
        backend = Conversation.going_on(backend=backend, items=asked, folder=args.output)

    def extra(item: Item) -> dict[str, Any]:
        if item.meta["form"] != "boxes":
            return {}
        return {"family": backend.family.name, "model_size": list(backend.model_size(tuple(item.meta["size"])))}

    def finish(folder: Path, records: list[dict[str, Any]]) -> dict[str, Any]:
        official_predictions(folder / "predictions.json", records, samples)
        # Of several processes the last one asks the judge: two would ask twice.
        early = Shard.parse(args.shard).count > 1 and len(records) < len(asked)
        return {
            "image_size_order": args.image_size_order,
            "box_frame": args.box_frame,
            "unusable": dict(prepared.unusable),
            "notes": prepared.notes,
            **results_of_records(
                records,
                scorers=scorers,
                grade=run_judge(judge_backend, args.output) if judge_backend and not early else None,
                iou=args.iou,
                each=folder / "scores.jsonl",
            ),
        }

    return evaluate(
        args,
        backend=backend,
        items=asked,
        settings=identity(
            backend, benchmark="unipcb", version=VERSION, data=file_digest(path), conversation=not args.alone
        ),
        wording=own_wording(backend.family),
        answer_tokens=_ANSWER,
        finish=finish,
        extra=extra,
        show=show,
        problem=problem,
    )


def choose(args: argparse.Namespace, samples: Sequence[dataset.Sample]) -> list[dataset.Sample]:
    """The samples that the options ask for, their images all in place."""

    def missing(images: list[Path]) -> tuple[list[Path], str]:
        gone = [path for path in images if not path.is_file()]
        count = f"{len(gone)} of {len(images)} images of the benchmark are not there"
        return gone, f"{args.data_root}: {count}: {shown_files(gone, args.data_root)}"

    return selection.choose(
        args,
        samples,
        names=lambda sample: (sample.level, sample.dataset),
        kinds="dataset or level",
        outer=lambda sample: sample.level,
        inner=lambda sample: (sample.dataset, sample.language),
        name=lambda sample: content_key(sample.names, sample.number),
        files=lambda sample: sample.images,
        missing=missing,
        plural="samples",
    )


def make_scorers(args: argparse.Namespace) -> dict[str, TextScorer]:
    """S-BERT and BERTScore as asked for, loaded: a name that is wrong is better found before the model runs.

    Raises:
        UserError: one of them cannot be loaded.
    """
    scorers: dict[str, TextScorer] = {}
    if args.sbert.lower() != "none":
        scorers["sbert"] = SBert(model=args.sbert, device=args.score_device)
    if args.bertscore.lower() != "none":
        scorers["bertscore"] = BertScore(model=args.bertscore, layer=args.bertscore_layer, device=args.score_device)
    return scorers


def _judge_backend(args: argparse.Namespace) -> Backend | None:
    if args.judge_model is None:
        return None
    from adcopilot.answering.api import ApiBackend

    return ApiBackend(
        model=args.judge_model,
        base_url=args.judge_url,
        key_variable=args.judge_key_variable,
        concurrency=args.concurrency,
        timeout=args.timeout,
    )


def _score_again(args: argparse.Namespace) -> int:
    judge_backend = _judge_backend(args)

    def score(manifest: Mapping[str, Any], records: list[dict[str, Any]]) -> dict[str, Any]:
        grade = run_judge(judge_backend, args.score) if judge_backend else None
        return results_of_records(records, scorers=make_scorers(args), grade=grade, iou=args.iou)

    return score_again(args, benchmark="unipcb", score=score, show=show, problem=problem)


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
