"""Running a benchmark so that nothing is lost: a folder with a manifest and append-only logs of answers.

    RUN/manifest.json           what was asked of whom: everything that answers depend on, and the selection
    RUN/questions.jsonl         which lines count: `run_folder`
    RUN/answers*.jsonl          one line an answer, with the model's raw text; a file for each process
    RUN/refused*.jsonl          one line a question that the endpoint declined to answer
    RUN/results.json            the scores, written anew at each end of a run
    RUN/…                       whatever else the benchmark writes (MMAD's answer file, tables)
    RUN/part/results.json …     the same for the latest start that asked a part only

A line is on the disk before the next answer is looked at. A run that is started again with the same settings asks only
what has no line yet; several processes (`--shard 1/4` … `4/4`) write beside each other and read each other's lines. A
line that a killed process left torn counts as not there.

The selection of a run is the widest so far. A start that asks all of it, or more, takes its place. One that asks less
or something else is a part: its answers are in the same logs, its scores in a folder of their own.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from adcopilot import __version__
from adcopilot.answering.base import Backend, Reply
from adcopilot.answering.families import split_thinking
from adcopilot.answering.items import Item
from adcopilot.cli.saying import progress, say
from adcopilot.errors import UserError, changed_settings
from adcopilot.jsonl import JsonlLog, content_key, write_json

from .run_folder import (
    LOGS,
    MANIFEST,
    REFUSED,
    Answers,
    RunQuestion,
    answers_to,
    asked_before,
    asked_now,
    read_manifest,
    read_records,
    write_asked,
)

__all__ = ["Outcome", "Run", "RunShard"]

#: So many refusals in a row are worth a word while a run is under way.
_MANY_REFUSED = 20


@dataclass(frozen=True, kw_only=True)
class RunShard:
    """One of several processes that share a run's questions; `index` from 1 to `count`."""

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str | None) -> RunShard:
        """`2/4`; without a text, the place that torchrun gives (RANK, WORLD_SIZE), or the only one.

        Raises:
            UserError: not of this form.
        """
        if text is None:
            rank, world = os.environ.get("RANK", ""), os.environ.get("WORLD_SIZE", "")
            if rank.isdigit() and world.isdigit() and int(rank) < int(world):
                return cls(index=int(rank) + 1, count=int(world))
            return cls()
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise UserError(f"--shard is {text!r}, expected a number of all, such as 1/4 to 4/4")
        return cls(index=int(match[1]), count=int(match[2]))

    def holds(self, item: Item) -> bool:
        """Whether an item is this process's; the items of a group stay together, to share their images."""
        return int(hashlib.sha256(item.group.encode()).hexdigest()[:12], 16) % self.count == self.index - 1

    def file_name(self, what: str) -> str:
        """The log of `what` ("answers", "refused") that this process alone writes."""
        return f"{what}.jsonl" if self.count == 1 else f"{what}-{self.index}-of-{self.count}.jsonl"


@dataclass(kw_only=True)
class Outcome:
    """How a run ended.

    Attributes:
        answered: items answered now.
        known: items that had their answers before, or had been refused.
        refused: items that the endpoint declined to answer now.
        failed: key of an item → why it has no answer.
        waiting: items of other processes that have no answer yet.
        stopped: the error that ended the run early.
    """

    answered: int = 0
    known: int = 0
    refused: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    waiting: int = 0
    stopped: UserError | None = None


