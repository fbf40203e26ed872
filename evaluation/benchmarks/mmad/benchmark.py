"""MMAD as the report shows it: the paper's Table II, and Tables IX to XI where runs differ in their setting."""

from __future__ import annotations

import argparse
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adcopilot.errors import UserError
from adcopilot.files import read_csv
from adcopilot.images import image_size
from adcopilot.jsonl import content_key, file_digest
from adcopilot.pages.text import shorten
from adcopilot.tasks.choice import strict_answer

from ...benchmark import Benchmark, Boxes, Compared, Judged, Line, Reading, Scores, Traits, given
from ...bootstrap import Difference
from ...box_scores import BoxRule, read_truth_mask
from ...line_checks import BOOL, CHOICE, NAME, PLACE, TEXT
from ...run_folder import Answers
from ...source import ReportSource
from ...table import Row, Table
from ...wording import MMAD, OWN
from .answer_file import distinct, read_answer_file
from .choices import LETTERS, official_answer, stated_answer
from .dataset import mask_places
from .intervals import resampled
from .prompts import PROMPTS
from .results import answer_entries, results_of_entries, results_of_records, show
from .scoring import SUB_TASKS, average_rows, score, sub_task, task_title
from .tables import reading_table, setting_tables

__all__ = ["BENCHMARK", "LINE"]

#: What a line must hold that asks one of MMAD's questions.
LINE = {
    "options": CHOICE,
    "reference": TEXT,
    "meta.image": PLACE,
    "meta.dataset": NAME,
    "meta.category": NAME,
    "meta.normal": BOOL,
    "meta.type": NAME,
    "meta.question": TEXT,
}
_KNOWLEDGE = ("no domain knowledge", "domain knowledge")
#: The benchmark's own setting, which the published tables have.
_TABLE_II = {"shots": "1-shot", "template": "random templates", "knowledge": _KNOWLEDGE[0]}
#: Of an answer file, its number of templates and the model.
_FILE = re.compile(r"answers_(\d+)_shot_(.*)", re.DOTALL)


