"""`adcopilot eval mmad`: the paper's Table II row of any model; or the scores of an answer file that is there."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from adcopilot.errors import UserError
from adcopilot.jsonl import content_key, file_digest

from ..command import add_arguments as add_arguments_of_a_run
from ..command import evaluate, identity, make_backend, require
from ..running import MANIFEST, read_records
from . import choosing, dataset
from .answer_file import answer_file_name, read_answer_file, write_answer_file
from .prompts import items, read_prompts
from .results import answer_entries, results_of_entries, results_of_records, table_text

#: Counts up whenever the same command would ask something else.
VERSION = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = choosing.add_arguments(parser, score="score MMAD's answer file, or the folder of a run; asks no model")
    what.add_argument("--domain-knowledge", action="store_true", help="tell what MMAD knows about the product")
    what.add_argument("--domain-knowledge-file", type=Path, metavar="FILE", help="(DIR/domain_knowledge.json)")
    what.add_argument("--prompts", type=Path, metavar="FILE", help="JSON object with other words for the prompts")
    add_arguments_of_a_run(parser)


def run(args: argparse.Namespace) -> int:
    if args.score is not None:
        show(score_path(args.score), as_json=args.json)
        return 0
    require(args, "data_root", "model", "output")
    samples, digest = choosing.choose(args)
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
        folder=args.output,
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

    return evaluate(args, backend=backend, items=asked, settings=settings, answer_tokens=128, finish=finish, show=show)


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
