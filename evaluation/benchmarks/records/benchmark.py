"""One's own labelled records: what their lines hold."""

from __future__ import annotations

from adcopilot.tasks import TASKS

from ...benchmark import Benchmark
from ...line_checks import NAME, SIZE, TEXT, TEXTS, one_of

__all__ = ["BENCHMARK"]


class Records(Benchmark):
    name = "records"
    title = "Own records"
    line = {
        "meta.record": NAME,
        "meta.task": one_of(*TASKS),
        "meta.asked": TEXT,
        "meta.category": TEXT,
        "meta.images": TEXTS,
        "meta.mask": TEXT,
    }
    some = {("meta.task", "loc"): {"size": SIZE, "model_size": SIZE}}


BENCHMARK = Records()
