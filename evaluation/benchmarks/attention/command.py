"""`adcopilot eval attention`: how much answers attend to comparison tokens, by layer and task of MMAD (Figure 6)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from adcopilot.answering.items import Item
from adcopilot.jsonl import content_key

from ...command import evaluate, identity, score_again
from ...options import add_backend_arguments, add_machine_arguments, add_run_arguments, require
from ..mmad import choosing
from ..mmad.prompts import items, own_wording, own_words, read_prompts
from .benchmark import BENCHMARK


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = choosing.add_arguments(parser)
    what.add_argument("--prompts", type=Path, metavar="FILE", help="JSON object with other words for the prompts")
    add_backend_arguments(parser)
    add_machine_arguments(parser)
    add_run_arguments(parser)


def run(args: argparse.Namespace) -> int:
    if args.score is not None:
        return score_again(args, BENCHMARK)
    require(args, "data_root", "model", "output")
    samples, digest = choosing.choose(args)
    prompts = read_prompts(args.prompts)
    from .probe import AttentionProbe

    probe = AttentionProbe(
        model=args.model,
        device=args.device,
        dtype=args.dtype,
        **{name: getattr(args, name) for name in ("image_side", "image_max_pixels", "image_min_pixels")},
    )
    words = own_words(prompts, shots=args.shots)
    asked = items(
        samples,
        root=args.data_root,
        shots=args.shots,
        kind=args.template,
        words=words,
        family=probe.family,
        thinking=args.thinking,
        folder=args.output,
    )

    def extra(item: Item) -> dict[str, Any]:
        return {"attention": probe.measured.pop(item.key)}

    return evaluate(
        args,
        BENCHMARK,
        backend=probe,
        items=asked,
        settings=identity(
            probe, BENCHMARK, data=digest, shots=args.shots, template=args.template, prompts=content_key(prompts)
        ),
        wording=own_wording(words, told=False, file=args.prompts),
        extra=extra,
    )
