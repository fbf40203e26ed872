"""UniPCB as the report shows it: the paper's Table IV."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from adcopilot.answering.families import FAMILIES, says_nothing_is_there
from adcopilot.errors import UserError

from ...benchmark import Benchmark, Boxes, Judged, Line, Reading, Scores, Traits
from ...bootstrap import Unit
from ...line_checks import BOXES, CHOICE, SIZE, TEXT, WHOLE, one_of
from ...run_folder import Answers
from ...running import RunShard
from ...source import ReportSource
from .answers import letter_answer
from .dataset import LEVELS
from .judge import grade_answers
from .results import iou_of, judge_backend, make_scorers, problem, read_boxes_of, results_of_records, show
from .scoring import COLUMNS, parts

__all__ = ["BENCHMARK"]

#: What of the judge's results is no setting of it.
_COUNTS = ("judged", "of", "unreadable", "refused", "failed", "stopped")


class UniPcb(Benchmark):
    name = "unipcb"
    version = 2
    answer_tokens = 768
    title = "UniPCB"
    line = {
        "meta.dataset": TEXT,
        "meta.level": one_of(*LEVELS),
        "meta.type": TEXT,
        "meta.form": one_of("choice", "boxes", "open"),
        "meta.language": TEXT,
        "meta.sample": WHOLE,
        "meta.turn": WHOLE,
        "meta.question": TEXT,
    }
    some = {
        ("meta.form", "choice"): {"options": CHOICE, "reference": TEXT},
        ("meta.form", "open"): {"reference": TEXT},
        ("meta.form", "boxes"): {
            "reference": BOXES,
            "family": one_of(*FAMILIES),
            "meta.size": SIZE,
            "meta.frame": SIZE,
            "model_size": SIZE,
        },
    }
    needed = ("columns", "average")
    each = "scores.jsonl"
    columns = (*((name, name) for name in COLUMNS), ("average", "Average"))
    main = "average"
    axes = COLUMNS
    note = "Percent, except that S-BERT and BERTScore depend on their models: see How the numbers were made."
    number = "IV"
    gains = (("Acc P2", "Acc P2"), ("Acc P3", "Acc P3"), ("F1", "F1"))
    unrankable = (
        "the paper's F1 pools the boxes of all images, its S-BERT, BERTScore and judge are not named, and its "
        "prompts are not AD-Copilot's"
    )
    settings = ("scorers", "judge", "iou", "missing")
    facts = ("sbert", "bertscore", "grade")

    def score(self, args: argparse.Namespace, manifest: Mapping[str, Any], answers: Answers) -> Scores:
        grader = judge_backend(args)
        # Of several processes the last one asks the judge: two would ask twice.
        early = args.score is None and RunShard.parse(args.shard).count > 1 and len(answers.records) < answers.asked
        return results_of_records(
            answers.records,
            scorers=make_scorers(args),
            grade=partial(grade_answers, backend=grader, folder=args.score or args.output)
            if grader and not early
            else None,
            iou=iou_of(args),
        )

    show = staticmethod(show)
    problem = staticmethod(problem)

    def values(self, results: Mapping[str, Any]) -> Mapping[str, float | None]:
        return {**results["columns"], "average": results["average"]}

    def traits(self, source: ReportSource) -> Traits:
        found, given = source.results, source.identity
        known = {**super().traits(source)}
        known |= {name: f"{name.replace('_', ' ')} {found[name]}" for name in ("image_size_order", "box_frame")
                  if name in found}  # fmt: skip
        if isinstance(given.get("conversation"), bool):
            known["conversation"] = "conversations" if given["conversation"] else "each question alone"
        return known

    def column_traits(self, source: ReportSource) -> Mapping[str, Traits]:
        found = source.results
        own: dict[str, Traits] = {"F1": {"iou": f"IoU {found['iou']:g}" if found.get("iou") else None}}
        scorers = found.get("scorers") or {}
        for name, head in (("sbert", "S-BERT"), ("bertscore", "BERTScore")):
            for level in LEVELS:
                own[f"{head} {level}"] = {"scorer": scorers.get(name)}
        judge = found.get("judge")
        settings = {name: value for name, value in judge.items() if name not in _COUNTS} if judge else None
        own["LLM as Judge"] = {"scorer": settings}
        own["average"] = {f"{column} {name}": value for column, one in own.items() for name, value in one.items()}
        return own

    def units(self, source: ReportSource) -> dict[str, Unit]:
        places = {record["item"]: record["meta"] for record in source.records}
        found: dict[str, Unit] = {}
        for line in source.each:
            meta = places.get(line["item"])
            if meta is not None:
                found[f"{meta['sample']}/{meta['turn']}"] = (meta["dataset"], str(meta["sample"]), parts(line))
        return found

    def judge(self, record: Line, line: Line | None, text: str) -> Judged:
        place, line = (record["meta"]["dataset"], record["meta"]["type"]), line or {}
        if "right" in line:
            return Judged(*place, None if line.get("read") == "none" else line["right"])
        if "hits" in line:
            stated = line["hits"] or line["false"] or says_nothing_is_there(text)
            return Judged(*place, not line["false"] and not line["missed"] if stated else None)
        return Judged(*place, judged=False)

    def read(self, record: Line) -> Reading | None:
        if not record["options"]:
            return None
        letter = letter_answer(record["reply"]["text"], record["options"]).letter or ""
        return Reading(letter=letter, facts=[("read as", letter or "nothing")])

    def role(self, number: int, count: int) -> str:
        return f"image {number + 1}" if count > 1 else "image"

    def boxes(self, record: Line, line: Line | None, roots: Sequence[Path]) -> Iterator[Boxes]:
        if record["meta"].get("form") != "boxes":
            return
        yield Boxes(record["reference"])
        try:
            yield Boxes(read_boxes_of(record), predicted=True)
        except (KeyError, UserError):
            return


BENCHMARK = UniPcb()
