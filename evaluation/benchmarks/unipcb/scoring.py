"""UniPCB's columns, from answers to Table IV's row.

| column                | over                | what                                                    |
|-----------------------|---------------------|---------------------------------------------------------|
| Acc P2, P3            | choices             | percent right; unreadable is wrong                      |
| S-BERT P1, P2, P3     | open questions      | mean cosine × 100                                       |
| BERTScore P1, P2, P3  | open questions      | mean F1 × 100                                           |
| F1                    | questions for boxes | 200·TP / (2·TP + FP + FN), TP counted image by image    |
| LLM as Judge          | open questions      | mean of (grade − 1) / 9 × 100                           |
| Average               | the ten columns     | their plain mean, as in the published rows              |

Boxes are matched within their own image. (The benchmark's script pools all boxes first, so that a box of one image can
match one of another.) Pairs of the same class match at IoU 0.3 or more, the best pair first, each box once.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...bootstrap import interval, ratio_draws, strata_of
from .classes import plain_name
from .dataset import LEVELS

__all__ = ["COLUMNS", "IOU", "Matches", "Scored", "average", "intervals", "match_boxes", "parts", "summary"]

#: Table IV's columns, in its order.
COLUMNS = (
    "Acc P2",
    "Acc P3",
    *(f"S-BERT {level}" for level in LEVELS),
    *(f"BERTScore {level}" for level in LEVELS),
    "F1",
    "LLM as Judge",
)
#: Two boxes with at least this intersection over union are the same; the benchmark's own value.
IOU = 0.3


@dataclass(frozen=True, kw_only=True)
class Matches:
    """How predicted and reference boxes of one image met."""

    hits: int
    false: int
    missed: int

    def __add__(self, other: Matches) -> Matches:
        return Matches(hits=self.hits + other.hits, false=self.false + other.false, missed=self.missed + other.missed)

    @property
    def precision(self) -> float:
        """Percent; 100 where nothing was predicted and nothing is there."""
        found = self.hits + self.false
        return 100 * self.hits / found if found else 100.0 * (self.missed == 0)

    @property
    def recall(self) -> float:
        """Percent; 100 where nothing is there."""
        there = self.hits + self.missed
        return 100 * self.hits / there if there else 100.0

    @property
    def f1(self) -> float:
        """Percent; 100 where nothing was predicted and nothing is there."""
        total = 2 * self.hits + self.false + self.missed
        return 200 * self.hits / total if total else 100.0


def match_boxes(
    predicted: Sequence[Mapping[str, Any]],
    reference: Sequence[Mapping[str, Any]],
    *,
    iou: float = IOU,
    by_class: bool = True,
) -> Matches:
    """Match the boxes of one image: the pair with the highest IoU first, each box at most once.

    Args:
        predicted: with `bbox_2d` (x1, y1, x2, y2) and `label`.
        reference: the same, with `names`, the class's plain names (its label alone when absent).
        iou: the least that counts.
        by_class: whether only boxes of one class match. A prediction without a label then matches nothing.
    """
    if predicted and reference:
        overlap = _overlaps(predicted, reference)
        if by_class:
            names = [set(box.get("names") or [plain_name(box["label"])]) for box in reference]
            given = [plain_name(box["label"]) for box in predicted]
            overlap[~np.array([[label in group for group in names] for label in given])] = 0
        rows, columns = np.nonzero((overlap >= iou) & (overlap > 0))
        # Equal overlaps in the order of the answer, so that the result is the same everywhere.
        order = np.lexsort((columns, rows, -overlap[rows, columns]))
        used_rows: set[int] = set()
        used_columns: set[int] = set()
        for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
            if row not in used_rows and column not in used_columns:
                used_rows.add(row)
                used_columns.add(column)
        hits = len(used_rows)
    else:
        hits = 0
    return Matches(hits=hits, false=len(predicted) - hits, missed=len(reference) - hits)


def _overlaps(predicted: Sequence[Mapping[str, Any]], reference: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """IoU of each predicted with each reference box, (predicted, reference)."""
    one = np.array([box["bbox_2d"] for box in predicted], dtype=np.float64)[:, None]
    other = np.array([box["bbox_2d"] for box in reference], dtype=np.float64)[None]
    low, high = np.maximum(one[..., :2], other[..., :2]), np.minimum(one[..., 2:], other[..., 2:])
    common = np.clip(high - low, 0, None).prod(axis=-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(axis=-1) for boxes in (one, other)]
    return common / np.maximum(areas[0] + areas[1] - common, 1e-12)


@dataclass(kw_only=True)
class Scored:
    """One question with what came of it; which fields are set depends on its form.

    Attributes:
        meta: as in the item: `level`, `dataset`, `type`, `form`, `language`.
        right, right_strictly: a choice, read by the benchmark's rule and strictly.
        read: how the letter was read, of `Parsed.how`.
        matches, matches_any: boxes, matched by class and without.
        sbert, bertscore: 0 to 1.
        grade: the judge's, 1 to 10; None where there is none.
    """

    meta: Mapping[str, Any]
    right: bool = False
    right_strictly: bool = False
    read: str = ""
    matches: Matches | None = None
    matches_any: Matches | None = None
    sbert: float | None = None
    bertscore: float | None = None
    grade: float | None = None

    def line(self) -> dict[str, Any]:
        """What `parts` reads, of the forms that the question has."""
        line = {name: self.meta[name] for name in ("level", "dataset", "type", "form")}
        if self.matches is not None:
            return line | {"hits": self.matches.hits, "false": self.matches.false, "missed": self.matches.missed}
        if self.meta["form"] == "choice":
            return line | {"right": self.right, "read": self.read}
        return line | {"sbert": self.sbert, "bertscore": self.bertscore, "grade": self.grade}


def _values(rows: Sequence[Scored]) -> dict[str, Any]:
    """The measures that these questions allow, percent, with how many questions each is over."""
    found: dict[str, Any] = {}
    choices = [row for row in rows if row.meta["form"] == "choice"]
    boxes = [row for row in rows if row.matches is not None]
    if choices:
        found["accuracy"] = _mean(row.right for row in choices)
        found["accuracy_strict"] = _mean(row.right_strictly for row in choices)
        found["choices"] = len(choices)
    if boxes:
        found |= _box_values(boxes)
    for name in ("sbert", "bertscore"):
        known = [value for row in rows if (value := getattr(row, name)) is not None]
        if known:
            found[name] = _mean(known)
    opened = sum(row.meta["form"] == "open" for row in rows)
    if opened:
        found["open"] = opened
    grades = [row.grade for row in rows if row.grade is not None]
    if grades:
        found["judge"] = _mean((grade - 1) / 9 for grade in grades)
        found["judged"] = len(grades)
    return found


def summary(rows: Iterable[Scored]) -> dict[str, Any]:
    """Table IV's row and what is behind it.

    Returns:
        `columns`: of `COLUMNS`, percent, None where nothing was measured; `average` (None unless all ten are there);
        `intervals`: as `intervals` gives them;
        `by_level`, `by_type`, `by_dataset`, `by_language`: name → measures; `overall`; `read`: how letters were read
        → how many.
    """
    rows = list(rows)
    levels = _grouped(rows, "level")
    overall = _values(rows)
    columns: dict[str, float | None] = {}
    for title in COLUMNS:
        name, _, level = title.rpartition(" ")
        measure = {"Acc": "accuracy", "S-BERT": "sbert", "BERTScore": "bertscore"}.get(name)
        if measure:
            columns[title] = levels.get(level, {}).get(measure)
        else:
            columns[title] = overall.get({"F1": "f1", "LLM as Judge": "judge"}[title])
    return {
        "columns": columns,
        "average": average(columns),
        "intervals": intervals(rows),
        "overall": overall,
        "by_level": levels,
        "by_type": _grouped(rows, "type"),
        "by_dataset": _grouped(rows, "dataset"),
        "by_language": _grouped(rows, "language"),
        "read": dict(sorted(Counter(row.read for row in rows if row.read).items())),
    }


def intervals(rows: Sequence[Scored], *, samples: int = 1000) -> dict[str, list[float]]:
    """Column, and `average` where all ten are there → its 95 % interval, percent, over draws of the images.

    Images are drawn, within P1, P2 and P3 each: the questions about one image stand or fall together.
    """
    strata = strata_of(((row.meta["level"], row.meta.get("sample"), parts(row.line())) for row in rows), COLUMNS)
    if not strata:
        return {}
    draws = 100 * ratio_draws(strata, samples=samples)
    found = {title: interval(draws[:, index]) for index, title in enumerate(COLUMNS)}
    found["average"] = interval(draws.mean(axis=1))
    return {title: value for title, value in found.items() if value is not None}


def parts(line: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """What a question adds to the numerators and denominators of columns: from its line of scores."""
    level, found = line["level"], {}
    if "right" in line and f"Acc {level}" in COLUMNS:
        found[f"Acc {level}"] = (float(line["right"]), 1.0)
    if "hits" in line:
        doubled = 2.0 * line["hits"]
        found["F1"] = (doubled, doubled + line["false"] + line["missed"])
    for name, head in (("sbert", "S-BERT"), ("bertscore", "BERTScore")):
        if line.get(name) is not None:
            found[f"{head} {level}"] = (line[name], 1.0)
    if line.get("grade") is not None:
        found["LLM as Judge"] = ((line["grade"] - 1) / 9, 1.0)
    return found


def average(columns: Mapping[str, float | None]) -> float | None:
    """Mean of Table IV's ten columns; None while one of them is missing."""
    values = [columns.get(title) for title in COLUMNS]
    return None if None in values else sum(values) / len(values)


def _grouped(rows: Sequence[Scored], field_name: str) -> dict[str, dict[str, Any]]:
    groups: defaultdict[str, list[Scored]] = defaultdict(list)
    for row in rows:
        groups[row.meta[field_name]].append(row)
    return {name: _values(groups[name]) for name in sorted(groups)}


def _box_values(rows: Sequence[Scored]) -> dict[str, Any]:
    pooled = sum((row.matches for row in rows), Matches(hits=0, false=0, missed=0))
    any_class = sum((row.matches_any for row in rows), Matches(hits=0, false=0, missed=0))
    return {
        "f1": pooled.f1,
        "precision": pooled.precision,
        "recall": pooled.recall,
        "f1_any_class": any_class.f1,
        "f1_mean_over_images": sum(row.matches.f1 for row in rows) / len(rows),
        "box_questions": len(rows),
    }


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return 100 * sum(values) / len(values)
