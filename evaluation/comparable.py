"""Which rows may be ranked with each other: those whose questions, words, settings and measures agree as far as known.

A row that may not stands in its table without rank, with the reason beside it. `compare_runs` sets two runs side by
side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from adcopilot.pages.text import shorten

from .benchmark import Benchmark, Compared, Traits
from .source import ReportSource
from .table import Row

__all__ = ["asked_in", "compare_runs", "differ", "run_row", "set_apart"]

#: How a setting is called where two rows differ in it.
_CALLED = {
    "data": "another version of the benchmark's files",
    "prompts": "other prompts",
    "scorer": "other scorers",
    "references": "other references",
}


def run_row(source: ReportSource) -> Row:
    """A run's row in its benchmark's table."""
    found = source.results
    answered = found.get("answered", found.get("questions"))
    words = ["this run" if source.path.is_dir() else "this answer file"]
    words.append(f"{answered:,} questions" if answered and not source.partial else "")
    words += [*source.benchmark.told(source), asked_in(source)]
    words.append(f"{source.unread:,} answers unread" if source.unread and not source.partial else "")
    words.append(f"only a part: {source.partial}" if source.partial else "")
    return Row(
        name=source.name,
        source=", ".join(filter(None, words)),
        values=source.benchmark.values(found),
        intervals=source.benchmark.intervals(found),
        apart=bool(source.partial),
    )


def asked_in(source: ReportSource) -> str:
    """Whose words, where that is known, and of which commit."""
    described = source.selection.get("wording") or source.results.get("wording")
    commit = described.get("commit") if isinstance(described, Mapping) else None
    whose = source.benchmark.wording_of(source) or ""
    return f"{whose} (commit {str(commit)[:12]})" if whose and commit else whose


def differ(one: Traits, other: Traits) -> str:
    """How `other` differs from `one`, in words; "" where all that is known agrees."""
    said = []
    for name in dict.fromkeys([*one, *other]):
        first, second = one.get(name), other.get(name)
        if first is None or second is None or first == second:
            continue
        if name == "prompts" and any(one.get(more) != other.get(more) for more in ("wording", "shots", "knowledge")):
            continue  # of other words, or for another number of templates, they differ anyway
        if name in _CALLED:
            said.append(_CALLED[name])
        elif isinstance(first, str) and isinstance(second, str):
            said.append(f"{shorten(second, 60)}, not {shorten(first, 60)}")
        else:
            said.append(f"another {name}")
    return "; ".join(said)


def set_apart(
    benchmark: Benchmark,
    own: Sequence[tuple[Row, ReportSource]],
    published: Sequence[Row] = (),
    *,
    ignore: Sequence[str] = (),
) -> list[Row]:
    """The rows of a table with those set apart that cannot be ranked with the others.

    Ranked are the runs that most others agree with, before all those that published rows agree with; a published row
    stands beside them where it agrees too.

    Args:
        benchmark: of the table.
        own: runs, the first ones first.
        published: rows of others.
        ignore: settings that the table is about.
    """

    def known(one: Traits) -> Traits:
        return {name: value for name, value in one.items() if name not in ignore}

    runs = [known(benchmark.traits(source)) for _, source in own]
    theirs = [(one, known(benchmark.published_traits(one))) for one in published]
    never = benchmark.unrankable
    whole = [place for place, (row, _) in enumerate(own) if not row.apart]

    def company(place: int) -> tuple[bool, int]:
        beside = not never and any(not row.apart and not differ(runs[place], one) for row, one in theirs)
        return beside, sum(not differ(runs[place], runs[other]) for other in whole)

    chosen = max(whole, key=company, default=None)
    rows = []
    for place, (row, source) in enumerate(own):
        if chosen is not None and not row.apart:
            why = differ(runs[chosen], runs[place])
            first = benchmark.column_traits(own[chosen][1])
            unlike = {
                column: reason
                for column, one in benchmark.column_traits(source).items()
                if (reason := differ(first.get(column, {}), one))
            }
            row = replace(row, apart=bool(why), why=why and f"not ranked: {why}", unlike=unlike)
        rows.append(row)
    for row, one in theirs:
        why = "" if chosen is None and not never else never or differ(runs[chosen], one)
        rows.append(replace(row, apart=row.apart or bool(why), why=why and f"not ranked: {why}"))
    return rows


def compare_runs(first: ReportSource, second: ReportSource, *, samples: int, seed: int) -> Compared:
    """How far two runs of one benchmark differ on the questions that both have answered: a paired bootstrap.

    What is drawn, with replacement and within each dataset, is what the benchmark says: images, samples or pairs of
    them, with all their questions and with both runs' answers to them, so what makes an image hard for both cancels
    out.

    Args:
        first, second: the runs; what is shown is the second's gain over the first.
        samples: draws.
        seed: of the draws.
    """
    asked = first.benchmark
    data = first.identity.get("data"), second.identity.get("data")
    if None not in data and data[0] != data[1]:
        found = Compared()
        note = "The two were asked from different versions of the benchmark's files: nothing is known to be common."
    else:
        found = asked.compare(first, second, samples=samples, seed=seed)
        others = differ(asked.traits(first), asked.traits(second))
        note = f"The second was asked otherwise, so a difference is not the model's alone: {others}." if others else ""
        note = note if found.questions else "No question has an answer of both."
    return replace(found, first=first.name, second=second.name, benchmark=asked.name, note=note)
