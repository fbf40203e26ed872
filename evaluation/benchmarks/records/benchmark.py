"""One's own labelled records as the report shows them: a column a task of `adcopilot.tasks`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from adcopilot.tasks import TASKS
from adcopilot.tasks.choice import CHOICE, strict_answer
from adcopilot.tasks.locate import LOCATE

from ...benchmark import RIGHT_IOU, Benchmark, Boxes, Judged, Line, Reading, Scores, Traits
from ...bootstrap import Unit
from ...line_checks import NAME, SIZE, TEXT, TEXTS, one_of
from ...map_options import choose_boxes, tables_by, told_of
from ...run_folder import Answers, family_of_run
from ...source import ReportSource
from ...table import Table
from .results import KINDS, cells, results_of_records, show

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
        "meta.boxes": ("a list of boxes", lambda value: isinstance(value, list)),
        "meta.mask": TEXT,
    }
    some = {
        **{("meta.task", name): {"reference": TEXT} for name in TASKS},
        ("meta.task", LOCATE.name): {"reference": TEXT, "size": SIZE, "model_size": SIZE},
    }
    needed = ("tasks", "verdicts", "average", "categories")
    each = "scores.jsonl"
    columns = (
        *((name, task.title.capitalize()) for name, task in TASKS.items()),
        ("balanced", "Balanced"),
        *((kind, kind.capitalize()) for kind in KINDS),
        ("auroc", "AUROC"),
        ("average", "Average"),
    )
    main = "average"
    note = (
        "Percent: shares of right answers, of boxes the mean BBox-Mask IoU. Balanced is the mean of the shares of "
        "right verdicts about defective and about normal parts; AUROC is of their first word's probability. The "
        "average is over the tasks that were asked."
    )
    gains = (("average", "average"), ("balanced", "balanced"))
    settings = ("boxes_made",)
    facts = ("score",)

    def score(self, args: argparse.Namespace, manifest: Mapping[str, Any], answers: Answers) -> Scores:
        root = args.data_root or Path(manifest["selection"]["data_root"])
        asked = [record for record in answers.records if record["meta"]["task"] == LOCATE.name]
        chosen = choose_boxes(args, asked)
        return results_of_records(answers.records, family=family_of_run(manifest), root=root, chosen=chosen)

    show = staticmethod(show)

    def values(self, results: Mapping[str, Any]) -> Mapping[str, float | None]:
        return {**results["columns"], **results["verdicts"], "auroc": results["auroc"], "average": results["average"]}

    def intervals(self, results: Mapping[str, Any]) -> Mapping[str, Sequence[float]]:
        tasks = {name: row["interval"] for name, row in results["tasks"].items() if row["interval"]}
        return {**tasks, **super().intervals(results)}

    def by_category(self, source: ReportSource) -> Table:
        rows = {
            name or "(none)": {task: row["score"] for task, row in tasks.items()}
            for name, tasks in source.results["categories"].items()
        }
        return Table.plain([one for one in self.columns if one[0] in TASKS], rows)

    def told(self, source: ReportSource) -> list[str]:
        return [*super().told(source), *told_of(source)]

    def further(self, sources: Sequence[ReportSource], *, paper: bool) -> list[Table]:
        columns = [(LOCATE.name, LOCATE.title.capitalize())]
        return tables_by(self, sources, columns=columns, values=lambda row: {LOCATE.name: row["score"]})

    def traits(self, source: ReportSource) -> Traits:
        hints = "hints of the map" if source.identity.get("hints") else None
        return {**super().traits(source), "tasks": f"tasks {', '.join(source.results['tasks'])}", "hints": hints}

    def units(self, source: ReportSource) -> dict[str, Unit]:
        asked = {record["item"] for record in source.records}
        return {
            line["item"]: (line["category"], line["image"], cells(line))
            for line in source.each
            if line["item"] in asked
        }

    def means(self, columns: Sequence[str]) -> Mapping[str, Sequence[str]]:
        return {"balanced": KINDS, "average": [name for name in TASKS if name in columns]}

    def judge(self, record: Line, line: Line | None, text: str) -> Judged:
        task = TASKS[record["meta"]["task"]]
        right = None
        if line is not None and line["stated"]:
            right = line["score"] >= (RIGHT_IOU if task is LOCATE else 1)
        return Judged(record["meta"]["category"] or "records", task.title.capitalize(), right, judged=line is not None)

    def read(self, record: Line) -> Reading | None:
        if record["meta"]["task"] != CHOICE.name or not record["options"]:
            return None
        letter = strict_answer(record["reply"]["text"], record["options"]).letter or ""
        return Reading(letter=letter, facts=[("read as", letter or "nothing")])

    def boxes(self, record: Line, line: Line | None, roots: Sequence[Path]) -> Iterator[Boxes]:
        if record["meta"]["task"] != LOCATE.name:
            return
        yield Boxes([{"bbox_2d": box, "label": ""} for box in record["meta"]["boxes"]])
        if line is not None:
            yield Boxes(line["boxes"], predicted=True)


BENCHMARK = Records()
