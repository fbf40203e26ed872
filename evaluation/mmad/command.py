"""`adcopilot eval mmad`: the paper's Table II row of any model; or the scores of an answer file that is there."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from adcopilot.errors import UserError
from adcopilot.jsonl import content_key, file_digest

from ..command import (
    add_model_arguments,
    add_run_arguments,
    identity,
    make_backend,
    report_outcome,
    require,
    run_items,
)
from ..running import MANIFEST, read_records
from ..selection import first, stratified
from . import dataset
from .answer_file import answer_file_name, read_answer_file, write_answer_file
from .prompts import items, read_prompts
from .results import answer_entries, results_of_entries, results_of_records, table_text

#: Counts up whenever the same command would ask something else.
VERSION = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("the benchmark")
    what.add_argument("--data-root", type=Path, metavar="DIR", help="MMAD's folder, with mmad.json")
    what.add_argument("--shots", type=int, default=1, metavar="K", help="templates shown with each query image (1)")
    what.add_argument(
        "--template", default="random", choices=tuple(dataset.TEMPLATE_FIELDS), help="which templates (random)"
    )
    what.add_argument("--domain-knowledge", action="store_true", help="tell what MMAD knows about the product")
    what.add_argument("--domain-knowledge-file", type=Path, metavar="FILE", help="(DIR/domain_knowledge.json)")
    what.add_argument("--prompts", type=Path, metavar="FILE", help="JSON object with other words for the prompts")
    what.add_argument(
        "--score", type=Path, metavar="PATH", help="score MMAD's answer file, or the folder of a run; asks no model"
    )
    add_model_arguments(parser)
    add_run_arguments(parser)


def run(args: argparse.Namespace) -> int:
    if args.score is not None:
        show(score_path(args.score), as_json=args.json)
        return 0
    require(args, "data_root", "model", "output")
    samples, digest = choose(args)
    prompts = read_prompts(args.prompts)
    knowledge = None
    if args.domain_knowledge:
        knowledge = dataset.domain_knowledge(args.data_root, args.domain_knowledge_file)

    backend = make_backend(args)
    asked = items(
        samples,
        root=args.data_root,
        shots=args.shots,
        kind=args.template,
        prompts=prompts,
        knowledge=knowledge,
        family=backend.family,
        thinking=args.thinking,
    )
    settings = identity(
        backend,
        benchmark="mmad",
        version=VERSION,
        data=digest,
        shots=args.shots,
        template=args.template,
        domain_knowledge=knowledge_digest(args),
        prompts=content_key(prompts),
    )

    def finish(folder: Path, records: list[dict[str, Any]]) -> dict[str, Any]:
        name = answer_file_name(
            model=args.model,
            shots=args.shots,
            similar=args.template == "similar",
            domain_knowledge=args.domain_knowledge,
        )
        write_answer_file(folder / name, answer_entries(records, rule="official")[0])
        return {"shots": args.shots, "template": args.template, **results_of_records(records)}

    found, outcome = run_items(
        args,
        backend=backend,
        items=asked,
        settings=settings,
        max_new_tokens=args.max_new_tokens or (4096 if args.thinking else 128),
        finish=finish,
    )
    if found is not None:
        show(found, as_json=args.json)
    return report_outcome(outcome, asked=len(asked))


def choose(args: argparse.Namespace, *, keep: Any = None) -> tuple[list[dataset.Sample], str]:
    """The samples that the options ask for, their images all in place, and the hash of `mmad.json`.

    Args:
        args: the command line.
        keep: function of a sample; those it is false for are left out before anything is counted.

    Raises:
        UserError: the layout is wrong, a category is unknown, images are missing, or nothing is left.
    """
    if args.shots < 0:
        raise UserError(f"--shots is {args.shots}, expected 0 or more")
    samples, digest = dataset.load(args.data_root)
    samples = dataset.select(samples, args.category)
    if keep is not None:
        samples = [sample for sample in samples if keep(sample)]
    if args.quick is not None:
        samples = stratified(
            samples,
            args.quick,
            outer=lambda sample: sample.dataset,
            inner=lambda sample: (sample.category, sample.normal),
            name=lambda sample: sample.image,
        )
    samples = first(samples, args.limit)
    files = {
        sample.image: (sample.image, *dataset.templates(sample, shots=args.shots, kind=args.template))
        for sample in samples
    }
    names = list(dict.fromkeys(name for group in files.values() for name in group))
    missing = dataset.check_files(args.data_root, names)
    if missing:
        message = dataset.missing_files_message(args.data_root, missing, total=len(names))
        if not args.skip_missing:
            raise UserError(message)
        gone = set(missing)
        left = [sample for sample in samples if not gone & set(files[sample.image])]
        print(f"{message}: {len(samples) - len(left)} of {len(samples)} samples left out", file=sys.stderr)
        samples = left
    if not samples:
        raise UserError(f"{args.data_root}: no samples are left to ask about")
    return samples, digest


def knowledge_digest(args: argparse.Namespace) -> str | None:
    """The hash of the domain knowledge that is told, None if none is."""
    if not args.domain_knowledge:
        return None
    return file_digest(args.domain_knowledge_file or args.data_root / "domain_knowledge.json")


def score_path(path: Path) -> dict[str, Any]:
    """The scores of MMAD's answer file, or of a run's folder.

    Raises:
        UserError: it is neither.
    """
    if not path.is_dir():
        return results_of_entries(read_answer_file(path))
    if not (path / MANIFEST).is_file():
        raise UserError(f"{path}: is not the folder of a run (it has no {MANIFEST}); give a run or an answer file")
    records = list(read_records(path))
    if not all(isinstance(record.get("options"), dict) and "type" in record.get("meta", {}) for record in records):
        raise UserError(f"{path}: its answers are not MMAD's; is it a run of another benchmark?")
    return results_of_records(records)


def show(found: dict[str, Any], *, as_json: bool) -> None:
    """Print scores: one JSON object, or the table and how answers were read."""
    if as_json:
        print(json.dumps(found, ensure_ascii=False, allow_nan=False))
        return
    print(table_text(found))
    print(f"strict parsing: average {found['strict']['average']['average']:.2f}")
    if "logprobs" in found:
        print(f"by option probabilities: average {found['logprobs']['average']['average']:.2f}")
    if found["invalid"]:
        print(f"{found['invalid']} of {found['questions']} answers were no letter and are left out, as MMAD does")
    how = found.get("parsing", {}).get("official", {})
    if how.get("nearest"):
        print(f"{how['nearest']} answers had no letter; the option with the nearest text was taken, as MMAD does")
