"""`adcopilot eval caption`: change captioning, the paper's Table V row of any model."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from adcopilot.answering.families import Family
from adcopilot.answering.items import Item
from adcopilot.cli.saying import say
from adcopilot.jsonl import content_key, file_digest

from ... import selection
from ...command import evaluate, identity, score_again
from ...image_digests import image_digests
from ...options import add_asking_arguments, add_benchmark_arguments, make_backend, require
from ...wording import OWN, Wording
from . import dataset
from .benchmark import BENCHMARK
from .scorers import TOKENIZERS, java_problem

__all__ = ["PROMPTS", "add_arguments", "items", "run"]


#: What is asked, by layout: the references of the three differ in length and detail.
PROMPTS = {
    "pairs": (
        "Describe in detail, in one paragraph of plain text, everything that differs between the first and the second "
        "image."
    ),
    "spot-the-diff": (
        "Both images show the same place at different times. Say in one to three short sentences what has changed in "
        "the second image."
    ),
    "clevr-change": (
        "Say in one short sentence what has changed in the second image. A different view of the same scene is no "
        "change: if there is nothing else, say that nothing has changed."
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = add_benchmark_arguments(parser, data_root="folder of the images and their captions")
    what.add_argument(
        "--layout",
        default="pairs",
        choices=tuple(dataset.LAYOUTS),
        help="pairs: DIR/captions.jsonl, this package's own form, for OmniDiff-Real and your own (pairs)",
    )
    what.add_argument("--split", default="test", choices=dataset.SPLITS, help="of the public datasets (test)")
    what.add_argument("--annotations", type=Path, metavar="FILE", help="another file of captions")
    what.add_argument(
        "--references",
        default="joined",
        choices=dataset.REFERENCES,
        help="Spot-the-diff: a person's sentences are one reference, or one each (joined)",
    )
    what.add_argument("--prompt", metavar="TEXT", help="another question")
    add_asking_arguments(parser)
    how = parser.add_argument_group("the scores")
    how.add_argument(
        "--tokenizer",
        default="auto",
        choices=TOKENIZERS,
        help="ptb needs Java, plain does not; auto is ptb where Java runs (auto)",
    )


def run(args: argparse.Namespace) -> int:
    # A package that is missing is better missed before the model runs.
    import pycocoevalcap.cider.cider  # noqa: F401

    problem = java_problem()
    if problem:
        say(f"METEOR will be left out: {problem}")
    if args.score is not None:
        return score_again(args, BENCHMARK)
    require(args, "data_root", "model", "output")
    pairs, files = dataset.load(
        args.layout,
        root=args.data_root,
        split=args.split,
        annotations=args.annotations,
        references=args.references,
    )
    pairs = choose(args, pairs)
    prompt = (args.prompt or PROMPTS[args.layout]).strip()
    backend = make_backend(args)
    asked = items(pairs, prompt=prompt, family=backend.family, thinking=args.thinking, folder=args.output)

    asked_of = {
        "layout": args.layout,
        "split": None if args.layout == "pairs" else args.split,
        "references": args.references,
    }
    data = content_key(*map(file_digest, files))
    return evaluate(
        args,
        BENCHMARK,
        backend=backend,
        items=asked,
        settings=identity(backend, BENCHMARK, layout=args.layout, data=data, prompt=prompt),
        wording=Wording(whose=OWN if args.prompt is None else "wording of --prompt", text={"question": prompt}),
        also=lambda folder, records: asked_of,
    )


def choose(args: argparse.Namespace, pairs: Sequence[dataset.CaptionedPair]) -> list[dataset.CaptionedPair]:
    """The pairs that the options ask for, their images all in place."""

    return selection.choose(
        args,
        pairs,
        names=lambda pair: (pair.category,),
        kinds="category",
        outer=lambda pair: "",
        inner=lambda pair: pair.category,
        name=lambda pair: pair.name,
        plural="pairs",
    )


def items(
    pairs: Sequence[dataset.CaptionedPair],
    *,
    prompt: str,
    family: Family,
    thinking: bool = False,
    folder: Path | None = None,
) -> list[Item]:
    """Each pair with the one question; `meta` has its `name` and `category`.

    Args:
        pairs: their images must be there.
        prompt: the question.
        family, thinking: how it is asked.
        folder: of the run, where `image_digests` keeps what it has read.

    Raises:
        UserError: an image cannot be read.
    """
    asked = family.question(prompt, thinking=thinking)
    digests = image_digests((path for pair in pairs for path in pair.images), folder=folder)
    found = []
    for pair in pairs:
        group = content_key("caption", pair.name, [digests[path] for path in pair.images])
        found.append(
            Item(
                key=content_key(group, asked),
                group=group,
                images=pair.images,
                prefix=(0, 1, "\n"),
                question=asked,
                reference=list(pair.captions),
                meta={"name": pair.name, "category": pair.category},
            )
        )
    return found
