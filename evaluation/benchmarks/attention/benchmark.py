"""Lines of `adcopilot eval attention`: MMAD's questions. Its measurements are no scores, so the report has none."""

from __future__ import annotations

from ...benchmark import Benchmark
from ..mmad.benchmark import LINE

__all__ = ["BENCHMARK"]


class Attention(Benchmark):
    name = "attention"
    title = "Attention to comparison tokens"
    line = LINE


BENCHMARK = Attention()
