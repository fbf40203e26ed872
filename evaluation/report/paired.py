"""How far two runs differ on the questions that both have answered: a paired bootstrap.

What is drawn, with replacement and within each dataset, is what the benchmark says: images, samples or pairs of them,
with all their questions and with both runs' answers to them, so what makes an image hard for both cancels out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..bootstrap import Difference
from ..comparable import differ
from ..source import Source

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two runs side by side.

    Attributes:
        first, second: names.
        benchmark: the name of both runs' benchmark.
        questions, differences, counts, unread: as `benchmark.Compared`.
        note: what differs in how the two were asked, or what could not be compared.
    """

    first: str
    second: str
    benchmark: str
    questions: int = 0
    differences: Sequence[Difference] = ()
    counts: tuple[int, int, int, int] | None = None
    unread: tuple[int, int] | None = None
    note: str = ""


def compare(first: Source, second: Source, *, samples: int, seed: int) -> Comparison:
    """Compare two runs of one benchmark.

    Args:
        first, second: the runs; what is shown is the second's gain over the first.
        samples: draws.
        seed: of the draws.
    """
    asked = first.benchmark
    names = {"first": first.name, "second": second.name, "benchmark": asked.name}
    data = first.identity.get("data"), second.identity.get("data")
    if None not in data and data[0] != data[1]:
        note = "The two were asked from different versions of the benchmark's files: nothing is known to be common."
        return Comparison(**names, note=note)
    found = asked.compare(first, second, samples=samples, seed=seed)
    if not found.questions:
        return Comparison(**names, note="No question has an answer of both.")
    others = differ(asked.traits(first), asked.traits(second))
    note = f"The second was asked otherwise, so a difference is not the model's alone: {others}." if others else ""
    return Comparison(**names, **found._asdict(), note=note)
