"""`adcopilot eval mmad`: the paper's Table II row of any model; or the scores of an answer file that is there."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adcopilot.answering.families import family_of
from adcopilot.cli.saying import say
from adcopilot.errors import UserError
from adcopilot.jsonl import content_key, file_digest

from ...command import evaluate, identity, refuse_selection, say_lost, score_again, show_scores
from ...conversation import Conversation
from ...options import add_asking_arguments, make_backend, require
from ...wording import Wording
from . import choosing, dataset
from .answer_file import MISSING, answer_file_name, compared, distinct, read_answer_file, write_answer_file
from .benchmark import BENCHMARK
from .prompts import CONVERSATIONS, items, own_wording, own_words, read_prompts
from .protocol import read_protocol
from .results import answer_entries, results_of_entries
from .words import PromptWords


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = choosing.add_arguments(
        parser,
        score="score the folder of a run, or MMAD's answer file (held against mmad.json with --data-root); asks no "
        "model",
    )
    what.add_argument("--domain-knowledge", action="store_true", help="tell what MMAD knows about the product")
    what.add_argument("--domain-knowledge-file", type=Path, metavar="FILE", help="(DIR/domain_knowledge.json)")
    what.add_argument("--prompts", type=Path, metavar="FILE", help="JSON object with other words for the prompts")
    what.add_argument("--protocol", type=Path, metavar="CHECKOUT", help="ask in MMAD's own words, read from your copy "
                      "of its repository (jam-cc/MMAD); otherwise in AD-Copilot's")  # fmt: skip
    what.add_argument("--protocol-file", metavar="SCRIPT", help="which of its scripts, a path below CHECKOUT (the one "
                      "of the model's family)")  # fmt: skip
    what.add_argument("--conversation", default="alone", choices=CONVERSATIONS, help="what else about the image is in "
                      "view: nothing, its earlier questions, or these with the model's answers (alone)")  # fmt: skip
    add_asking_arguments(parser)


def run(args: argparse.Namespace) -> int:
    if args.score is not None:
        return _score(args)
    require(args, "data_root", "model", "output")
    samples, digest = choosing.choose(args)
    if args.protocol is not None and args.prompts is not None:
        raise UserError("--protocol and --prompts both say what to ask with; give one of them")
    if args.protocol_file is not None and args.protocol is None:
        raise UserError("--protocol-file is a script below --protocol CHECKOUT, which is missing")
    if args.protocol is not None:
        # What is wrong with it is said before the model loads.
        _protocol(args, family=family_of(args.family, model=args.model).name)
    prompts = read_prompts(args.prompts)
    knowledge = None
    if args.domain_knowledge:
        knowledge = dataset.domain_knowledge(args.data_root, args.domain_knowledge_file)

    backend = make_backend(args)
    words, wording = _words(args, prompts, family=backend.family.name)
    asked = items(
        samples,
        root=args.data_root,
        shots=args.shots,
        kind=args.template,
        words=words,
        conversation=args.conversation,
        knowledge=knowledge,
        family=backend.family,
        thinking=args.thinking,
        folder=args.output,
    )
    settings = identity(
        backend,
        BENCHMARK,
        data=digest,
        shots=args.shots,
        template=args.template,
        domain_knowledge=knowledge_digest(args),
        prompts=content_key(prompts) if args.protocol is None else content_key(wording.text),
        # (Runs of versions without this choice go on.)
        **({} if args.conversation == "alone" else {"conversation": args.conversation}),
    )
    if args.conversation == "earlier-answers":
        backend = Conversation.going_on(backend=backend, items=asked, folder=args.output)

    def write_answers(folder: Path, records: list[dict[str, Any]]) -> dict[str, Any]:
        name = answer_file_name(
            model=args.model,
            shots=args.shots,
            similar=args.template == "similar",
            domain_knowledge=args.domain_knowledge,
        )
        write_answer_file(folder / name, answer_entries(records, rule="official")[0])
        return {}

    return evaluate(
        args, BENCHMARK, backend=backend, items=asked, settings=settings, wording=wording, also=write_answers
    )


def _protocol(args: argparse.Namespace, *, family: str) -> tuple[PromptWords, Wording]:
    return read_protocol(
        args.protocol, family=family, shots=args.shots, told=args.domain_knowledge, script=args.protocol_file
    )


def _words(args: argparse.Namespace, prompts: Mapping[str, str], *, family: str) -> tuple[PromptWords, Wording]:
    """What is asked with, and whose words they are; another's are said on stderr."""
    if args.protocol is not None:
        words, wording = _protocol(args, family=family)
        notes = "".join(f"; {note}" for note in wording.notes)
        commit = "" if wording.commit else ", commit not known"
        say(f"asking in {Wording.line(wording.describe())}{commit}{notes}")
        return words, wording
    words = own_words(prompts, shots=args.shots)
    return words, own_wording(words, told=args.domain_knowledge, file=args.prompts)


def knowledge_digest(args: argparse.Namespace) -> str | None:
    """The hash of the domain knowledge that is told, None if none is."""
    if not args.domain_knowledge:
        return None
    return file_digest(args.domain_knowledge_file or args.data_root / "domain_knowledge.json")


def _score(args: argparse.Namespace) -> int:
    """`--score`: MMAD's answer file, or a run's folder.

    Raises:
        UserError: it is neither, or is damaged.
    """
    if args.score.is_dir():
        return score_again(args, BENCHMARK)
    refuse_selection(args)
    samples = None if args.data_root is None else dataset.load(args.data_root)[0]
    entries = read_answer_file(args.score, samples=samples)
    given = len(entries)
    entries, lost = distinct(entries)
    if samples is not None:
        entries, differing = compared(entries, samples)
        lost |= differing
        given += lost.get(MISSING, 0)
    found = results_of_entries(entries)
    found["unread"] |= lost
    code = say_lost(found["unread"], given=given, unit="answers", allowed=args.max_lost)
    show_scores(args, BENCHMARK, found)
    return code
