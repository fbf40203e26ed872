"""`adcopilot eval caption`: change captioning, the paper's Table V row of any model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adcopilot.answering.families import Family, split_thinking
from adcopilot.answering.items import Item
from adcopilot.errors import UserError
from adcopilot.jsonl import content_key, file_digest, write_jsonl

from ...bootstrap import interval, ratio_draws
from ...command import evaluate, identity, score_again
from ...image_digests import image_digests
from ...options import add_arguments as add_arguments_of_a_run
from ...options import add_benchmark_arguments, make_backend, require
from ...selection import first, of_category, stratified, without_missing
from ...wording import OWN, Wording
from . import dataset
from .scorers import METRICS, TOKENIZERS, java_problem, score_captions

__all__ = ["PROMPTS", "VERSION", "add_arguments", "items", "results_of_records", "run"]

#: Counts up whenever the same command would ask something else.
VERSION = 2

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
_ANSWER = 256


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
    add_arguments_of_a_run(parser)
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
        print(f"METEOR will be left out: {problem}", file=sys.stderr)
    if args.score is not None:
        return _score_again(args)
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

    def finish(folder: Path, records: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "layout": args.layout,
            "split": None if args.layout == "pairs" else args.split,
            "references": args.references,
            **results_of_records(records, tokenizer=args.tokenizer, each=folder / "scores.jsonl"),
        }

    return evaluate(
        args,
        backend=backend,
        items=asked,
        settings=identity(
            backend,
            benchmark="caption",
            version=VERSION,
            layout=args.layout,
            data=content_key(*map(file_digest, files)),
            prompt=prompt,
        ),
        wording=Wording(whose=OWN if args.prompt is None else "wording of --prompt", text={"question": prompt}),
        answer_tokens=_ANSWER,
        finish=finish,
        show=show,
    )


def choose(args: argparse.Namespace, pairs: Sequence[dataset.Pair]) -> list[dataset.Pair]:
    """The pairs that the options ask for, their images all in place.

    Raises:
        UserError: a category is unknown, images are missing, or nothing is left.
    """
    pairs = of_category(pairs, args.category, names=lambda pair: (pair.category,), kinds="category")
    if args.quick is not None:
        pairs = stratified(
            pairs, args.quick, outer=lambda pair: "", inner=lambda pair: pair.category, name=lambda pair: pair.name
        )
    pairs = first(pairs, args.limit)
    missing = dataset.missing_images(pairs)
    shown = ", ".join(str(path.relative_to(args.data_root)) for path in missing[:5])
    pairs = without_missing(
        pairs,
        missing,
        files=lambda pair: pair.images,
        message=f"{args.data_root}: {len(missing)} images are not there: {shown}{' …' if len(missing) > 5 else ''}",
        plural="pairs",
        skip=args.skip_missing,
    )
    if not pairs:
        raise UserError(f"{args.data_root}: no pairs are left to ask about")
    return pairs


def items(
    pairs: Sequence[dataset.Pair], *, prompt: str, family: Family, thinking: bool = False, folder: Path | None = None
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


def results_of_records(
    records: Sequence[Mapping[str, Any]], *, tokenizer: str = "auto", each: Path | None = None
) -> dict[str, Any]:
    """All scores of a run.

    Args:
        records: its lines.
        tokenizer: of `TOKENIZERS`.
        each: file for the scores of each pair, as JSON lines.

    Returns:
        `columns`: of Table V, × 100, None where a metric was left out; `intervals`: the 95 % intervals of means over
        pairs; `more`: BLEU-1 to BLEU-3; `skipped`: metric →
        why; `scorer`: tokenizer and versions; `by_category`: means of the pairs' own scores; `empty`: answers without
        text; `unread`: why an answer says nothing → how many (they score 0); `words`: mean length of an answer.

    Raises:
        UserError: as `scorers.score_captions`.
    """
    answers = [split_thinking(record["reply"]["text"])[1] for record in records]
    scores = score_captions(answers, [record["reference"] for record in records], tokenizer=tokenizer)
    if each is not None:
        write_jsonl(
            each,
            (
                {
                    "item": record["item"],
                    **record["meta"],
                    **{name: round(values[index], 6) for name, values in scores.each.items()},
                }
                for index, record in enumerate(records)
            ),
        )
    kinds: dict[str, list[int]] = {}
    for index, record in enumerate(records):
        kinds.setdefault(record["meta"]["category"], []).append(index)
    return {
        "columns": {name: scores.values[name] for name in METRICS},
        "intervals": {
            # BLEU of a set is no mean over its pairs.
            name: interval(ratio_draws([np.array([[[value, 1.0]] for value in values])])[:, 0])
            for name, values in scores.each.items()
            if not name.startswith("BLEU")
        },
        "more": {name: value for name, value in scores.values.items() if name not in METRICS},
        "skipped": scores.skipped,
        "scorer": scores.settings,
        "by_category": {
            kind: {
                "pairs": len(members),
                **{
                    name: sum(values[index] for index in members) / len(members)
                    for name, values in scores.each.items()
                },
            }
            for kind, members in sorted(kinds.items())
            if len(kinds) > 1
        },
        "empty": sum(not answer for answer in answers),
        "unread": _unread(records, answers),
        "truncated": sum(bool(record["reply"].get("truncated")) for record in records),
        "words": sum(len(answer.split()) for answer in answers) / len(answers),
    }


def _unread(records: Sequence[Mapping[str, Any]], answers: Sequence[str]) -> dict[str, int]:
    refused = sum(bool(record["reply"].get("refused")) for record in records)
    empty = sum(not answer for answer in answers) - refused
    return {why: count for why, count in (("were refused by the endpoint", refused), ("are empty", empty)) if count}


def _score_again(args: argparse.Namespace) -> int:
    def score(manifest: Mapping[str, Any], records: list[dict[str, Any]]) -> dict[str, Any]:
        layout = manifest["identity"].get("layout")
        return {"layout": layout, **results_of_records(records, tokenizer=args.tokenizer)}

    return score_again(args, benchmark="caption", score=score, show=show)


def show(found: Mapping[str, Any]) -> None:
    """Print Table V's row."""
    cells = ["–" if found["columns"][name] is None else f"{found['columns'][name]:.1f}" for name in METRICS]
    print("  ".join(f"{name:>8}" for name in METRICS))
    print("  ".join(f"{cell:>8}" for cell in cells))
    for name, reason in found["skipped"].items():
        print(f"no {name}: {reason}")
    if found["scorer"]["tokenizer"] == "plain":
        print("words were cut without Java's PTBTokenizer: the last digits may differ from published numbers")
    if found["empty"]:
        print(f"{found['empty']} answers are empty and score 0")
    if found["truncated"]:
        print(f"{found['truncated']} answers were cut off; see --max-new-tokens")
