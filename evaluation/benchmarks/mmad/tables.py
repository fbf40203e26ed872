"""Tables about MMAD's runs that differ in a setting (the paper's Tables IX to XI), and about how answers were read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...comparable import asked_in, run_row, set_apart
from ...source import ReportSource
from ...table import Row, Table
from ...wording import MMAD

__all__ = ["reading_table", "setting_tables"]

_SHOTS = ("0", "1", "2", "4", "8")


def setting_tables(runs: Sequence[ReportSource], *, paper: bool) -> list[Table]:
    """Tables IX to XI, where runs have several numbers of templates, domain knowledge or none, or other choices of
    templates; `paper`: beside the paper's rows."""
    runs = [source for source in runs if source.results.get("shots") is not None]
    if not runs:
        return []
    mmad = runs[0].benchmark

    def rows(number: str) -> list[Row]:
        return mmad.published(number) if paper else []

    def shots(source: ReportSource) -> str:
        return str(source.results["shots"])

    tables = []
    if len(set(map(shots, runs))) > 1:
        own = _by_shots(runs)
        heads = [count for count in _SHOTS if count != "1" or any("1" in row.values for row, _ in own)]
        heads += sorted({shots(source) for source in runs} - set(_SHOTS), key=int)
        full = set_apart(mmad, own, rows("IX"), ignore=("shots", "prompts"))
        tables.append(Table(key="shots", title="Number of templates (Table IX)", rows=full,
                            columns=[(count, f"{count}-shot") for count in heads],
                            note="Average accuracy on MMAD, percent."))  # fmt: skip
    columns = [("average", "ACC"), ("f1", "F1")]
    for key, number, title, differ, say in (
        ("knowledge", "X", "Domain knowledge", _told, lambda one: "with" if _told(one) else "without"),
        ("template", "XI", "Choice of templates", lambda one: (shots(one), _similar(one) and shots(one) != "0"),
         lambda one: f"{shots(one)}-shot, {'similar' if _similar(one) else 'random'} template"
         if shots(one) != "0" else "0-shot"),
    ):  # fmt: skip
        # Table XI is about one template or none.
        compared = [source for source in runs if key != "template" or shots(source) in ("0", "1")]
        if len(set(map(differ, compared))) > 1:
            own = [(replace(run_row(source), name=f"{source.name}: {say(source)}"), source) for source in compared]
            # What these tables compare is no reason not to.
            full = set_apart(mmad, own, rows(number), ignore=("shots", "template", "knowledge", "prompts"))
            tables.append(
                Table(key=key, title=f"{title} (Table {number})", columns=columns, rows=full, note="On MMAD, percent.")
            )
    return tables


def _by_shots(runs: Sequence[ReportSource]) -> list[tuple[Row, ReportSource]]:
    """Table IX's rows, each with its first run: those of one model that differ in the number of templates alone share
    a row."""
    found: dict[tuple, tuple[str, dict[str, float | None], ReportSource]] = {}
    labels: set[str] = set()
    for source in runs:
        told = [words for words, there in (("similar template", _similar(source)), ("domain knowledge", _told(source)),
                                           ("part", bool(source.partial))) if there]  # fmt: skip
        same = {name: value for name, value in source.identity.items() if name not in ("shots", "data")}
        if source.benchmark.wording_of(source) == MMAD:
            same["prompts"] = MMAD  # which has words of its own for each number
        key, count = (str(source.selection.get("model", source.name)), repr(same), *told), str(source.results["shots"])
        if key in found and count in found[key][1]:
            key = (*key, source.name)  # asked twice: a row of its own
        if key not in found:
            label = ", ".join([_model(source), *told])
            if label in labels:
                label = f"{label} ({source.name})"
            labels.add(label)
            found[key] = (label, {}, source)
        found[key][1][count] = source.results["average"]["average"]
    return [
        (Row(name=name, source=", ".join(filter(None, ("these runs", asked_in(source)))), values=values,
             apart="part" in key[2:]), source)
        for key, (name, values, source) in found.items()
    ]  # fmt: skip


def _told(source: ReportSource) -> bool:
    return bool(source.identity.get("domain_knowledge"))


def _similar(source: ReportSource) -> bool:
    return source.results.get("template") == "similar"


def _model(source: ReportSource) -> str:
    model = source.selection.get("model")
    if not isinstance(model, str):
        return source.name
    return model.rstrip("/\\").replace("\\", "/").rpartition("/")[2] + ("†" if source.identity.get("thinking") else "")


def reading_table(sources: Sequence[ReportSource]) -> list[Table]:
    """How MMAD's answers were read: MMAD's rule, the strict one, and by probabilities of the options."""
    rows = []
    for source in sources:
        found = source.results
        rows.append(
            Row(
                name=source.name,
                source="",
                apart=True,
                values={
                    "official": found["average"]["average"],
                    "strict": _deep(found, "strict", "average", "average"),
                    "logprobs": _deep(found, "logprobs", "average", "average"),
                    "auroc": _deep(found, "discrimination", "average", "auroc"),
                    "questions": found["questions"],
                    "invalid": found.get("invalid"),
                    "nearest": _deep(found, "parsing", "official", "nearest") or 0 if "parsing" in found else None,
                    "truncated": found.get("truncated"),
                },
            )
        )
    columns = [("official", "MMAD's rule"), ("strict", "Strict rule"), ("logprobs", "By probabilities"),
               ("auroc", "AUROC"), ("questions", "Questions"), ("invalid", "Unreadable"), ("nearest", "Guessed"),
               ("truncated", "Cut off")]  # fmt: skip
    counts = ("questions", "invalid", "nearest", "truncated")
    note = (
        "Average accuracy by three readings of the same answers, percent. Guessed: no letter in the answer, so MMAD's "
        "rule takes the option with the most similar text. The strict rule counts those as wrong."
    )
    return [Table(key="reading", title="How answers were read", columns=columns, rows=rows, note=note, counts=counts)]


def _deep(value: Any, *names: str) -> Any:
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
