"""`adcopilot eval mmad-bbox`: where the defects of MMAD's images are, the paper's Table III row of any model.

MMAD's images and templates, no texts of it. Each model is asked in its family's own box format
(`families.box_question`), and its boxes are mapped to pixels of the original image. A line of the run carries the mask
as run lengths, so other rules for the true boxes need neither the model nor the masks again (`--score RUN`).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from adcopilot.answering.items import Item

from ... import map_options
from ...command import evaluate, identity, score_again
from ...options import add_asking_arguments, make_backend, require
from ...wording import OWN, Wording
from ..mmad import choosing
from .benchmark import BENCHMARK
from .items import find_masks, items, truth_fields
from .results import rule_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = choosing.add_arguments(parser)
    what.add_argument("--with-normal", action="store_true", help="ask about normal images too")
    what.add_argument(
        "--anomaly-score", action="store_true", help="rank images by how defective they are called (with normal ones)"
    )
    what.add_argument(
        "--truth",
        choices=("components", "whole"),
        help="a box for each region, or one for all (components; with --score the run's)",
    )
    what.add_argument(
        "--min-area", type=int, metavar="N", help="smallest region that has a box (1 pixel; with --score the run's)"
    )
    add_asking_arguments(parser)
    map_options.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    map_options.check_options(args)
    if args.score is not None:
        return score_again(args, BENCHMARK)
    rule_of(args)  # what is wrong with it is said before the model loads
    require(args, "data_root", "model", "output")
    normal_too = args.with_normal or args.anomaly_score
    samples, digest = choosing.choose(args, keep=lambda sample: normal_too or not sample.normal)
    masks = find_masks(args.data_root, samples)

    backend = make_backend(args)
    asked = items(
        samples,
        root=args.data_root,
        shots=args.shots,
        kind=args.template,
        family=backend.family,
        thinking=args.thinking,
        with_score=args.anomaly_score,
        masks=masks,
        folder=args.output,
    )
    wording = Wording(whose=OWN, text=_text(asked))
    asked, more = map_options.ready(args, backend, asked)
    settings = identity(backend, BENCHMARK, shots=args.shots, template=args.template, data=digest, **more)

    def truth(item: Item) -> dict[str, Any]:
        return truth_fields(item, masks=masks, model_size=backend.model_size)

    return evaluate(
        args,
        BENCHMARK,
        backend=backend,
        items=asked,
        settings=settings,
        wording=wording,
        truth=truth,
    )


def _text(asked: Sequence[Item]) -> dict[str, Any]:
    return {"prefix": list(asked[0].prefix), "questions": list(dict.fromkeys(item.question for item in asked))}
