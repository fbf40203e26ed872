"""Steps that the `adcopilot eval …` commands share: a command makes its items and hands them to `evaluate`, which asks
them, scores what is answered, shows the scores and says how the run ended; `score_again` scores a folder alone."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from adcopilot.answering.base import Backend
from adcopilot.answering.families import boxes_beyond
from adcopilot.answering.items import Item
from adcopilot.cli.saying import say
from adcopilot.damage import Damage, share_of
from adcopilot.errors import UserError
from adcopilot.jsonl import write_json, write_jsonl, write_text

from .benchmark import Benchmark
from .run_folder import family_of_run, read_manifest, read_run
from .running import Outcome, Run, RunShard
from .wording import Wording

__all__ = ["evaluate", "identity", "refuse_selection", "say_lost", "score_again", "show_scores"]

#: Longest answer with the reasoning before it.
_REASONED_TOKENS = 4096


def identity(backend: Backend, benchmark: Benchmark, **settings: Any) -> dict[str, Any]:
    """What a run's answers depend on besides its items. The model's name is not: its digest is, where there is one."""
    described = backend.describe()
    if described.get("model_digest"):
        described = {name: value for name, value in described.items() if name != "model"}
    return {"benchmark": benchmark.name, "benchmark_version": benchmark.version, **settings, "backend": described}


def evaluate(
    args: argparse.Namespace,
    benchmark: Benchmark,
    *,
    backend: Backend,
    items: Sequence[Item],
    settings: Mapping[str, Any],
    wording: Wording,
    also: Callable[[Path, list[dict[str, Any]]], dict[str, Any]] | None = None,
    extra: Callable[[Item], dict[str, Any]] | None = None,
    truth: Callable[[Item], dict[str, Any]] | None = None,
) -> int:
    """Ask the items, score what is answered, write `results.json`, show it.

    Args:
        args: the command line.
        benchmark: scores and shows.
        backend, items: who is asked what.
        settings: `identity`.
        wording: whose words the items are asked with; its text stands in the manifest.
        also: from a folder and lines to further fields of the results that only this command line knows; it may write
            further files into the folder.
        extra: further fields of an item's line.
        truth: such fields that no answer changes: computed again where the item's `meta` or `reference` has changed.

    Returns:
        The exit code: 1 when questions stayed without an answer, or more than `--max-lost` of the answers are none.

    Raises:
        UserError: the run was ended by it; what was answered is kept, as the message says.
    """
    share_of(args.max_lost, "--max-lost")
    max_new_tokens = args.max_new_tokens or (_REASONED_TOKENS if args.thinking else benchmark.answer_tokens)
    if max_new_tokens < 1:
        raise UserError(f"--max-new-tokens is {max_new_tokens}, expected 1 or more")
    if args.thinking:
        asked_to_think = backend.family.question("{question}", thinking=True)
        wording = replace(wording, text={**wording.text, "thinking": asked_to_think})
    run = Run(folder=args.output, identity={**settings, "max_new_tokens": max_new_tokens, "thinking": args.thinking})
    selection = {name: getattr(args, name) for name in ("limit", "category", "quick", "skip_missing")}
    selection |= {
        "model": args.model,
        "data_root": str(args.data_root),
        "items": len(items),
        "wording": wording.describe(),
    }
    whole, problems = run.select(items, selection=selection, truth=truth)

    def fields(item: Item) -> dict[str, Any]:
        return {**(truth(item) if truth else {}), **(extra(item) if extra else {})}

    outcome = run.ask(
        items,
        backend,
        max_new_tokens=max_new_tokens,
        shard=RunShard.parse(args.shard),
        extra=fields,
        refused_too=args.ask_refused,
    )
    outcome.failed |= problems
    answers = run.answers(benchmark=benchmark.name)
    folder, code = run.folder, 0
    if not whole:
        folder = run.folder / "part"
        say(
            f"these {len(items)} questions are not all that {run.folder} was asked: its results.json stays that of "
            f"its own selection, these scores go to {folder}",
        )
    manifest = read_manifest(run.folder)  # a folder that was removed meanwhile is not made anew with results alone
    if answers.records:
        more = also(folder, answers.records) if also else {}
        scores, each = benchmark.score(args, manifest, answers)
        found = {
            "benchmark": benchmark.name,
            "model": args.model,
            **({} if whole else {"part": selection}),
            **answers.counts(),
            "wording": Wording.brief(wording.describe()),
            **more,
            **scores,
        }
        if benchmark.each:
            write_jsonl(folder / benchmark.each, each)
        _write_files(folder, benchmark.files(found))
        write_json(folder / "results.json", found, allow_nan=False)
        _say_doubts(answers.records, manifest)
        lost = say_lost(found.get("unread", {}), given=len(answers.records), unit="answers", allowed=args.max_lost)
        code = max(lost, show_scores(args, benchmark, found))
    return _report_outcome(outcome, asked=len(items)) or code


def score_again(args: argparse.Namespace, benchmark: Benchmark) -> int:
    """`--score RUN`: score a run again from its folder alone, and show it.

    Args:
        args: the command line; with `--output`, `results.json` is written there too.
        benchmark: whose run it must be.

    Returns:
        As `evaluate`.

    Raises:
        UserError: it is no run of this benchmark, is damaged, or has no answers.
    """
    share_of(args.max_lost, "--max-lost")
    refuse_selection(args)
    found = read_manifest(args.score)["identity"].get("benchmark")
    if found != benchmark.name:
        raise UserError(f"{args.score}: is a run of {found!r:.60}, expected one of {benchmark.name}")
    manifest, answers = read_run(args.score)
    if not answers.records:
        raise UserError(f"{args.score}: has no answers yet; run the model first")
    if answers.note:
        say(answers.note)
    if answers.replaced:
        say(f"{args.score}: {answers.replaced} answers do not count, their images or questions were replaced since")
    selection = manifest.get("selection", {})
    wording = selection.get("wording")
    scored = {
        "benchmark": benchmark.name,
        "model": selection.get("model"),
        **answers.counts(),
        **({"wording": Wording.brief(wording)} if isinstance(wording, dict) else {}),
        **benchmark.score(args, manifest, answers)[0],
    }
    _write_files(args.output or args.score, benchmark.files(scored))
    if args.output is not None:
        write_json(args.output / "results.json", scored, allow_nan=False)
    _say_doubts(answers.records, manifest)
    lost = {**scored.get("unread", {}), "have no answer yet": answers.asked - len(answers.records)}
    code = say_lost(lost, given=answers.asked, unit="answers", allowed=args.max_lost)
    return max(code, show_scores(args, benchmark, scored))


def refuse_selection(args: argparse.Namespace) -> None:
    """Refuse options that choose what is asked where nothing is: the scores would be taken for those of a part.

    Raises:
        UserError: it names them.
    """
    given = [name for name in ("limit", "category", "quick", "skip_missing", "task") if getattr(args, name, None)]
    if given:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise UserError(
            f"--score scores all the answers of {args.score}, and {named} would choose a part; leave it out"
        )


def _say_doubts(records: Sequence[Mapping[str, Any]], manifest: Mapping[str, Any]) -> None:
    """Say what can be scored and still is hardly what the model meant."""
    cut = sum(bool(record["reply"].get("truncated")) for record in records)
    if cut:
        longest = manifest["identity"].get("max_new_tokens", "so many")
        say(
            f"{cut} of {len(records)} answers were cut off at {longest} tokens or by a filter; --max-new-tokens N "
            "with another --output asks for longer ones"
        )
    family = family_of_run(manifest)
    boxes = [(record["reply"]["text"], record["model_size"]) for record in records if "model_size" in record]
    beyond = sum(boxes_beyond(text, family=family, model_size=tuple(size)) for text, size in boxes)
    if beyond:
        space = "pixels of what the model sees" if family.pixels else "thousandths of the sides"
        say(
            f"{beyond} of {len(boxes)} answers have boxes that reach out of the image; they were read as {space} "
            f"({family.title}), which --family with another --output changes"
        )


def _write_files(folder: Path, texts: Mapping[str, str]) -> None:
    if texts and folder.exists() and not folder.is_dir():
        raise UserError(f"--output {folder}: is a file, expected a folder")
    for name, text in texts.items():
        write_text(folder / name, text)


def say_lost(lost: Mapping[str, int], *, given: int, unit: str, allowed: str | float) -> int:
    """Say on stderr, before anything is shown, what could not be scored as it was meant.

    Args:
        lost: why → how many; each counted once.
        given: of how many.
        unit: what they are.
        allowed: `--max-lost`.

    Returns:
        The exit code: 1 when it is too much.
    """
    damage = Damage(given=given, unit=unit, lost=lost, allowed=share_of(allowed, "--max-lost"), option="--max-lost")
    if damage.count:
        print(damage.line(), file=sys.stderr)
    return int(damage.is_too_much)


def show_scores(args: argparse.Namespace, benchmark: Benchmark, found: dict[str, Any]) -> int:
    """Print scores, or with `--json` one line of JSON in which what the terminal's encoding lacks is escaped; the exit
    code."""
    if args.json:
        text = json.dumps(found, ensure_ascii=False, allow_nan=False)
        try:
            text.encode(sys.stdout.encoding or "utf-8")
        except UnicodeEncodeError:
            text = json.dumps(found, allow_nan=False)
        print(text)
    else:
        benchmark.show(found)
        if part := benchmark.part_of_whole(found):
            print(f"these are {part}")
    said = benchmark.problem(found)
    if said:
        print(said, file=sys.stderr)
    return int(bool(said))


def _report_outcome(outcome: Outcome, *, asked: int) -> int:
    """Say on stderr how a run ended; the exit code, 1 when questions stayed without an answer or a refusal.

    Raises:
        UserError: the run was ended by it; what was answered is kept, as the message says.
    """
    answered = outcome.answered + outcome.known + outcome.refused
    if outcome.refused:
        say(f"{outcome.refused} questions were refused; --ask-refused asks them again")
    if outcome.failed:
        for reason, count in Counter(outcome.failed.values()).most_common(3):
            print(f"no answer to {count} of the questions: {reason}", file=sys.stderr)
    if outcome.stopped is not None:
        raise UserError(f"{outcome.stopped}; {answered} of {asked} answers are kept, start again to go on")
    if outcome.waiting:
        say(f"{outcome.waiting} questions are other processes' and not answered yet")
    if outcome.failed:
        print(f"{answered} of {asked} questions answered; start again to ask the rest", file=sys.stderr)
        return 1
    return 0
