"""`adcopilot eval unipcb`: the paper's Table IV row of any model."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adcopilot.answering.items import Item
from adcopilot.cli.saying import say
from adcopilot.errors import UserError
from adcopilot.jsonl import content_key, file_digest

from ... import selection
from ...command import evaluate, identity, score_again
from ...conversation import Conversation
from ...options import add_asking_arguments, add_benchmark_arguments, make_backend, require
from . import dataset
from .benchmark import BENCHMARK
from .classes import ClassNames
from .prompts import items, own_wording
from .results import iou_of, judge_backend, make_scorers, official_predictions
from .scoring import IOU
from .text_scores import BERTSCORE_MODEL, SBERT_MODEL

__all__ = ["add_arguments", "run"]


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
    add_asking_arguments(parser)
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
    iou_of(args)
    if (args.judge_model is None) != (args.judge_url is None):
        raise UserError("--judge-model and --judge-url go together; give both or neither")
    if args.score is not None:
        return score_again(args, BENCHMARK)
    require(args, "data_root", "model", "output")
    path = args.annotations or dataset.find_annotations(args.data_root)
    samples = choose(args, dataset.load(path, root=args.data_root))
    prepared = dataset.Prepared(
        samples,
        names=ClassNames.below(args.data_root),
        size_order=args.image_size_order,
        frame=args.box_frame,
    )
    for reason, count in prepared.unusable.items():
        say(f"left out: {count} × {reason}")
    for note in prepared.notes:
        say(f"note: {note}")
    if not prepared.questions:
        raise UserError(f"{path}: no question can be scored")

    # A name that is wrong is better found before the model runs.
    make_scorers(args)
    judge_backend(args)
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

    def also(folder: Path, records: list[dict[str, Any]]) -> dict[str, Any]:
        official_predictions(folder / "predictions.json", records, samples)
        return {
            "image_size_order": args.image_size_order,
            "box_frame": args.box_frame,
            "unusable": dict(prepared.unusable),
            "notes": prepared.notes,
        }

    return evaluate(
        args,
        BENCHMARK,
        backend=backend,
        items=asked,
        settings=identity(backend, BENCHMARK, data=file_digest(path), conversation=not args.alone),
        wording=own_wording(backend.family),
        also=also,
        extra=extra,
    )


def choose(args: argparse.Namespace, samples: Sequence[dataset.PcbSample]) -> list[dataset.PcbSample]:
    """The samples that the options ask for, their images all in place."""

    return selection.choose(
        args,
        samples,
        names=lambda sample: (sample.level, sample.dataset),
        kinds="dataset or level",
        outer=lambda sample: sample.level,
        inner=lambda sample: (sample.dataset, sample.language),
        name=lambda sample: content_key(sample.names, sample.number),
        plural="samples",
    )
