"""From pairs to training records: a pure function of a shard, a task, the seed and the generator."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from ...endpoint.client import Refused
from ...errors import UserError
from ...jsonl import content_key
from ...records import check_record, make_record
from ...tasks import TASKS as VERIFIABLE
from ..draws import dice
from ..dropped import Dropped
from ..runners import in_order
from .annotations import AnnotationsGenerator
from .caption import write_caption
from .choice import Choice, Letters, choose
from .dialogue import write_dialogue
from .generator import Generator
from .locate import inspect_turn, locate
from .pair_view import PairView
from .prompt_files import PromptFiles
from .think import write_thinking
from .verify import Verifier
from .words import Words

__all__ = ["TASKS", "generate_records"]

#: Those that write their own questions, after what is written here.
_WHOLE = {name: task for name, task in VERIFIABLE.items() if task.write is not None}

#: `verdict` is the question of `adcopilot inspect` and its exact answer.
TASKS = ("caption", "dialogue", "mc", "loc", "think", "verdict", *_WHOLE)

#: Of dialogues, how many open with the question of `adcopilot inspect`.
INSPECTED = 0.4


@dataclass(frozen=True, kw_only=True)
class _Tools:
    """What the samples of a shard share."""

    task: str
    prompts: PromptFiles
    words: Words
    verifier: Verifier
    seed: int


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """The verifiable questions of a pair; made in the pairs' order, because letters are dealt in order."""

    choice: Choice | None
    place: tuple[str, str] | None
    no_place: str


