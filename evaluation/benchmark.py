"""What a benchmark gives to evaluation and to the report, so that neither needs to know any by its name.

A benchmark is a folder of `benchmarks/`: `command.py` asks and scores it, `benchmark.py` says in a subclass of
`Benchmark`, as `BENCHMARK`, what its runs hold and how they are shown. `published.json` beside it has the rows that
the paper prints. What a benchmark does not say is as it stands here.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from .bootstrap import Difference, Unit, ratio_differences
from .run_folder import Answers
from .source import ReportSource
from .table import Columns, Row, Table

__all__ = ["RIGHT_IOU", "Benchmark", "Boxes", "Compared", "Judged", "Line", "Reading", "Scores", "Traits", "given"]

#: An image's boxes are called right in the gallery from this IoU on.
RIGHT_IOU = 0.5

#: Setting → what must be equal; None or absence is not known, and then nothing is said against it.
Traits = Mapping[str, Any]

#: A line of a run, or of what its questions scored.
Line = Mapping[str, Any]

#: A run's scores, and what each question scored.
Scores = tuple[dict[str, Any], list[dict[str, Any]]]


class Judged(NamedTuple):
    """A line in the gallery: what it is filtered by, and whether it is right; `right` is None where the answer states
    nothing, and `judged` is False where an answer is neither."""

    dataset: str
    task: str
    right: bool | None = None
    judged: bool = True


class Boxes(NamedTuple):
    """Boxes on a card's last picture, `bbox_2d` and `label` in pixels of the original: true ones, or predicted."""

    boxes: Sequence[Mapping[str, Any]]
    predicted: bool = False


