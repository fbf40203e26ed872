"""What a report is made of: folders of runs, MMAD's answer files, and published numbers."""

from __future__ import annotations

import csv
import json
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from adcopilot.errors import UserError
from adcopilot.jsonl import file_digest, read_jsonl
from adcopilot.pages.text import shorten

from ..command import MAX_LOST
from ..mmad.answer_file import distinct, read_answer_file
from ..mmad.results import results_of_entries
from ..mmad.scoring import SUB_TASKS, average_rows
from ..run_folder import Answers, read_manifest, read_run

__all__ = ["BENCHMARKS", "Published", "Source", "paper_table", "read_csv", "read_source"]

BENCHMARKS = ("mmad", "mmad-bbox", "unipcb", "caption")
#: Of all of MMAD.
QUESTIONS = 39_672
_PUBLISHED = Path(__file__).parent / "published.json"

#: What a run's results must have so that the report can be made, and which files hold what each question scored.
_NEEDED = {
    "mmad": ("datasets", "average", "categories", "questions"),
    "mmad-bbox": ("overall", "datasets", "categories", "rule"),
    "unipcb": ("columns", "average"),
    "caption": ("columns",),
}
_EACH = {"mmad-bbox": "images.jsonl", "unipcb": "scores.jsonl", "caption": "scores.jsonl"}


@dataclass(frozen=True, kw_only=True)
class Published:
    """A row of somebody else's table: percent by column, None where it has no number.

    Attributes:
        name: of the model.
        source: where the numbers are from.
        values: column → percent.
        human: a person's, no model's.
        trained: of a model that was trained with the benchmark's data.
        plot: whether it is drawn beside the runs.
        labels: of an ablation's row, heading → text.
    """

    name: str
    source: str
    values: Mapping[str, float | None]
    human: bool = False
    trained: bool = False
    plot: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(kw_only=True)
class Source:
    """A run, or an answer file, that the report shows.

    Attributes:
        name: how the report calls it; unique in a report.
        path: its folder or file.
        benchmark: of `BENCHMARKS`.
        results: its scores.
        identity, selection: of its manifest; of an answer file, its hash alone.
        version: adcopilot's, as the manifest has it.
    """

    name: str
    path: Path
    benchmark: str
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
            print(found.note, file=sys.stderr)
        return found

    @property
    def records(self) -> list[dict[str, Any]]:
        """Of `answers`."""
        return self.answers.records

    @cached_property
    def each(self) -> list[dict[str, Any]]:
        """What each question scored, as the benchmark wrote it beside the results; empty where it did not."""
        file = self.path / _EACH.get(self.benchmark, "-")
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
        count = self.results.get("questions")
        if self.benchmark == "mmad" and not reasons and isinstance(count, int) and count < QUESTIONS:
            reasons.append(f"{count:,} of MMAD's {QUESTIONS:,} questions")
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


def read_source(text: str) -> Source:
    """A run's folder or MMAD's answer file, `NAME=` before it where it is to be called so.

    Raises:
        UserError: there is none, it has no scores yet, or they are not this version's.
    """
    name, path = "", Path(text)
    if not path.exists():
        # A name may have the sign in it, and so may a path.
        cuts = [place for place, letter in enumerate(text) if letter == "=" and Path(text[place + 1 :]).exists()]
        if cuts and text[cuts[0] + 1 :]:
            name, path = text[: cuts[0]], Path(text[cuts[0] + 1 :])
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; expected a run, or MMAD's answer file")
    if path.is_file():
        entries, twice = distinct(read_answer_file(path))
        results = results_of_entries(entries)
        results["unread"] |= twice
        identity = {"benchmark": "mmad", "answer_file": file_digest(path)}
        found = re.fullmatch(r"answers_(\d+)_shot_(.+)", path.stem)
        if found:
            results["shots"] = int(found[1])
        return Source(name=_clean(name or (found[2] if found else path.stem)), path=path, benchmark="mmad",
                      results=results, identity=identity, entries=entries)  # fmt: skip
    manifest = read_manifest(path)
    identity, selection = manifest["identity"], manifest.get("selection")
    benchmark = identity.get("benchmark")
    if benchmark not in BENCHMARKS:
        raise UserError(f"{path}: is a run of {benchmark!r:.60}, expected one of {', '.join(BENCHMARKS)}")
    selection = selection if isinstance(selection, dict) else {}
    model = selection.get("model") or _at(identity, "backend", "model")
    default = Path(str(model).rstrip("/\\")).name + ("†" if identity.get("thinking") else "") if model else path.name
    return Source(
        name=_clean(name or default),
        path=path,
        benchmark=benchmark,
        results=_results(path, benchmark),
        identity=identity,
        selection=selection,
        version=str(manifest.get("adcopilot", "")),
    )


