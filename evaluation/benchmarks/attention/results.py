"""From the lines of a run to Figure 6: attention to base and to comparison tokens, by task and by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from adcopilot.pages.charts import Point, Series, column_plot, line_plot

from ...bootstrap import interval, ratio_draws
from ...table import aligned, csv_text
from ..mmad.scoring import SUB_TASKS, sub_task, task_title

__all__ = ["QUERIES", "attention_csv", "plots", "results_of_records", "table_text"]

#: The two kinds of queries.
QUERIES = ("answer", "question")
#: The row of all questions.
ALL = "All questions"


def results_of_records(records: Sequence[Mapping[str, Any]], *, samples: int = 1000) -> dict[str, Any]:
    """Attention by task.

    For a question, *base* and *comparison* are the attention to the tokens of all images, summed over images and
    averaged over layers; its *share* is comparison / (base + comparison), and its *density* the same attention for
    each token: (comparison / comparison tokens) / (base / base tokens). A task's numbers are means over its questions.

    Args:
        records: lines with `attention`, as `probe.AttentionProbe` measures it.
        samples: draws of images for the intervals.

    Returns:
        `tasks`: MMAD's sub-tasks that were asked, and all questions together, → `questions`, `images`, and for each of
        `QUERIES` `base` and `comparison` (percent of all attention), `share` (percent) with its 95 % `interval`,
        `density` (a factor), `layers` (share by layer, percent), and `query_image`: the share of the comparison
        attention that goes to the last image's comparison tokens (percent). `layers`: how many there are.
    """
    tasks: dict[str, list[Mapping[str, Any]]] = {name: [] for name in (ALL, *SUB_TASKS)}
    for record in records:
        tasks[ALL].append(record)
        tasks.setdefault(sub_task(record["meta"]["type"]), []).append(record)
    return {
        "tasks": {name: _task(members, samples) for name, members in tasks.items() if members},
        "layers": len(records[0]["attention"]["answer"]["base"]),
        "truncated": sum(bool(record["reply"].get("truncated")) for record in records),
    }


def _task(records: Sequence[Mapping[str, Any]], samples: int) -> dict[str, Any]:
    images = sorted({record["meta"]["image"] for record in records})
    found: dict[str, Any] = {"questions": len(records), "images": len(images)}
    place = {name: index for index, name in enumerate(images)}
    for kind in QUERIES:
        rows = [_question(record["attention"], kind) for record in records]
        sums = np.zeros((len(images), 1, 2))
        for record, row in zip(records, rows, strict=True):
            sums[place[record["meta"]["image"]], 0] += (row["share"], 1)
        found[kind] = {
            **{name: float(np.mean([row[name] for row in rows])) for name in rows[0] if name != "layers"},
            "interval": interval(ratio_draws([sums], samples=samples)[:, 0]),
            "layers": np.mean([row["layers"] for row in rows], axis=0).tolist(),
        }
    return found


def _question(attention: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Base, comparison, share and the rest of one question, percent."""
    layers = {name: np.array(attention[kind][name]) for name in ("base", "comparison")}  # (layers, images)
    base, comparison = (layers[name].sum(1) for name in layers)
    tokens = {name: sum(attention["tokens"][name]) for name in layers}
    b, c = base.mean(), comparison.mean()
    return {
        "base": 100 * b,
        "comparison": 100 * c,
        "share": 100 * c / (b + c),
        "density": (c / tokens["comparison"]) / (b / tokens["base"]),
        "query_image": 100 * layers["comparison"][:, -1].mean() / c,
        "layers": 100 * comparison / (base + comparison),
    }


def plots(found: Mapping[str, Any]) -> dict[str, str]:
    """File name → SVG: shares by task, and by layer."""
    tasks = list(found["tasks"])
    titles = [task_title(task) for task in tasks]
    bars = [
        Series(
            name={"answer": "from the answer", "question": "from the question"}[kind],
            points=[
                Point(x=index, y=row[kind]["share"], low=ends[0], high=ends[1])
                for index, task in enumerate(tasks)
                for row in [found["tasks"][task]]
                for ends in [row[kind]["interval"] or (None, None)]
            ],
        )
        for kind in QUERIES
    ]
    lines = [
        Series(
            name=title,
            points=[
                Point(x=layer, y=share) for layer, share in enumerate(found["tasks"][task]["answer"]["layers"], 1)
            ],
        )
        for task, title in zip(tasks, titles, strict=True)
    ]
    of = "Share of comparison tokens in the attention to images, percent"
    return {
        "attention-tasks.svg": column_plot("Attention to comparison tokens by task", titles, bars, y_label=of),
        "attention-layers.svg": line_plot(
            "Attention to comparison tokens by layer, from the answer", lines, x_label="Layer", y_label=of
        ),
    }


def attention_csv(found: Mapping[str, Any]) -> str:
    """A row for each task and kind of query, with the shares by layer in columns of their own."""
    names = ("base", "comparison", "share", "density", "query_image")
    heads = ["task", "queries", "questions", "images", *names, "share 2.5%", "share 97.5%"]
    rows: list[list[Any]] = [[*heads, *(f"share layer {layer}" for layer in range(1, found["layers"] + 1))]]
    for task, row in found["tasks"].items():
        for kind in QUERIES:
            ends = row[kind]["interval"] or ("", "")
            values = [row[kind][name] for name in names]
            rows.append(
                [task_title(task), kind, row["questions"], row["images"], *values, *ends, *row[kind]["layers"]]
            )
    return csv_text(rows)


def table_text(found: Mapping[str, Any]) -> str:
    """The table for a terminal."""
    heads = ["questions", "base %", "comp. %", "share %", "95 % interval", "density", "question's"]
    cells = {}
    for task, row in found["tasks"].items():
        answer = row["answer"]
        ends = "-" if answer["interval"] is None else "{:.2f} to {:.2f}".format(*answer["interval"])
        numbers = [f"{answer[name]:.2f}" for name in ("base", "comparison", "share")]
        last = f"{answer['density']:.2f}", f"{row['question']['share']:.2f}"
        cells[task_title(task)] = [str(row["questions"]), *numbers, ends, *last]
    return "\n".join(aligned(heads, cells, width=14))