@dataclass(kw_only=True)
class Reading:
    """How the answer to a choice is read.

    Attributes:
        letter: that it states, "" for none.
        guessed: that a rule counts though the answer does not state it, "" for none.
        rule: whose rule that is.
        notes: what a reader has to know.
        facts: further values, (name, text).
    """

    letter: str
    guessed: str = ""
    rule: str = ""
    notes: list[str] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Two runs side by side.

    Attributes:
        first, second, benchmark: names, as `comparable.compare` fills them in.
        questions: that both have answered.
        differences: by column.
        counts: questions that were answered right by both, only the first, only the second, neither; None where an
            answer is not right or wrong. An answer that states nothing is not right, whatever a rule guesses.
        unread: answers of the first and of the second that state nothing; None as `counts`.
        note: what differs in how the two were asked, or what could not be compared.
    """

    first: str = ""
    second: str = ""
    benchmark: str = ""
    questions: int = 0
    differences: Sequence[Difference] = ()
    counts: tuple[int, int, int, int] | None = None
    unread: tuple[int, int] | None = None
    note: str = ""


class Benchmark:
    """A benchmark; a subclass is its only instance's.

    Attributes:
        name: in runs, on the command line, and of its table.
        version: counts up whenever the same command would ask something else.
        answer_tokens: longest answer, unless the command line says otherwise.
        title: as headings have it.
        line: fields that its lines must hold, as `line_checks` has them; `some`: (field, value) → those of such lines.
        needed: what `results.json` must have to be shown.
        each: file beside it that says what each question scored, "" for none.
        columns, main, axes, axes_called, note: of its table, as `table.Table`; without columns it is not shown.
        number: of the paper's table with these columns, "" for none.
        ablations: (number, of what) of the paper's tables that stand beside a plan.
        gains: (column, how `compare_runs` calls it) whose differences a plan shows.
        unrankable: why no run can be ranked with the published rows, whatever it was asked.
        questions: of all of it, where that is known.
        settings: what of the results belongs to how its numbers were made.
        facts: what of a line of `each` a card shows.
    """

    name: str
    version: int = 1
    answer_tokens: int = 512
    title: str
    line: Mapping[str, Any] = {}
    some: Mapping[tuple[str, Any], Mapping[str, Any]] = {}
    needed: Sequence[str] = ()
    each: str = ""
    columns: Columns = ()
    main: str = ""
    axes: Sequence[str] = ()
    axes_called: str = "By column"
    note: str = ""
    number: str = ""
    ablations: Sequence[tuple[str, str]] = ()
    gains: Sequence[tuple[str, str]] = ()
    unrankable: str = ""
    questions: int | None = None
    settings: Sequence[str] = ()
    facts: Sequence[str] = ()

    # Its command

    def score(self, args: argparse.Namespace, manifest: Mapping[str, Any], answers: Answers) -> Scores:
        """A run's scores and what each question scored, by the same rules when it has run and with `--score`.

        Returns:
            (scores, each). Scores: as `results.json` has them, with what could not be read in `unread` (why → how
            many) if the benchmark reads answers. Each: the lines of the file `each`.
        """
        raise NotImplementedError

    def show(self, found: Mapping[str, Any]) -> None:
        """Print scores."""
        raise NotImplementedError

    def part_of_whole(self, found: Mapping[str, Any]) -> str:
        """How many of the benchmark's questions scores are of; "" for all of them, or where that is not known."""
        count = found.get("questions")
        if not (self.questions and isinstance(count, int) and count < self.questions):
            return ""
        return f"{count:,} of {self.title}'s {self.questions:,} questions"

    def problem(self, found: Mapping[str, Any]) -> str:
        """Why scores are not what was asked for, "" if they are; it is said last, and ends the command with 1."""
        return ""

    def files(self, found: Mapping[str, Any]) -> Mapping[str, str]:
        """Further files of scores: name → text."""
        return {}

    # Its table

    def values(self, results: Mapping[str, Any]) -> Mapping[str, float | None]:
        """A run's numbers by the columns of the table."""
        return results["columns"]

    def intervals(self, results: Mapping[str, Any]) -> Mapping[str, Sequence[float]]:
        """Column → its 95 % interval, of a run."""
        return results.get("interval") or results.get("intervals") or {}

    def published(self, number: str) -> list[Row]:
        """The rows of one of the paper's tables (`II`, `III`, …), with the paper's name and the table's number."""
        file = Path(sys.modules[type(self).__module__].__file__).with_name("published.json")
        data = _json(file)
        table = data["tables"][number]
        return [
            Row(
                name=" ".join(filter(None, (row["model"], row.get("scale")))),
                source=f"{data['source']}, Table {number}",
                values=dict(zip(table["columns"], row["values"], strict=True)),
                own=False,
                apart=row.get("human", False) or row.get("trained_on_benchmark", False),
                plot=row.get("plot", False),
                labels=row.get("labels", {}),
            )
            for row in table["rows"]
        ]

    def told(self, source: ReportSource) -> list[str]:
        """How a run was asked, in words that stand beside its name."""
        shots = source.results.get("shots")
        similar = " similar" if source.results.get("template") == "similar" else ""
        return [] if shots is None else [f"{shots}-shot{similar}"]

    def by_dataset(self, source: ReportSource) -> Table | None:
        """A run's rows by dataset, as `Table.plain`."""
        return None

    def by_category(self, source: ReportSource) -> Table | None:
        """The same by category."""
        return None

    def further(self, sources: Sequence[ReportSource], *, paper: bool) -> list[Table]:
        """Tables of its own, about settings or readings of its answers, `paper`: beside published rows."""
        return []

    # What may be ranked with what

    def wording_of(self, source: ReportSource) -> str | None:
        """Whose words a run asked with; None where that is not known."""
        described = source.selection.get("wording") or source.results.get("wording")
        whose = described.get("whose") if isinstance(described, Mapping) else None
        return whose if isinstance(whose, str) else None

    def traits(self, source: ReportSource) -> Traits:
        """What a run's numbers depend on besides the model."""
        found, given = source.results, source.identity
        shots = found.get("shots")
        return {
            "data": given.get("data"),
            "wording": self.wording_of(source),
            "prompts": given.get("prompts"),
            "shots": None if shots is None else f"{shots}-shot",
            "template": f"{found['template']} templates" if shots and found.get("template") else None,
            "conversation": found.get("conversation", given.get("conversation")),
        }

    def column_traits(self, source: ReportSource) -> Mapping[str, Traits]:
        """Column → what it alone depends on."""
        return {}

    def published_traits(self, row: Row) -> Traits:
        """What is known of how a published row was asked."""
        return {}

    # Two runs

    def compare(self, first: ReportSource, second: ReportSource, *, samples: int, seed: int) -> Compared:
        """Two runs on the questions that both have answered, by draws of what `units` names."""
        pairs = [self.units(first), self.units(second)]
        common = sorted(pairs[0].keys() & pairs[1].keys())
        if not common:
            return Compared()
        order = [column for column, _ in self.columns]
        found = dict.fromkeys(name for key in common for name in pairs[0][key][2])
        columns = sorted(found, key=lambda name: order.index(name) if name in order else len(order))
        units = [[pair[key] for key in common] for pair in pairs]
        differences = ratio_differences(units, columns=columns, samples=samples, seed=seed, means=self.means(columns))
        return Compared(questions=len(common), differences=differences)

    def means(self, columns: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """Further columns of a comparison → those of `columns` that they are the mean of."""
        return {}

    def units(self, source: ReportSource) -> dict[str, Unit]:
        """Question → its unit, in words that are the same in every run."""
        return {}

    # The gallery

    def place(self, fields: Line) -> str:
        """What joins a line of the run with its line of `each`."""
        return fields["item"]

    def judge(self, record: Line, line: Line | None, text: str) -> Judged | None:
        """A line of the run.

        Args:
            record: the line.
            line: of `each`, None where there is none.
            text: the answer, without reasoning; "" where there is none.

        Returns:
            None of what the gallery does not show.
        """
        return None

    def read(self, record: Line) -> Reading | None:
        """How an answer to a question with options was read; None of another question."""
        return None

    def role(self, number: int, count: int) -> str:
        """What picture `number` of `count` is; the last one is asked about."""
        if count == 1:
            return "image"
        return "query" if number == count - 1 else "template"

    def boxes(self, record: Line, line: Line | None, roots: Sequence[Path]) -> Iterator[Boxes]:
        """Boxes on the picture that is asked about; `roots` are folders where masks may be."""
        yield from ()

    # What is no run

    def read_file(self, path: Path) -> ReportSource:
        """A file of answers, of a benchmark that has such files (`benchmarks.FROM_FILES`)."""
        raise NotImplementedError

    def read_table(self, path: Path) -> Row:
        """Somebody else's table of scores, of such a benchmark."""
        raise NotImplementedError


def given(manifest: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Those of these settings that a run's answers depend on."""
    return {name: manifest["identity"][name] for name in names if name in manifest["identity"]}


@cache
def _json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text("utf-8"))