class Run:
    """A folder of answers to one benchmark by one model with one set of settings.

    Args:
        folder: made when absent.
        identity: all that the answers depend on besides the items: benchmark and its version, data hash, prompt hash,
            `Backend.describe()`, length of answers. JSON values.

    Raises:
        UserError: the folder holds a run with another identity (it names what differs), or cannot be written to.
    """

    def __init__(self, *, folder: str | os.PathLike, identity: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        self.identity = json.loads(json.dumps(identity))
        self.asked: list[RunQuestion] = []
        if (self.folder / MANIFEST).is_file():
            other = read_manifest(self.folder)["identity"]
            changed = changed_settings(other, self.identity)
            if changed:
                raise UserError(
                    f"{self.folder}: holds a run with other settings ({'; '.join(changed[:3])}); choose another "
                    "--output"
                )
        elif self.folder.is_dir() and any(self.folder.glob(LOGS)):
            raise UserError(f"{self.folder}: has answers but no {MANIFEST}; choose another --output")
        else:
            self._write_manifest({})

    def _write_manifest(self, selection: Mapping[str, Any]) -> None:
        value = {"adcopilot": __version__, "identity": self.identity, "selection": dict(selection)}
        write_json(self.folder / MANIFEST, value, allow_nan=False)

    def select(
        self, items: Sequence[Item], *, selection: Mapping[str, Any], truth: Any = None
    ) -> tuple[bool, dict[str, str]]:
        """Say what is asked, before it is asked.

        Args:
            items: all items of this start.
            selection: which part of the benchmark they are, in the words of the options.
            truth: function of an item for the fields of its line that no answer changes; of lines that are there it is
                computed again where the item's `meta` or `reference` is another than the line's.

        Returns:
            Whether this is the run's selection from now on, rather than a part of it or something else; and key of an
            item → why the line that it has cannot be scored.

        Raises:
            UserError: a file of the run is damaged, or the folder cannot be written to.
        """
        before, _ = asked_before(self.folder)
        self.asked, problems = asked_now(items, [self.key(item) for item in items], self.folder, truth=truth)
        places = {one.place for one in self.asked}
        others = {one.key for one in before or () if one.place not in places}
        # What was chosen once and never begun has no claim.
        whole = not others or others.isdisjoint(self._logged())
        if whole:
            self._write_manifest(selection)
            write_asked(self.folder, self.asked)
        elif not (self.folder / "questions.jsonl").is_file():  # an earlier version's run
            write_asked(self.folder, before or ())
        return whole, problems

    def _logged(self) -> set[str]:
        return {record["key"] for pattern in (LOGS, REFUSED) for record in read_records(self.folder, pattern)}

    def key(self, item: Item) -> str:
        """The content key of an item's answer in this run."""
        return content_key(self.identity, item.key)

    def ask(
        self,
        items: Sequence[Item],
        backend: Backend,
        *,
        max_new_tokens: int,
        shard: RunShard,
        extra: Any = None,
        refused_too: bool = False,
    ) -> Outcome:
        """Ask what has no answer yet, and log each answer as it comes. Refusals are logged apart from answers; errors
        are counted, not logged: they are asked again the next time.

        Args:
            items: all items of the run.
            backend: answers them.
            max_new_tokens: longest answer.
            shard: this process's part.
            extra: function of an item for further fields of its line.
            refused_too: whether what was refused is asked again.

        Raises:
            UserError: another process writes the same log, the disk is full, or the log was removed meanwhile.
        """
        check_groups(items)
        with self._log(shard.file_name("answers")) as log:
            done = {record["key"] for record in read_records(self.folder)} if refused_too else self._logged()
            missing = [item for item in items if self.key(item) not in done]
            mine = [item for item in missing if shard.holds(item)]
            outcome = Outcome(known=len(items) - len(missing))
            total = sum(map(shard.holds, items))
            bar = progress(total=total, initial=total - len(mine), unit="question", smoothing=0.05)
            refused: JsonlLog | None = None  # opened for the first of them
            in_row = 0
            with bar, ExitStack() as opened:
                try:
                    for item, reply in backend.answer(mine, max_new_tokens=max_new_tokens) if mine else ():
                        error, line = reply.error, {}
                        if error is None or reply.refused:
                            try:
                                line = self._line(item, reply, extra)
                            except UserError as bad:  # a mask that cannot be read costs its own question only
                                error = str(bad)
                        if line and reply.refused:
                            if refused is None:
                                refused = opened.enter_context(self._log(shard.file_name("refused")))
                            if line["key"] not in refused:  # it may be refused a second time
                                refused.append(line)
                            outcome.refused += 1
                            in_row += 1
                            if in_row == _MANY_REFUSED:
                                _say_refused(reply.error)
                        elif line:
                            log.append(line)
                            in_row = 0
                            outcome.answered += 1
                        else:
                            outcome.failed[item.key] = error or "no answer"
                            bar.set_postfix_str(f"{len(outcome.failed)} failed", refresh=False)
                        bar.update()
                except UserError as error:  # the endpoint is gone: what was answered is kept
                    outcome.stopped = error
        done = self._logged()
        if len(done.intersection(map(self.key, mine))) < outcome.answered + outcome.refused:
            raise UserError(
                f"{self.folder}: answers that were written are no longer there; the folder or its logs were removed "
                "or cut while the run was under way: put them back, or start again"
            )
        outcome.waiting = sum(
            self.key(item) not in done and item.key not in outcome.failed for item in items if not shard.holds(item)
        )
        return outcome

    def _log(self, name: str) -> JsonlLog:
        try:
            return JsonlLog(path=self.folder / name)
        except UserError as error:
            if "another process" in str(error):
                raise UserError(f"{error}; processes that share a run are started with --shard 1/N to N/N") from None
            raise

    def _line(self, item: Item, reply: Reply, extra: Any) -> dict[str, Any]:
        if split_thinking(reply.text)[0]:  # the first word was then the reasoning's, and no option
            reply = replace(reply, option_logprobs=None)
        if not all(value <= 1e-3 for value in (reply.option_logprobs or {}).values()):  # NaN too
            raise UserError("the probabilities of its options are no probabilities")
        return {
            "key": self.key(item),
            "item": item.key,
            "group": item.group,
            "images": [str(path) for path in item.images],
            "question": item.question,
            "options": None if item.options is None else dict(item.options),
            "reference": item.reference,
            "meta": dict(item.meta),
            "reply": reply.to_dict(),
            **(extra(item) if extra else {}),
        }

    def answers(self, *, benchmark: str = "") -> Answers:
        """The lines that answer what was selected, as every reader of the run finds them.

        Raises:
            UserError: a line is damaged; it names the line.
        """
        return answers_to(self.asked, self.folder, benchmark=benchmark)


def _say_refused(error: str | None) -> None:
    say(
        f"{_MANY_REFUSED} questions in a row were refused, the last with: {error}; if that is the request's fault, "
        "stop the run, and ask them again later with --ask-refused"
    )


def check_groups(items: Sequence[Item]) -> None:
    """Make sure that keys differ and that items of one group share images and prefix.

    Raises:
        UserError: two items have one key (the benchmark asks the same question twice), or a group is mixed.
    """
    keys: set[str] = set()
    first: dict[str, Item] = {}
    for item in items:
        if item.key in keys:
            raise UserError(f"item {item.key} is there twice: {item.question[:80]!r}; keep one of them")
        keys.add(item.key)
        other = first.setdefault(item.group, item)
        if (other.images, other.prefix) != (item.images, item.prefix):
            raise UserError(f"group {item.group}: items {other.key} and {item.key} differ in images or prefix")
