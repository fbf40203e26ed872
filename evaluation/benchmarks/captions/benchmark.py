"""Captions of changes as the report shows them: the paper's Table V."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from ...benchmark import Benchmark, Judged, Line, Scores, Traits
from ...bootstrap import Unit
from ...line_checks import TEXT
from ...run_folder import Answers
from ...source import ReportSource
from .results import results_of_records, show
from .scorers import METRICS

__all__ = ["BENCHMARK"]


def _are_captions(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value) and any(map(str.strip, value))


class Captions(Benchmark):
    name = "caption"
    version = 2
    answer_tokens = 256
    title = "Captions of changes"
    line = {"meta.name": TEXT, "meta.category": TEXT, "reference": ("a list of captions", _are_captions)}
    needed = ("columns",)
    each = "scores.jsonl"
    columns = tuple((name, name) for name in METRICS)
    main = "CIDEr"
    note = "× 100. The paper's rows are of OmniDiff-Real, and say nothing about runs of other sets."
    number = "V"
    gains = (("METEOR", "METEOR"), ("CIDEr", "CIDEr"))
    unrankable = "the paper's set, OmniDiff-Real, is not published: no run can be shown to be of it"
    settings = ("scorer", "skipped")
    facts = ("METEOR", "ROUGE-L", "CIDEr")

    def score(self, args: argparse.Namespace, manifest: Mapping[str, Any], answers: Answers) -> Scores:
        found, each = results_of_records(answers.records, tokenizer=args.tokenizer)
        return {"layout": manifest["identity"].get("layout"), **found}, each

    show = staticmethod(show)

    def traits(self, source: ReportSource) -> Traits:
        found, given = source.results, source.identity
        known = {name: given.get(name, found.get(name)) for name in ("layout", "split", "references")}
        return {**super().traits(source), **known, "scorer": found.get("scorer"), "prompts": given.get("prompt")}

    def units(self, source: ReportSource) -> dict[str, Unit]:
        asked = {record["item"] for record in source.records}
        return {
            # BLEU of a set is no mean of its captions' scores.
            line["name"]: (line["category"], line["name"], {name: (line[name] / 100, 1.0) for name in self.facts
                                                            if name in line})
            for line in source.each
            if line["item"] in asked
        }  # fmt: skip

    def judge(self, record: Line, line: Line | None, text: str) -> Judged:
        return Judged(record["meta"]["category"] or "captions", "Caption", judged=False)

    def role(self, number: int, count: int) -> str:
        return ("before", "after")[number % 2]


BENCHMARK = Captions()
