"""Running a benchmark so that nothing is lost: a folder with a manifest and append-only logs of answers.

    RUN/manifest.json           what was asked of whom: everything that answers depend on
    RUN/answers*.jsonl          one line an answer, with the model's raw text; a file for each process
    RUN/results.json            the scores, written anew at each end of a run
    RUN/…                       whatever else the benchmark writes (MMAD's answer file, tables)

A line is on the disk before the next answer is looked at. A run that is started again with the same settings asks only
what has no line yet; several processes (`--shard 1/4` … `4/4`) write beside each other and read each other's lines. A
line that a killed process left torn counts as not there.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adcopilot import __version__
from adcopilot.errors import UserError
from adcopilot.jsonl import JsonlLog, atomic_write, content_key

from .backends.base import Backend, Reply
from .items import Item, check_groups

__all__ = ["Outcome", "Run", "Shard", "read_manifest", "read_records", "write_json"]

MANIFEST = "manifest.json"
_LOGS = "answers*.jsonl"


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One of several processes that share a run's questions; `index` from 1 to `count`."""

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str | None) -> Shard:
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

    @property
    def file_name(self) -> str:
        """The log that this process alone writes."""
        return "answers.jsonl" if self.count == 1 else f"answers-{self.index}-of-{self.count}.jsonl"


@dataclass(kw_only=True)
class Outcome:
    """How a run ended.

    Attributes:
        answered: items answered now.
        known: items that had their answers before.
        failed: key of an item → why it has no answer.
        waiting: items of other processes that have no answer yet.
        stopped: the error that ended the run early.
    """

    answered: int = 0
    known: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    waiting: int = 0
    stopped: UserError | None = None


class Run:
    """A folder of answers to one benchmark by one model with one set of settings.

    Args:
        folder: made when absent.
        identity: all that the answers depend on besides the items: benchmark and its version, data hash, prompt hash,
            `Backend.describe()`, length of answers. JSON values.
        selection: which items of the benchmark are asked; may differ from one start to the next.

    Raises:
        UserError: the folder holds a run with another identity (it names what differs), or cannot be written to.
    """

    def __init__(
        self, *, folder: str | os.PathLike, identity: Mapping[str, Any], selection: Mapping[str, Any]
    ) -> None:
        self.folder = Path(folder)
        self.identity = json.loads(json.dumps(identity))
        file = self.folder / MANIFEST
        if file.is_file():
            other = read_manifest(self.folder)["identity"]
            if other != self.identity:
                raise UserError(
                    f"{self.folder}: holds a run with other settings ({_difference(other, self.identity)}); choose "
                    "another --output"
                )
        elif self.folder.is_dir() and any(self.folder.glob(_LOGS)):
            raise UserError(f"{self.folder}: has answers but no {MANIFEST}; choose another --output")
        write_json(file, {"adcopilot": __version__, "identity": self.identity, "selection": dict(selection)})

    def key(self, item: Item) -> str:
        """The content key of an item's answer in this run."""
        return content_key(self.identity, item.key)

    def ask(
        self,
        items: Sequence[Item],
        backend: Backend,
        *,
        max_new_tokens: int,
        shard: Shard,
        extra: Any = None,
        quiet: bool = False,
    ) -> Outcome:
        """Ask what has no answer yet, and log each answer as it comes. Errors are counted, not logged: they are asked
        again the next time.

        Args:
            items: all items of the run.
            backend: answers them.
            max_new_tokens: longest answer.
            shard: this process's part.
            extra: function of an item for further fields of its line.
            quiet: no progress bar.

        Raises:
            UserError: another process writes the same log, or the disk is full.
        """
        from tqdm import tqdm

        check_groups(items)
        log_path = self.folder / shard.file_name
        try:
            log = JsonlLog(path=log_path)
        except UserError as error:
            if "another process" in str(error):
                raise UserError(f"{error}; processes that share a run are started with --shard 1/N to N/N") from None
            raise
        with log:
            done = {record["key"] for record in read_records(self.folder)}
            missing = [item for item in items if self.key(item) not in done]
            mine = [item for item in missing if shard.holds(item)]
            outcome = Outcome(known=len(items) - len(missing))
            total = sum(map(shard.holds, items))
            bar = tqdm(
                total=total, initial=total - len(mine), unit="question", disable=quiet, file=sys.stderr, smoothing=0.05
            )
            with bar:
                try:
                    for item, reply in backend.answer(mine, max_new_tokens=max_new_tokens) if mine else ():
                        error, line = reply.error, {}
                        if error is None:
                            try:
                                line = self._line(item, reply, extra)
                            except UserError as bad:  # a mask that cannot be read costs its own question only
                                error = str(bad)
                        if error is None:
                            log.append(line)
                            outcome.answered += 1
                        else:
                            outcome.failed[item.key] = error
                            bar.set_postfix_str(f"{len(outcome.failed)} failed", refresh=False)
                        bar.update()
                except UserError as error:  # the endpoint is gone: what was answered is kept
                    outcome.stopped = error
        done = {record["key"] for record in read_records(self.folder)}
        outcome.waiting = sum(
            self.key(item) not in done and item.key not in outcome.failed for item in items if not shard.holds(item)
        )
        return outcome

    def _line(self, item: Item, reply: Reply, extra: Any) -> dict[str, Any]:
        return {
            "key": self.key(item),
            "item": item.key,
            "group": item.group,
            "images": [str(path) for path in item.images],
            "question": item.question,
            "options": None if item.options is None else dict(item.options),
            "reference": item.reference,
            "meta": dict(item.meta),
            "reply": reply.as_dict(),
            **(extra(item) if extra else {}),
        }

    def records(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        """The lines of those items that have one, in the order of the items."""
        found = {record["key"]: record for record in read_records(self.folder)}
        return [found[key] for key in map(self.key, items) if key in found]


def read_manifest(folder: str | os.PathLike) -> dict[str, Any]:
    """The manifest of a run: `identity`, `selection`, `adcopilot` (the version).

    Raises:
        UserError: the folder holds no run, or its manifest is damaged.
    """
    file = Path(folder) / MANIFEST
    try:
        value = json.loads(file.read_bytes())
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error}); expected the folder of a run") from None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or not isinstance(value.get("identity"), dict):
        raise UserError(f"{file}: not a run's manifest; choose another folder")
    return value


def read_records(folder: str | os.PathLike) -> Iterator[dict[str, Any]]:
    """The lines of all logs of a run, each key once, without torn ones: other processes may be writing.

    Raises:
        UserError: a whole line is no JSON object with a key; it names the line.
    """
    seen: set[str] = set()
    for file in sorted(Path(folder).glob(_LOGS)):
        with open(file, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n") or not line.strip():
                    continue
                try:
                    record = json.loads(line)
                    key = record["key"]
                except (ValueError, KeyError, TypeError, RecursionError):
                    raise UserError(
                        f"{file}:{number}: not an answer of this command; remove or repair this line"
                    ) from None
                if key not in seen:
                    seen.add(key)
                    yield record


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically, readable."""
    text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    atomic_write(path, lambda file: file.write(text.encode(errors="backslashreplace")))


def _difference(old: Mapping[str, Any], new: Mapping[str, Any], path: str = "") -> str:
    """The first few settings that differ, with both values."""
    found = []
    for name in dict.fromkeys([*old, *new]):
        a, b = old.get(name), new.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            if a != b:
                found.append(_difference(a, b, f"{path}{name}."))
        elif a != b:
            found.append(f"{path}{name} {_short(a)}, now {_short(b)}")
    return "; ".join(found[:3])


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"
