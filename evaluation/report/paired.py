"""How far two runs differ on the questions that both have answered: a paired bootstrap.

What is drawn, with replacement and within each dataset, are images (UniPCB: samples; captions: pairs of images), with
all their questions and with both runs' answers to them, so what makes an image hard for both cancels out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adcopilot.answering.choices import LETTERS, stated_answer

from ..box_scores import THRESHOLDS
from ..mmad.intervals import resampled
from ..mmad.results import answer_entries
from ..mmad.scoring import score
from .comparable import differ, traits
from .sources import Source

__all__ = ["Comparison", "Difference", "compare", "ratio_differences"]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One column: both runs' percent on the common questions, `second` − `first`, and its 95 % interval."""

    column: str
    first: float
    second: float
    low: float
    high: float

    @property
    def value(self) -> float:
        """Points by which the second run is better."""
        return self.second - self.first

    @property
    def clear(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two runs side by side.

    Attributes:
        first, second: names.
        benchmark: of both.
        questions: that both have answered.
        differences: by column.
        counts: questions that were answered right by both, only the first, only the second, neither; None where an
            answer is not right or wrong. An answer that states nothing is not right, whatever a rule guesses.
        unread: answers of the first and of the second that state nothing; None as `counts`.
        note: what differs in how the two were asked, or what could not be compared.
    """

    first: str
    second: str
    benchmark: str
    questions: int
    differences: Sequence[Difference]
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
    names = {"first": first.name, "second": second.name, "benchmark": first.benchmark}
    data = first.identity.get("data"), second.identity.get("data")
    if None not in data and data[0] != data[1]:
        note = "The two were asked from different versions of the benchmark's files: nothing is known to be common."
        return Comparison(**names, note=note, questions=0, differences=[])
    others = differ(traits(first), traits(second))
    if others:
        names["note"] = f"The second was asked otherwise, so a difference is not the model's alone: {others}."
    if first.benchmark == "mmad":
        return _compare_mmad(first, second, names, samples=samples, seed=seed)
    pairs = [_units(first), _units(second)]
    common = sorted(pairs[0].keys() & pairs[1].keys())
    if not common:
        return Comparison(**{**names, "note": _NONE}, questions=0, differences=[])
    columns = list(dict.fromkeys(name for key in common for name in pairs[0][key][2]))
    differences = ratio_differences(
        [[pair[key] for key in common] for pair in pairs], columns=columns, samples=samples, seed=seed
    )
    return Comparison(**names, questions=len(common), differences=differences)


_NONE = "No question has an answer of both."


def _compare_mmad(first: Source, second: Source, names: Mapping[str, str], *, samples: int, seed: int) -> Comparison:
    asked = [dict(_questions(source)) for source in (first, second)]
    common = [key for key in asked[0] if key in asked[1]]
    if not common:
        return Comparison(**{**names, "note": _NONE}, questions=0, differences=[])
    entries = [[answers[key] for key in common] for answers in asked]
    points = [score(part)["average"] for part in entries]
    drawn = [resampled(part, samples=samples, seed=seed) for part in entries]
    differences = []
    for column, value in points[0].items():
        if value is None or column not in drawn[0]:
            continue
        low, high = np.percentile(drawn[1][column] - drawn[0][column], (2.5, 97.5))
        differences.append(
            Difference(column=column, first=value, second=points[1][column], low=float(low), high=float(high))
        )
    right = [[one["gpt_answer"] == one["correct_answer"] and not one["unread"] for one in part] for part in entries]
    counts = Counter(zip(*right, strict=True))
    order = ((True, True), (True, False), (False, True), (False, False))
    return Comparison(
        **names,
        questions=len(common),
        differences=differences,
        counts=tuple(counts[one] for one in order),
        unread=tuple(sum(one["unread"] for one in part) for part in entries),
    )


def _questions(source: Source) -> Iterator[tuple[tuple, dict[str, Any]]]:
    """MMAD's questions: by image, type and words, numbered where these are the same."""
    if source.entries is not None:
        entries = [{**one, "unread": one["gpt_answer"] not in [*LETTERS]} for one in source.entries]
    else:
        entries = answer_entries(source.records, rule="official")[0]
        for entry, record in zip(entries, source.records, strict=True):
            entry["unread"] = stated_answer(record["reply"]["text"], record["options"]).letter is None
    seen: Counter = Counter()
    # In an order that does not depend on the order of answering.
    for entry in sorted(entries, key=lambda one: repr((one["image"], one["question_type"], one.get("question")))):
        question = entry.get("question")
        text = question.get("text") if isinstance(question, Mapping) else question
        key = (entry["image"], entry["question_type"], str(text), entry["correct_answer"])
        seen[key] += 1
        yield (*key, seen[key]), entry


#: (dataset, what is drawn, column → (numerator, denominator)) of a question.
_Unit = tuple[str, str, dict[str, tuple[float, float]]]


def _units(source: Source) -> dict[str, _Unit]:
    """Question → its unit, in words that are the same in every run."""
    if source.benchmark == "mmad-bbox":
        return {
            image["image"]: (
                image["dataset"],
                image["image"],
                {"mIoU": (image["iou"], 1.0), **{f"ACC@{one}": (image["iou"] >= one, 1.0) for one in THRESHOLDS}},
            )
            for image in source.each
            if not image["normal"]
        }
    places = {record["item"]: record for record in source.records}
    found: dict[str, _Unit] = {}
    for line in source.each:
        meta = places.get(line["item"], {}).get("meta")
        if meta is None:
            continue
        if source.benchmark == "caption":
            # (BLEU of a set is no mean of its captions' scores.)
            known = {name: (line[name] / 100, 1.0) for name in ("METEOR", "ROUGE-L", "CIDEr") if name in line}
            found[meta["name"]] = (meta["category"], meta["name"], known)
            continue
        cells: dict[str, tuple[float, float]] = {}
        if "right" in line and line["level"] in ("P2", "P3"):
            cells[f"Acc {line['level']}"] = (line["right"], 1.0)
        if "hits" in line:
            cells["F1"] = (2 * line["hits"], 2 * line["hits"] + line["false"] + line["missed"])
        for name, head in (("sbert", "S-BERT"), ("bertscore", "BERTScore")):
            if line.get(name) is not None:
                cells[f"{head} {line['level']}"] = (line[name], 1.0)
        if line.get("grade") is not None:
            cells["LLM as Judge"] = ((line["grade"] - 1) / 9, 1.0)
        found[f"{meta['sample']}/{meta['turn']}"] = (meta["dataset"], str(meta["sample"]), cells)
    return found


def ratio_differences(
    runs: Sequence[Sequence[_Unit]], *, columns: Sequence[str], samples: int, seed: int
) -> list[Difference]:
    """Differences of columns that are sums of numerators over sums of denominators, in percent.

    Args:
        runs: two lists of units, the same questions in the same order.
        columns: which; those that either run lacks are left out.
        samples, seed: of the draws.
    """
    tables: dict[str, dict[str, np.ndarray]] = {}
    for one, other in zip(*runs, strict=True):
        dataset, drawn, _ = one
        table = tables.setdefault(dataset, {}).setdefault(drawn, np.zeros((2, len(columns), 2)))
        for place, column in enumerate(columns):
            if column in one[2] and column in other[2]:
                table[:, place] += (one[2][column], other[2][column])
    dice = np.random.default_rng(seed)
    totals, plain = np.zeros((samples, 2, len(columns), 2)), np.zeros((2, len(columns), 2))
    for dataset in sorted(tables):
        # By name: the draw does not depend on the order of the answers.
        table = np.array([tables[dataset][name] for name in sorted(tables[dataset])])
        plain += table.sum(axis=0)
        drawn = dice.multinomial(len(table), np.full(len(table), 1 / len(table)), samples)
        totals += np.tensordot(drawn, table, axes=1)
    found = []
    for place, column in enumerate(columns):
        if not (plain[:, place, 1] > 0).all():
            continue
        # A draw that has no question of this column says nothing about it.
        known = totals[(totals[:, :, place, 1] > 0).all(axis=1)][:, :, place]
        values = 100 * known[..., 0] / known[..., 1]
        low, high = np.percentile(values[:, 1] - values[:, 0], (2.5, 97.5))
        first, second = (100 * plain[run, place, 0] / plain[run, place, 1] for run in (0, 1))
        found.append(
            Difference(column=column, first=float(first), second=float(second), low=float(low), high=float(high))
        )
    return found
