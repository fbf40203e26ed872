"""Counts of training records, in memory that does not grow with their number but for two digests of each."""

from __future__ import annotations

import hashlib
import json
import re
from array import array
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...pages.text import shorten
from ...records import IMAGE_PLACEHOLDER
from .cards import defects_of, source_of

__all__ = [
    "LABELS",
    "LETTERS",
    "NO_CATEGORY",
    "UNSAID",
    "Group",
    "Tally",
    "label_of",
    "task_of",
]

LETTERS = "ABCD"

#: Of a record that neither says so nor has a field for its defect.
UNSAID = "not said"
LABELS = ("normal", "anomalous", UNSAID)

#: Distinct names of one kind that are counted; the rest go together. Data decides how many there are.
MOST_NAMES = 5_000
MOST_GROUPS = 1_000

#: Of a record without a category.
NO_CATEGORY = "(none)"

_OTHERS = "(others)"
_FINAL = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
# "No defect." answers another question than one that is to be answered by yes or no.
_YES_NO = re.compile(r"\s*(yes|no)\s*(?:[.,;:!]|$)", re.IGNORECASE)
_OPTION = re.compile(r"^\s*\(?([A-H])[.):]\s", re.MULTILINE)
_LETTER = re.compile(r"\s*\(?([A-H])\)?\s*(?:[.:]|$)")


@dataclass(kw_only=True)
class Group:
    """The records of one dataset and task.

    Attributes:
        labels: of `LABELS`.
        yes_no: answers that begin with "Yes" or "No".
        letters: answers to questions with lettered options; letters beyond D count as "other".
        questions, answers: lengths in characters, of a conversation's turns one by one.
        images: records by their number of images.
        boxes: regions in the `boxes` fields.
    """

    labels: Counter[str] = field(default_factory=Counter)
    yes_no: Counter[str] = field(default_factory=Counter)
    letters: Counter[str] = field(default_factory=Counter)
    questions: Counter[int] = field(default_factory=Counter)
    answers: Counter[int] = field(default_factory=Counter)
    images: Counter[int] = field(default_factory=Counter)
    boxes: int = 0

    @property
    def records(self) -> int:
        """How many there are."""
        return self.labels.total()

    def __add__(self, other: Group) -> Group:
        names = ("labels", "yes_no", "letters", "questions", "answers", "images", "boxes")
        return Group(**{name: getattr(self, name) + getattr(other, name) for name in names})


class Tally:
    """Counts records as they come.

    Attributes:
        groups: (dataset, task) → its counts.
        categories: (source, category) → labels.
        defects: name → records with it.
    """

    def __init__(self) -> None:
        self.groups: dict[tuple[str, str], Group] = {}
        self.categories: dict[tuple[str, str], Counter[str]] = {}
        self.defects: Counter[str] = Counter()
        self._contents, self._queries = array("Q"), array("Q")
        self._datasets: list[tuple[str, int]] = []  # name, and the number of its first record

    def add(self, dataset: str, record: dict[str, Any]) -> tuple[str, str, str]:
        """Count a record that `records.check_record` has passed.

        Returns:
            Its dataset, task and label as they are counted.
        """
        if not self._datasets or self._datasets[-1][0] != dataset:
            self._datasets.append((dataset, self.records))
        label = label_of(record)
        key, group = _bounded(self.groups, (dataset, task_of(record)), (dataset, _OTHERS), Group, MOST_GROUPS)
        group.labels[label] += 1
        group.images[min(len(record.get("images", ())), 99)] += 1
        boxes = record.get("boxes")
        group.boxes += len(boxes) if isinstance(boxes, list) else 0
        self._count_texts(group, record["messages"])
        category = record.get("category")
        name = shorten(category) if isinstance(category, str) else ""
        pair = (source_of(record), name or NO_CATEGORY)
        _bounded(self.categories, pair, (_OTHERS, _OTHERS), Counter, MOST_NAMES)[1][label] += 1
        for defect in defects_of(record) or (["(not named)"] if label == "anomalous" else []):
            known = defect in self.defects or len(self.defects) < MOST_NAMES
            self.defects[defect if known else _OTHERS] += 1
        said = [(message["role"], message["content"]) for message in record["messages"]]
        content = json.dumps([said, record.get("images")]).encode()
        self._contents.append(_digest(content))
        if record.get("images"):
            self._queries.append(_digest(record["images"][-1].encode("utf-8", "surrogatepass")))
        return *key, label

    @property
    def records(self) -> int:
        """All of them."""
        return len(self._contents)

    def repeated(self) -> dict[str, int]:
        """Records whose messages and images a record before them has too, of any dataset, by dataset."""
        contents = np.frombuffer(self._contents, np.uint64) if self._contents else np.zeros(0, np.uint64)
        again = np.ones(len(contents), bool)
        again[np.unique(contents, return_index=True)[1]] = False
        ends = [start for _, start in self._datasets[1:]] + [len(contents)]
        found: dict[str, int] = {}
        for (name, start), end in zip(self._datasets, ends, strict=True):
            found[name] = found.get(name, 0) + int(again[start:end].sum())
        return found

    def queries(self) -> int:
        """Distinct images that records ask about (the last of each)."""
        return len(np.unique(np.frombuffer(self._queries, np.uint64))) if self._queries else 0

    def merged(self, *, by: int) -> dict[str, Group]:
        """The groups of each dataset (`by` 0) or task (`by` 1), most records first."""
        found: dict[str, Group] = {}
        for key, group in self.groups.items():
            found[key[by]] = found.get(key[by], Group()) + group
        return dict(sorted(found.items(), key=lambda item: (-item[1].records, item[0])))

    @staticmethod
    def _count_texts(group: Group, messages: list[dict[str, str]]) -> None:
        question = ""
        for message in messages:
            text = message["content"].replace(IMAGE_PLACEHOLDER, "").strip()
            if message["role"] == "user":
                question = text
                group.questions[_rounded(len(text))] += 1
            elif message["role"] == "assistant":
                group.answers[_rounded(len(text))] += 1
                final = _FINAL.search(text)
                answer = final[1] if final else text
                if word := _YES_NO.match(answer):
                    group.yes_no[word[1].capitalize()] += 1
                elif (letter := _LETTER.match(answer)) and letter[1] in _OPTION.findall(question):
                    group.letters[letter[1] if letter[1] in LETTERS else "other"] += 1


def label_of(record: dict[str, Any]) -> str:
    """One of `LABELS`."""
    said = record.get("anomalous")
    if isinstance(said, bool):
        return "anomalous" if said else "normal"
    if "defect" not in record:
        return UNSAID
    return "anomalous" if record["defect"] or record.get("boxes") else "normal"


def task_of(record: dict[str, Any]) -> str:
    """The record's task in one line."""
    task = record.get("task")
    return (shorten(task, 60) if isinstance(task, str) else "") or "(no task)"


def _bounded(
    found: dict, key: Hashable, otherwise: Hashable, make: Callable[[], Any], most: int
) -> tuple[Hashable, Any]:
    if key not in found and len(found) >= most:
        key = otherwise
    return key, found.setdefault(key, make())


def _rounded(length: int) -> int:
    """Three digits are enough of a length, and there are only so many numbers of three digits."""
    step = 10 ** max(0, len(str(length)) - 3)
    return length // step * step


def _digest(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")
