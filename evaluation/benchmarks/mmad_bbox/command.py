"""`adcopilot eval mmad-bbox`: where the defects of MMAD's images are, the paper's Table III row of any model.

MMAD's images and templates, no texts of it. Each model is asked in its family's own box format
(`families.box_question`), and its boxes are mapped to pixels of the original image. A line of the run carries the mask
as run lengths, so other rules for the true boxes need neither the model nor the masks again (`--score RUN`).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adcopilot.answering.items import Item
from adcopilot.errors import UserError
from adcopilot.jsonl import write_jsonl

from ...box_scores import BoxRule
from ...command import evaluate, identity, score_again
from ...options import add_arguments as add_arguments_of_a_run
from ...options import make_backend, require
from ...run_folder import family_of_run, stored_results
from ...wording import OWN, Wording
from ..mmad import choosing
from .items import find_masks, items, truth_fields
from .results import results, show

#: Counts up whenever the same command would ask something else.
VERSION = 3


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
    add_arguments_of_a_run(parser)


def run(args: argparse.Namespace) -> int:
    rule = _rule(args)
    if args.score is not None:
        return score_again(
            args,
            benchmark="mmad-bbox",
            score=lambda manifest, records: results(records, family=family_of_run(manifest), rule=rule)[0],
            show=show,
        )
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
    settings = identity(backend, benchmark="mmad-bbox", version=VERSION, shots=args.shots, template=args.template,
                        data=digest)  # fmt: skip

    def truth(item: Item) -> dict[str, Any]:
        return truth_fields(item, masks=masks, model_size=backend.model_size)

    def finish(folder: Path, records: list[dict[str, Any]]) -> dict[str, Any]:
        found, images = results(records, family=backend.family, rule=rule)
        write_jsonl(folder / "images.jsonl", images)
        return {"shots": args.shots, "template": args.template, **found}

    return evaluate(
        args,
        backend=backend,
        items=asked,
        settings=settings,
        wording=Wording(whose=OWN, text=_text(asked)),
        answer_tokens=512,
        finish=finish,
        truth=truth,
        show=show,
    )


def _text(asked: Sequence[Item]) -> dict[str, Any]:
    return {"prefix": list(asked[0].prefix), "questions": list(dict.fromkeys(item.question for item in asked))}


def _rule(args: argparse.Namespace) -> BoxRule:
    """The rule that is asked for; what is not said is, of a run that is scored again, as the run had it."""
    given = {
        name: value for name, value in (("regions", args.truth), ("min_area", args.min_area)) if value is not None
    }
    before = stored_results(args.score).get("rule") if args.score is not None else None
    try:
        return BoxRule(**{**(before or {}), **given})
    except TypeError:
        raise UserError(
            f"{args.score / 'results.json'}: its rule is {before!r:.60}, expected regions and min_area; say --truth "
            "and --min-area"
        ) from None
