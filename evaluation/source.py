"""A run, or a file of answers, as a benchmark and the report see it once it is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adcopilot.cli.saying import say
from adcopilot.jsonl import read_jsonl
from adcopilot.pages.text import shorten

from .options import MAX_LOST
from .run_folder import Answers, read_run

if TYPE_CHECKING:
    from .benchmark import Benchmark

__all__ = ["ReportSource"]


@dataclass(kw_only=True)
class ReportSource:
    """A run, or an answer file, that the report shows.

    Attributes:
        name: how the report calls it; unique in a report.
        path: its folder or file.
        benchmark: what was asked.
        results: its scores.
        identity, selection: of its manifest; of an answer file, its hash alone.
        version: adcopilot's, as the manifest has it.
        entries: of an answer file.
    """

    name: str
    path: Path
    benchmark: Benchmark
    results: dict[str, Any]
    identity: dict[str, Any] = field(default_factory=dict)
    selection: dict[str, Any] = field(default_factory=dict)
    version: str = ""
    entries: list[dict[str, Any]] | None = None

    @cached_property
    def answers(self) -> Answers:
        """The lines of the run that count, as a run and `--score` read them; none of an answer file."""
        if not self.path.is_dir():
            return Answers(records=[], asked=0)
        found = read_run(self.path)[1]
        if found.note:
            say(found.note)
        return found

    @property
    def records(self) -> list[dict[str, Any]]:
        """Of `answers`."""
        return self.answers.records

    @cached_property
    def each(self) -> list[dict[str, Any]]:
        """What each question scored, as the benchmark wrote it beside the results; empty where it did not."""
        file = self.path / (self.benchmark.each or "-")
        return [line for _, line in read_jsonl(file)] if file.is_file() else []

    @property
    def unread(self) -> int:
        """How many answers were unreadable, refused or doubled."""
        return sum((self.results.get("unread") or {}).values())

    @property
    def partial(self) -> str:
        """Why the numbers are not the whole benchmark's, "" where they are."""
        reasons = []
        if self.selection.get("quick"):
            reasons.append(f"a subset of {self.selection['quick']} images")
        if self.selection.get("limit"):
            reasons.append(f"the first {self.selection['limit']} images")
        if self.selection.get("category"):
            reasons.append(f"only {shorten(', '.join(map(str, self.selection['category'])), 80)}")
        if self.selection.get("skip_missing"):
            reasons.append("without those whose images were missing")
        part = self.benchmark.part_of_whole(self.results)
        if part and not reasons:
            reasons.append(part)
        total = self.results.get("questions", self.results.get("answered")) or 1
        if self.unread / total > MAX_LOST:
            reasons.append(f"{self.unread:,} of {total:,} answers unread")
        counted = self.results.get("answers_hash", self.results.get("answered"))
        now = self.answers.counts()
        if self.records and counted is not None and counted not in (now["answers_hash"], now["answered"]):
            reasons.append("its results.json is older than its answers: run it to its end again")
        asked, answered = self.results.get("asked"), self.results.get("answered")
        if isinstance(asked, int) and isinstance(answered, int) and answered < asked:
            reasons.append(f"{answered:,} of {asked:,} questions answered")
        return ", ".join(reasons)
