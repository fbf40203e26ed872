"""`adcopilot eval attention`: how much answers attend to comparison tokens, by layer and task of MMAD (Figure 6)."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adcopilot.answering.items import Item
from adcopilot.errors import UserError
from adcopilot.jsonl import atomic_write, content_key

from ...command import evaluate, identity, score_again
from ...options import add_machine_arguments, add_model_arguments, add_run_arguments, require
from ..mmad import choosing
from ..mmad.prompts import items, own_wording, own_words, read_prompts
from .results import plots, results_of_records, table_csv, table_text

#: Counts up whenever the same command would ask or measure something else.
VERSION = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = choosing.add_arguments(parser)
    what.add_argument("--prompts", type=Path, metavar="FILE", help="JSON object with other words for the prompts")
    add_model_arguments(parser)
    add_machine_arguments(parser)
    add_run_arguments(parser)


def run(args: argparse.Namespace) -> int:
    if args.score is not None:
        return score_again(
            args,
            benchmark="attention",
            score=lambda manifest, records: _measured(args.output or args.score, records),
            show=show,
        )
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

    def finish(folder: Path, records: list[dict[str, Any]]) -> dict[str, Any]:
        found = _measured(folder, records)
        return {"shots": args.shots, "template": args.template, **found}

    return evaluate(
        args,
        backend=probe,
        items=asked,
        settings=identity(
            probe,
            benchmark="attention",
            version=VERSION,
            data=digest,
            shots=args.shots,
            template=args.template,
            prompts=content_key(prompts),
        ),
        wording=own_wording(words, told=False, file=args.prompts),
        answer_tokens=128,
        finish=finish,
        extra=extra,
        show=show,
    )


def _measured(folder: Path, records: list[dict[str, Any]]) -> dict[str, Any]:
    """The measurements of a run's lines, their table and plots written into a folder."""
    try:
        found = results_of_records(records)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise UserError(
            f"{folder}: a line has no attention as this command logs it ({type(error).__name__}: {error}); run it "
            "again"
        ) from error
    _write(folder, found)
    return found


def _write(folder: Path, found: Mapping[str, Any]) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output {folder}: is a file, expected a folder")
    for name, text in {"attention.csv": table_csv(found), **plots(found)}.items():
        atomic_write(folder / name, lambda file, text=text: file.write(text.encode()))


def show(found: Mapping[str, Any]) -> None:
    """Print a table by task."""
    print(table_text(found))
