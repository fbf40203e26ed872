"""Attention by task of MMAD. Its measurements are no scores, so the report has no table of them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from adcopilot.errors import UserError

from ...benchmark import Benchmark, Scores, given
from ...run_folder import Answers
from ..mmad.benchmark import LINE
from .results import attention_csv, plots, results_of_records, table_text

__all__ = ["BENCHMARK"]


class Attention(Benchmark):
    name = "attention"
    answer_tokens = 128
    title = "Attention to comparison tokens"
    line = LINE

    def score(self, args: argparse.Namespace, manifest: Mapping[str, Any], answers: Answers) -> Scores:
        try:
            found = results_of_records(answers.records)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            raise UserError(
                f"{args.score or args.output}: a line has no attention as this command logs it "
                f"({type(error).__name__}: {error}); run it again"
            ) from error
        return {**given(manifest, "shots", "template"), **found}, []

    def files(self, found: Mapping[str, Any]) -> Mapping[str, str]:
        return {"attention.csv": attention_csv(found), **plots(found)}

    def show(self, found: Mapping[str, Any]) -> None:
        print(table_text(found))


BENCHMARK = Attention()