class Mmad(Benchmark):
    name = "mmad"
    version = 2
    answer_tokens = 128
    title = "MMAD"
    line = LINE
    needed = ("datasets", "average", "categories", "questions")
    columns = (*((task, task_title(task)) for task in SUB_TASKS), ("average", "Average"), ("f1", "F1"))
    main = "average"
    axes = SUB_TASKS
    axes_called = "By sub-task"
    note = (
        "Percent. A dataset's average is the mean of its sub-tasks, a row the mean over datasets, as MMAD has it. "
        "† thinks before it answers; * trained with MMAD's data, so not compared. F1 is of anomaly discrimination. "
        "Published rows were asked in MMAD's wording, of one random template unless they say otherwise."
    )
    number = "II"
    ablations = (("VI", "rewards"), ("VII", "encoder and stages"))
    gains = (("average", "average"), ("f1", "f1"))
    questions = 39_672

    def score(self, args: argparse.Namespace, manifest: Mapping[str, Any], answers: Answers) -> Scores:
        asked = {**given(manifest, "shots", "template"), "conversation": "alone", **given(manifest, "conversation")}
        told = {name: bool(value) for name, value in given(manifest, "domain_knowledge").items()}
        return {**asked, **told, **results_of_records(answers.records)}, []

    show = staticmethod(show)

    def values(self, results: Mapping[str, Any]) -> Mapping[str, float | None]:
        return results["average"]

    def told(self, source: ReportSource) -> list[str]:
        return [*super().told(source), *(["domain knowledge"] if source.identity.get("domain_knowledge") else [])]

    def by_dataset(self, source: ReportSource) -> Table:
        rows = {**source.results["datasets"], "Mean of the datasets": source.results["average"]}
        columns = [*self.columns[:-1], ("precision", "Precision"), ("recall", "Recall"), ("f1", "F1")]
        return Table.plain(columns, rows)

    def by_category(self, source: ReportSource) -> Table:
        return Table.plain(self.columns, source.results["categories"])

    def further(self, sources: Sequence[ReportSource], *, paper: bool) -> list[Table]:
        return [*setting_tables(sources, paper=paper), *reading_table(sources)]

    # What may be ranked with what

    def wording_of(self, source: ReportSource) -> str | None:
        # Runs of earlier versions know the hash of their words alone.
        known = source.identity.get("prompts")
        if (said := super().wording_of(source)) is not None or known is None:
            return said
        return OWN if known == content_key(PROMPTS) else "wording of --prompts"

    def traits(self, source: ReportSource) -> Traits:
        known = super().traits(source)
        if "answer_file" in source.identity:
            return {**known, **_named(source.path.name)}
        return {**known, "knowledge": _KNOWLEDGE[bool(source.identity.get("domain_knowledge"))]}

    def published_traits(self, row: Row) -> Traits:
        return {"wording": MMAD, **(_named(row.source) or _TABLE_II)}

    # Two runs

    def compare(self, first: ReportSource, second: ReportSource, *, samples: int, seed: int) -> Compared:
        """By `intervals.resampled`: a mean of means over datasets is no ratio of sums."""
        asked = [dict(_questions(source)) for source in (first, second)]
        common = [key for key in asked[0] if key in asked[1]]
        if not common:
            return Compared()
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
        right = [
            [one["gpt_answer"] == one["correct_answer"] and not one["unread"] for one in part] for part in entries
        ]
        counts = Counter(zip(*right, strict=True))
        order = ((True, True), (True, False), (False, True), (False, False))
        return Compared(
            questions=len(common),
            differences=differences,
            counts=tuple(counts[one] for one in order),
            unread=tuple(sum(one["unread"] for one in part) for part in entries),
        )

    # The gallery

    def judge(self, record: Line, line: Line | None, text: str) -> Judged:
        read = stated_answer(text, record["options"]).letter
        right = None if read is None else read == record["reference"]
        return Judged(record["meta"]["dataset"], task_title(sub_task(record["meta"]["type"])), right)

    def read(self, record: Line) -> Reading:
        text, options = record["reply"]["text"], record["options"]
        official, strict = official_answer(text, options), strict_answer(text, options)
        found = Reading(letter=stated_answer(text, options).letter or "", rule="MMAD's rule")
        found.guessed = (official.letter or "") if official.letter != (found.letter or None) else ""
        if found.guessed:
            how = "the option with the most similar text" if official.how == "nearest" else "a letter in it"
            counts = "right" if found.guessed == record["reference"] else "wrong"
            found.notes.append(f"MMAD's rule takes {found.guessed}, {how}, and counts it as {counts}")
        read = f"{official.letter or 'nothing'} ({official.how}), by the strict rule {strict.letter or 'nothing'}"
        found.facts.append(("read as", read))
        return found

    def boxes(self, record: Line, line: Line | None, roots: Sequence[Path]) -> Iterator[Boxes]:
        boxes = _mask_boxes(record, roots) if record["meta"].get("mask") else None
        if boxes is not None:
            yield Boxes([{"bbox_2d": box, "label": ""} for box in boxes])

    # What is no run

    def read_file(self, path: Path) -> ReportSource:
        """MMAD's answer file.

        Raises:
            UserError: it is none; it names the entry.
        """
        entries, twice = distinct(read_answer_file(path))
        results = results_of_entries(entries)
        results["unread"] |= twice
        found = _FILE.fullmatch(path.stem)
        if found:
            results["shots"] = int(found[1])
        return ReportSource(
            name=(found and found[2]) or path.stem,
            path=path,
            benchmark=self,
            results=results,
            identity={"benchmark": self.name, "answer_file": file_digest(path)},
            entries=entries,
        )

    def read_table(self, path: Path) -> Row:
        """The mean over datasets of a table that MMAD's summary script wrote: a row a dataset, a column a sub-task.

        Raises:
            UserError: it cannot be read or is no such table; it names the cell.
        """
        lines = read_csv(path, expected="MMAD's *_accuracy.csv")
        heads = lines[0] if lines else []
        names = {**{task: task for task in SUB_TASKS}, "Average": "average", "Precision": "precision"}
        names |= {"Recall": "recall", "F1": "f1"}
        absent = [head for head in (*SUB_TASKS, "Average") if head not in heads]
        if absent:
            raise UserError(f"{path}: has no column {absent[0]!r}, expected MMAD's *_accuracy.csv")
        rows = []
        for line in lines[1:]:
            if not line or line[0].strip().lower() == "average":
                continue
            rows.append({names[head]: _number(path, line, heads, head) for head in names if head in heads})
        if not rows:
            raise UserError(f"{path}: has no dataset's row, expected MMAD's *_accuracy.csv")
        name = re.sub(r"^answers_(\d+)_shot_|_accuracy$", "", path.stem)
        return Row(name=shorten(name, 60), source=shorten(path.name, 80), values=average_rows(rows), own=False)


BENCHMARK = Mmad()


def _named(name: str) -> dict[str, Any]:
    """What the name of an answer file, or of its table, says of how it was made; nothing if it is none of MMAD's."""
    found = _FILE.match(name)
    if not found:
        return {}
    return {
        "shots": f"{int(found[1])}-shot",
        "template": f"{'similar' if '_Similar_template' in name else 'random'} templates" if int(found[1]) else None,
        "knowledge": _KNOWLEDGE["_Domain_knowledge" in name],
    }


def _questions(source: ReportSource) -> Iterator[tuple[tuple, dict[str, Any]]]:
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


def _mask_boxes(record: Mapping[str, Any], roots: Sequence[Path]) -> list[list[int]] | None:
    """A box around each region of the image's mask; None where no mask is there that fits the image."""
    image, name = record["meta"]["image"], record["meta"]["mask"]
    for root in roots:
        inside = root.resolve()
        for path in mask_places(root, image, name):
            if path.exists() and path.resolve().is_relative_to(inside):
                try:
                    return BoxRule().boxes(read_truth_mask(path, size=image_size(root / image)))
                except UserError:
                    return None
    return None


def _number(path: Path, line: list[str], heads: list[str], head: str) -> float:
    place = heads.index(head)
    text = line[place] if place < len(line) else ""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 100:
        raise UserError(f"{path}: {shorten(line[0], 40)}, {head} is {text[:40]!r}, expected a number from 0 to 100")
    return value
