"""MMAD-BBox as the report shows it: the paper's Table III."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from adcopilot.answering.families import says_nothing_is_there

from ...benchmark import RIGHT_IOU, Benchmark, Boxes, Judged, Line, Scores, Traits, given
from ...bootstrap import Unit
from ...box_scores import THRESHOLDS
from ...line_checks import BOOL, MASK, NAME, PLACE, SIZE, one_of
from ...map_options import choose_boxes, tables_by, told_of
from ...run_folder import Answers, family_of_run
from ...source import ReportSource
from ...table import Table
from .results import results_of_records, rule_of, show

__all__ = ["BENCHMARK"]


class MmadBbox(Benchmark):
    name = "mmad-bbox"
    version = 3
    title = "MMAD-BBox"
    line = {
        "meta.image": PLACE,
        "meta.dataset": NAME,
        "meta.category": NAME,
        "meta.normal": BOOL,
        "meta.role": one_of("boxes", "score"),
    }
    some = {("meta.role", "boxes"): {"size": SIZE, "model_size": SIZE, "mask?": MASK}}
    needed = ("overall", "datasets", "categories", "rule")
    each = "images.jsonl"
    columns = (("mean_iou", "mIoU"), *((str(one), f"ACC@{one}") for one in THRESHOLDS))
    main = "mean_iou"
    note = (
        "Percent, over all anomalous images. The rule by which masks become true boxes is not published; "
        "each run's is under How the numbers were made."
    )
    number = "III"
    gains = (("mean_iou", "mIoU"), ("0.5", "ACC@0.5"))
    unrankable = "the rule by which the paper's true boxes are made is not published"
    settings = ("rule", "boxes_made")
    facts = ("iou", "mask_iou", "anomaly_score")

    def score(self, args: argparse.Namespace, manifest: Mapping[str, Any], answers: Answers) -> Scores:
        asked = [record for record in answers.records if record["meta"]["role"] == "boxes"]
        found, images = results_of_records(
            answers.records, family=family_of_run(manifest), rule=rule_of(args), chosen=choose_boxes(args, asked)
        )
        return {**given(manifest, "shots", "template"), **found}, images

    show = staticmethod(show)

    def values(self, results: Mapping[str, Any]) -> Mapping[str, float | None]:
        return {"mean_iou": results["overall"]["mean_iou"], **results["overall"]["accuracy"]}

    def by_dataset(self, source: ReportSource) -> Table:
        found = source.results
        rows = {f"{name} defects": row for name, row in found.get("sizes", {}).items()}
        columns = [("images", "Images"), *self.columns, ("mask_mean_iou", "Mask mIoU"), ("empty", "No box")]
        return Table.plain(columns, _flat({**found["datasets"], **rows, "All images": found["overall"]}),
                           counts=("images",))  # fmt: skip

    def by_category(self, source: ReportSource) -> Table:
        return Table.plain(self.columns, _flat(source.results["categories"]))

    def traits(self, source: ReportSource) -> Traits:
        rule = source.results.get("rule")
        said = ", ".join(f"{name} {value}" for name, value in rule.items()) if isinstance(rule, Mapping) else rule
        return {**super().traits(source), "rule": f"true boxes by {said}" if rule else None}

    def told(self, source: ReportSource) -> list[str]:
        return [*super().told(source), *told_of(source)]

    def further(self, sources: Sequence[ReportSource], *, paper: bool) -> list[Table]:
        columns = [*self.columns, ("empty", "No box")]
        return tables_by(
            self,
            sources,
            columns=columns,
            values=lambda row: {"mean_iou": row["mean_iou"], **row["accuracy"], "empty": row["empty"]},
        )

    def units(self, source: ReportSource) -> dict[str, Unit]:
        return {
            image["image"]: (
                image["dataset"],
                image["image"],
                {"mIoU": (image["iou"], 1.0), **{f"ACC@{one}": (image["iou"] >= one, 1.0) for one in THRESHOLDS}},
            )
            for image in source.each
            if not image["normal"]
        }

    def place(self, fields: Line) -> str:
        return fields.get("meta", fields)["image"]

    def judge(self, record: Line, line: Line | None, text: str) -> Judged | None:
        meta = record["meta"]
        if meta["role"] != "boxes" or (line is None and text):
            return None
        right = None
        if line is not None and (line["predicted"] or says_nothing_is_there(text)):
            right = not line["predicted"] if meta["normal"] else line["iou"] >= RIGHT_IOU
        return Judged(meta["dataset"], "Boxes", right)

    def boxes(self, record: Line, line: Line | None, roots: Sequence[Path]) -> Iterator[Boxes]:
        if line is None:
            return
        labels = line.get("labels") or [""] * len(line["predicted"])
        yield Boxes([{"bbox_2d": box, "label": ""} for box in line["truth"]])
        predicted = zip(line["predicted"], labels, strict=True)
        yield Boxes([{"bbox_2d": box, "label": label} for box, label in predicted], predicted=True)


BENCHMARK = MmadBbox()


def _flat(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: {**row, **row["accuracy"]} for name, row in rows.items()}