def generate_records(
    pairs: Iterable[PairView],
    *,
    generator: Generator,
    task: str,
    seed: int,
    on_refused: Callable[[dict[str, Any]], None],
    prompts: PromptFiles | None = None,
    fallback: Generator | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield a task's record of each pair that has one, in the pairs' order.

    A record is `records.make_record`'s with the fields, never null and of one type each, so that a file of them loads
    as a table: `task`, `kind` (of a multiple choice: which; of `think`: `mc` or `loc`), `answer` (text: the letter,
    the JSON list of boxes, the caption; of a dialogue its last answer), `boxes`, `labels`, `mask`, `source`,
    `category`, `view`, `defect`, `anomalous`, `key`, `generator`, `prompt_hash`, `seed`.

    Args:
        pairs: of one shard.
        generator: writes captions, dialogues and reasoning. Multiple choice and localisation always come from the
            annotation, so that their answers are right.
        task: of `TASKS`.
        seed: of every choice.
        on_refused: called with the line (`Dropped`) of each sample that was not made: `not_applicable` for
            localisation of a normal image, else `refused`.
        prompts: wording of questions; the package's own by default.
        fallback: writes what the generator refuses, if it can; nothing does by default.

    Raises:
        UserError: the generator cannot go on; what it was paid for is in its cache.
    """
    prompts = prompts or PromptFiles()
    words = Words(prompts=prompts)
    tools = _Tools(task=task, prompts=prompts, words=words, verifier=Verifier(words=words), seed=seed)
    letters = Letters(seed=seed)
    writers = [generator, *([fallback] if fallback else [])]
    if task in VERIFIABLE:  # from the annotation alone, whatever the generator
        writers = [AnnotationsGenerator(prompts=prompts, seed=seed)]
    with _runner(writers) as run:
        # Twice the requests in flight, so that one slow pair does not leave the others waiting.
        ahead = 2 * max(one.concurrency for one in writers) - 1
        started = (run(_record_of(pair, _ask(pair, letters, tools), writers, tools)) for pair in pairs)
        for record, refusals in in_order(started, ahead=ahead):
            for refusal in refusals:
                on_refused(refusal.line())
            if record is not None:
                yield record


def _ask(pair: PairView, letters: Letters, tools: _Tools) -> _Asked:
    choice, place, no_place = None, None, ""
    if tools.task in ("mc", "think"):
        rng = dice(tools.seed, "mc", pair.key)
        choice = choose(pair, rng, letters=letters, prompts=tools.prompts, words=tools.words)
    if tools.task in ("loc", "think"):
        rng = dice(tools.seed, "loc", pair.key)
        try:
            place = locate(pair, rng, prompts=tools.prompts, words=tools.words)
        except Refused as refused:
            no_place = refused.reason
    return _Asked(choice=choice, place=place, no_place=no_place)


async def _record_of(
    pair: PairView, asked: _Asked, writers: Sequence[Generator], tools: _Tools
) -> tuple[dict[str, Any] | None, list[Dropped]]:
    """The record of the first writer that gives one, and what those before it refused."""
    refusals = []
    for writer in writers:
        try:
            record = await _sample(pair, asked, writer, tools)
            return record, [replace(one, fallback=True) for one in refusals]
        except Refused as refused:
            reason = "not_applicable" if tools.task == "loc" and not pair.anomalous else "refused"
            found = {"image": pair.images[1], "key": pair.key, "task": tools.task, "detail": refused.reason}
            refusals.append(Dropped(step="write", reason=reason, **found))
    return None, refusals


async def _sample(pair: PairView, asked: _Asked, writer: Generator, tools: _Tools) -> dict[str, Any]:
    """One record, or Refused."""
    task, kind = tools.task, ""
    rng = dice(tools.seed, task, pair.key)
    if task == "caption":
        caption = await write_caption(pair, writer, verifier=tools.verifier)
        answer = caption.text()
        turns = [(tools.prompts.pick(rng, "questions.json", "caption"), answer)]
    elif task == "dialogue":
        # Without a list of boxes there is no caption, but something can still be said.
        caption = await write_caption(pair, writer, verifier=tools.verifier) if pair.listable else None
        first = inspect_turn(pair, tools.words) if rng.random() < INSPECTED and pair.listable else None
        turns = await write_dialogue(pair, writer, verifier=tools.verifier, caption=caption, first=first)
        answer = turns[-1][1]
    elif task == "mc":
        turns, kind, answer = [(asked.choice.question, asked.choice.answer)], asked.choice.kind, asked.choice.answer
    elif task == "loc":
        if asked.place is None:
            raise Refused(asked.no_place)
        turns, answer = [asked.place], asked.place[1]
    elif task == "verdict":
        turns = [inspect_turn(pair, tools.words)]
        answer = turns[0][1]
    elif task in _WHOLE:
        whole = _WHOLE[task]
        if whole.obstacle and (why := whole.obstacle("anomalous" if pair.anomalous else "normal", len(pair.boxes))):
            raise Refused(f"{task}: such images {why}")
        turns = [whole.write(pair, rng)]
        answer = turns[0][1]
    else:
        caption = await write_caption(pair, writer, verifier=tools.verifier) if pair.listable else None
        placing = asked.place is not None and rng.random() < 0.5
        kind = "loc" if placing else "mc"
        question, answer = asked.place if placing else (asked.choice.question, asked.choice.answer)
        choice = None if placing else asked.choice
        turns = [
            await write_thinking(
                pair,
                writer,
                verifier=tools.verifier,
                caption=caption,
                question=question,
                answer=answer,
                choice=choice,
            )
        ]
    return _record(pair, kind, turns, answer, writer, tools)


def _record(
    pair: PairView, kind: str, turns: Sequence, answer: str, writer: Generator, tools: _Tools
) -> dict[str, Any]:
    prompt_hash = writer.prompt_hash(tools.task)
    fields: Mapping[str, Any] = {
        "task": tools.task,
        "kind": kind,
        "answer": answer,
        "boxes": [list(box) for box in pair.boxes],
        "labels": [tools.words.label(label) for label in pair.labels],
        "mask": pair.mask,
        "source": pair.source,
        "category": pair.category,
        "view": pair.view,
        "defect": pair.defect,
        "anomalous": pair.anomalous,
        "key": content_key(pair.key, tools.task, tools.seed, writer.name, prompt_hash),
        "generator": writer.name,
        "prompt_hash": prompt_hash,
        "seed": tools.seed,
    }
    try:
        record = make_record(images=pair.images, turns=turns, **fields)
        check_record(record, name=pair.images[1], sizes=[pair.size, pair.size])
    except UserError as error:  # a label that holds `<image>`, or the like: this one sample is at fault
        raise Refused(str(error)) from None
    return record


@contextmanager
def _runner(generators: Sequence[Generator]) -> Iterator[Callable[[Coroutine], Callable[[], Any]]]:
    """A function that starts a coroutine and returns a function that waits for its result.

    What never waits needs no event loop, which would cost more than the work. Otherwise a loop runs in a thread of its
    own: the caller may be inside a loop already (a notebook, a Ray worker).
    """
    if not any(generator.waits for generator in generators):
        yield _at_once
        return
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="adcopilot-generation", daemon=True)
    thread.start()

    def start(coroutine: Coroutine) -> Callable[[], Any]:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result

    try:
        yield start
    finally:
        asyncio.run_coroutine_threadsafe(_finish(generators), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _at_once(coroutine: Coroutine) -> Callable[[], Any]:
    try:
        coroutine.send(None)
    except StopIteration as stop:
        value = stop.value
        return lambda: value
    raise RuntimeError("a generator that says it never waits has waited")


async def _finish(generators: Sequence[Generator]) -> None:
    """After an error or an early end too: answers under way are paid for, so they are waited for and kept."""
    for generator in generators:
        await generator.finish()
    rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    await asyncio.gather(*rest, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_default_executor()