def _clean(name: str) -> str:
    return shorten(name, 60) or "run"


def _at(value: Any, *names: str) -> Any:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _results(folder: Path, benchmark: str) -> dict[str, Any]:
    file = folder / "results.json"
    again = f"run `adcopilot eval {benchmark} --output {folder} …` to its end, which writes it"
    try:
        value = json.loads(file.read_bytes(), parse_constant=_no_number)
    except FileNotFoundError:
        raise UserError(f"{file}: there are no scores yet; {again}") from None
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error}); check the folder") from None
    except (ValueError, RecursionError):
        raise UserError(f"{file}: not JSON; {again}") from None
    missing = [name for name in _NEEDED[benchmark] if not isinstance(value, dict) or name not in value]
    if missing:
        raise UserError(f"{file}: has no {', '.join(missing)}, expected the scores of {benchmark}; {again}")
    return value


def paper_table(number: str) -> list[Published]:
    """The rows of one of the paper's tables (`II`, `III`, …), with the paper's name and the table's number."""
    data = json.loads(_PUBLISHED.read_text("utf-8"))
    table = data["tables"][number]
    return [
        Published(
            name=" ".join(filter(None, (row["model"], row.get("scale")))),
            source=f"{data['source']}, Table {number}",
            values=dict(zip(table["columns"], row["values"], strict=True)),
            human=row.get("human", False),
            trained=row.get("trained_on_benchmark", False),
            plot=row.get("plot", False),
            labels=row.get("labels", {}),
        )
        for row in table["rows"]
    ]


def read_csv(path: Path) -> Published:
    """The mean over datasets of a table that MMAD's summary script wrote: a row a dataset, a column a sub-task.

    Raises:
        UserError: it cannot be read or is no such table; it names the cell.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = list(csv.reader(file))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check the path") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a CSV file ({error}); expected MMAD's *_accuracy.csv") from None
    heads = lines[0] if lines else []
    names = {**{task: task for task in SUB_TASKS}, "Average": "average", "Precision": "precision"}
    names |= {"Recall": "recall", "F1": "f1"}
    absent = [head for head in (*SUB_TASKS, "Average") if head not in heads]
    if absent:
        raise UserError(f"{path}: has no column {absent[0]!r}, expected MMAD's *_accuracy.csv")
    rows = []
    for line in lines[1:]:
        if not line or line[0].strip().lower() == "average":
            continue
        rows.append({names[head]: _number(path, line, heads, head) for head in names if head in heads})
    if not rows:
        raise UserError(f"{path}: has no dataset's row, expected MMAD's *_accuracy.csv")
    name = re.sub(r"^answers_(\d+)_shot_|_accuracy$", "", path.stem)
    return Published(name=shorten(name, 60), source=shorten(path.name, 80), values=average_rows(rows), plot=True)


def _number(path: Path, line: list[str], heads: list[str], head: str) -> float:
    place = heads.index(head)
    text = line[place] if place < len(line) else ""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 100:
        raise UserError(f"{path}: {shorten(line[0], 40)}, {head} is {text[:40]!r}, expected a number from 0 to 100")
    return value
