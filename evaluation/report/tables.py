"""The report's tables, in the shapes of the paper's: columns, and rows of runs and of published numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..box_scores import THRESHOLDS
from ..captions.scorers import METRICS
from ..mmad.scoring import SUB_TASKS
from ..unipcb.scoring import COLUMNS as UNIPCB
from ..wording import MMAD
from .comparable import marked, wording_of
from .sources import Published, Source, paper_table

__all__ = [
    "TITLES",
    "Row",
    "Table",
    "columns_of",
    "dataset_tables",
    "heat_maps",
    "main_tables",
    "reading_table",
    "run_row",
    "setting_tables",
    "values_of",
]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of a table.

    Attributes:
        name: of the model or setting.
        source: where its numbers are from, as a reader should know it.
        values: column → percent (or a count); None is shown as a dash.
        own: one of the runs, not a published row.
        intervals: column → 95 % interval.
        apart: not ranked with the others: parts of a benchmark, other settings, people, models trained on it.
        why: the reason where `comparable` found one, to stand beside the row.
        unlike: column → why its number is not ranked, though the row is.
        plot: drawn in the plots.
        labels: heading → text, of a table with `labels`.
    """

    name: str
    source: str
    values: Mapping[str, float | None]
    own: bool = True
    intervals: Mapping[str, Sequence[float]] = field(default_factory=dict)
    apart: bool = False
    why: str = ""
    unlike: Mapping[str, str] = field(default_factory=dict)
    plot: bool = True
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of the report.

    Attributes:
        key: short, for anchors and names of files.
        title: its heading.
        columns: (key in `Row.values`, head) from left to right.
        rows: runs first.
        main: the column that the bars show, "" for none.
        axes: columns of the radar plot; none for no plot.
        note: what a reader has to know.
        counts: columns of whole numbers, where more is not better.
        labels: headings of columns of text, before the numbers.
        differences: columns of differences to the first row, shown with their sign and interval.
    """

    key: str
    title: str
    columns: Sequence[tuple[str, str]]
    rows: Sequence[Row]
    main: str = ""
    axes: Sequence[str] = ()
    note: str = ""
    counts: Sequence[str] = ()
    labels: Sequence[str] = ()
    differences: Sequence[str] = ()

    def best(self, column: str) -> float | None:
        """The highest value of a column, to two decimals, None where fewer than two rows can be compared."""
        values = [row.values.get(column) for row in self.rows if not row.apart and column not in row.unlike]
        known = [round(value, 2) for value in values if value is not None]
        return None if column in (*self.counts, *self.differences) or len(known) < 2 else max(known)

    def is_best(self, row: Row, column: str) -> bool:
        """Whether a row has the highest value of a column."""
        value = row.values.get(column)
        ranked = value is not None and not row.apart and column not in row.unlike
        return ranked and round(value, 2) == self.best(column)

    def shows_interval(self, column: str) -> bool:
        """Whether a column's interval stands beside its number; a CSV file has them all."""
        return column in (self.main, "f1", *self.differences)


#: The columns of a benchmark's table, (key in a run's values, head).
_MMAD = (*((task, task.replace("Detection", "Discrimination")) for task in SUB_TASKS), ("average", "Average"),
         ("f1", "F1"))  # fmt: skip
_BBOX = (("mean_iou", "mIoU"), *((str(one), f"ACC@{one}") for one in THRESHOLDS))
_SHOTS = ("0", "1", "2", "4", "8")


def values_of(source: Source) -> dict[str, float | None]:
    """A run's numbers by the columns of its benchmark's table."""
    found = source.results
    if source.benchmark == "mmad":
        return found["average"]
    if source.benchmark == "mmad-bbox":
        return _boxes(found)
    return {**found["columns"], "average": found["average"]} if source.benchmark == "unipcb" else found["columns"]


def columns_of(benchmark: str) -> tuple[list[tuple[str, str]], str]:
    """The columns of a benchmark's table, and the main one."""
    return {
        "mmad": (list(_MMAD), "average"),
        "mmad-bbox": (list(_BBOX), "mean_iou"),
        "unipcb": ([*((name, name) for name in UNIPCB), ("average", "Average")], "average"),
        "caption": ([(name, name) for name in METRICS], "CIDEr"),
    }[benchmark]


def main_tables(sources: Sequence[Source], *, paper: bool, others: Sequence[Published]) -> list[Table]:
    """Tables II to V, of those benchmarks that there are runs of.

    Args:
        sources: the runs.
        paper: whether the paper's rows are shown.
        others: published rows of MMAD from elsewhere.
    """
    found = []
    for benchmark, number, axes in (
        ("mmad", "II", SUB_TASKS), ("mmad-bbox", "III", ()), ("unipcb", "IV", UNIPCB), ("caption", "V", ()),
    ):  # fmt: skip
        runs = [source for source in sources if source.benchmark == benchmark]
        if not runs:
            continue
        columns, main = columns_of(benchmark)
        published = list(others) if benchmark == "mmad" else []
        published += paper_table(number) if paper else []
        rows = marked(
            benchmark, [(run_row(source), source) for source in runs], [(_published(row), row) for row in published]
        )
        found.append(
            Table(
                key=benchmark,
                title=f"{TITLES[benchmark]} (Table {number})",
                columns=columns,
                rows=rows,
                main=main,
                axes=axes,
                note=_NOTES[benchmark],
            )
        )
    return found


TITLES = {"mmad": "MMAD", "mmad-bbox": "MMAD-BBox", "unipcb": "UniPCB", "caption": "Captions of changes"}
_NOTES = {
    "mmad": "Percent. A dataset's average is the mean of its sub-tasks, a row the mean over datasets, as MMAD has it. "
    "† thinks before it answers; * trained with MMAD's data, so not compared. F1 is of anomaly discrimination. "
    "Published rows were asked in MMAD's wording, of one random template unless they say otherwise.",
    "mmad-bbox": "Percent, over all anomalous images. The rule by which masks become true boxes is not published; "
    "each run's is under How the numbers were made.",
    "unipcb": "Percent, except that S-BERT and BERTScore depend on their models: see How the numbers were made.",
    "caption": "× 100. The paper's rows are of OmniDiff-Real, and say nothing about runs of other sets.",
}


def _boxes(results: Mapping[str, Any]) -> dict[str, float | None]:
    return {"mean_iou": results["overall"]["mean_iou"], **results["overall"]["accuracy"]}


def _published(row: Published) -> Row:
    return Row(
        name=row.name, source=row.source, values=row.values, own=False, apart=row.human or row.trained, plot=row.plot
    )


def run_row(source: Source) -> Row:
    """A run's row in its benchmark's table."""
    answered = source.results.get("answered", source.results.get("questions"))
    words = ["this run" if source.path.is_dir() else "this answer file"]
    words.append(f"{answered:,} questions" if answered and not source.partial else "")
    if source.results.get("shots") is not None:
        words.append(f"{source.results['shots']}-shot{' similar' if _similar(source) else ''}")
    words.append("domain knowledge" if source.identity.get("domain_knowledge") else "")
    words.append(_asked_in(source))
    words.append(f"{source.unread:,} answers unread" if source.unread and not source.partial else "")
    words.append(f"only a part: {source.partial}" if source.partial else "")
    return Row(
        name=source.name,
        source=", ".join(filter(None, words)),
        values=values_of(source),
        intervals=_intervals(source),
        apart=bool(source.partial),
    )


def _asked_in(source: Source) -> str:
    """Whose words, where that is known, and of which commit."""
    described = source.selection.get("wording") or source.results.get("wording")
    commit = described.get("commit") if isinstance(described, Mapping) else None
    whose = wording_of(source) or ""
    return f"{whose} (commit {str(commit)[:12]})" if whose and commit else whose


def _intervals(source: Source) -> Mapping[str, Sequence[float]]:
    return source.results.get("interval") or source.results.get("intervals") or {}


def setting_tables(sources: Sequence[Source], *, paper: bool) -> list[Table]:
    """Tables IX to XI, where MMAD was run with several numbers of templates, with domain knowledge, or with other
    choices of templates."""
    runs = [source for source in sources if source.benchmark == "mmad" and source.results.get("shots") is not None]

    def rows(number: str) -> list[tuple[Row, Published]]:
        return [(_published(row), row) for row in paper_table(number)] if paper else []

    def shots(source: Source) -> str:
        return str(source.results["shots"])

    tables = []
    if len(set(map(shots, runs))) > 1:
        own = _by_shots(runs)
        heads = [count for count in _SHOTS if count != "1" or any("1" in row.values for row, _ in own)]
        heads += sorted({shots(source) for source in runs} - set(_SHOTS), key=int)
        full = marked("mmad", own, rows("IX"), ignore=("shots", "prompts"))
        tables.append(Table(key="shots", title="Number of templates (Table IX)", rows=full,
                            columns=[(count, f"{count}-shot") for count in heads],
                            note="Average accuracy on MMAD, percent."))  # fmt: skip
    columns = [("average", "ACC"), ("f1", "F1")]
    for key, number, title, differ, say in (
        ("knowledge", "X", "Domain knowledge", _told, lambda one: "with" if _told(one) else "without"),
        ("template", "XI", "Choice of templates", lambda one: (shots(one), _similar(one) and shots(one) != "0"),
         lambda one: f"{shots(one)}-shot, {'similar' if _similar(one) else 'random'} template"
         if shots(one) != "0" else "0-shot"),
    ):  # fmt: skip
        # Table XI is about one template or none.
        compared = [source for source in runs if key != "template" or shots(source) in ("0", "1")]
        if len(set(map(differ, compared))) > 1:
            own = [
                Row(name=f"{source.name}: {say(source)}", source=run_row(source).source,
                    values=source.results["average"], intervals=_intervals(source),
                    apart=bool(source.partial))
                for source in compared
            ]  # fmt: skip
            # What these tables compare is no reason not to.
            ignore = ("shots", "template", "knowledge", "prompts")
            full = marked("mmad", list(zip(own, compared, strict=True)), rows(number), ignore=ignore)
            tables.append(
                Table(key=key, title=f"{title} (Table {number})", columns=columns, rows=full, note="On MMAD, percent.")
            )
    return tables


def _by_shots(runs: Sequence[Source]) -> list[tuple[Row, Source]]:
    """Table IX's rows, each with its first run: those of one model that differ in the number of templates alone share
    a row."""
    found: dict[tuple, tuple[str, dict[str, float | None], Source]] = {}
    labels: set[str] = set()
    for source in runs:
        told = [words for words, there in (("similar template", _similar(source)), ("domain knowledge", _told(source)),
                                           ("part", bool(source.partial))) if there]  # fmt: skip
        same = {name: value for name, value in source.identity.items() if name not in ("shots", "data")}
        if wording_of(source) == MMAD:
            same["prompts"] = MMAD  # which has words of its own for each number
        key, count = (str(source.selection.get("model", source.name)), repr(same), *told), str(source.results["shots"])
        if key in found and count in found[key][1]:
            key = (*key, source.name)  # asked twice: a row of its own
        if key not in found:
            label = ", ".join([_model(source), *told])
            if label in labels:
                label = f"{label} ({source.name})"
            labels.add(label)
            found[key] = (label, {}, source)
        found[key][1][count] = source.results["average"]["average"]
    return [
        (Row(name=name, source=_rows_source(source), values=values, apart="part" in key[2:]), source)
        for key, (name, values, source) in found.items()
    ]


def _rows_source(source: Source) -> str:
    return ", ".join(filter(None, ("these runs", _asked_in(source))))


def _told(source: Source) -> bool:
    return bool(source.identity.get("domain_knowledge"))


def _similar(source: Source) -> bool:
    return source.results.get("template") == "similar"


def _model(source: Source) -> str:
    model = source.selection.get("model")
    if not isinstance(model, str):
        return source.name
    return model.rstrip("/\\").replace("\\", "/").rpartition("/")[2] + ("†" if source.identity.get("thinking") else "")


def dataset_tables(sources: Sequence[Source]) -> list[Table]:
    """Each run's rows by dataset, of MMAD and MMAD-BBox."""
    tables = []
    for number, source in enumerate(sources, 1):
        found = source.results
        if source.benchmark == "mmad":
            columns = [*_MMAD[:-1], ("precision", "Precision"), ("recall", "Recall"), ("f1", "F1")]
            rows = {**found["datasets"], "Mean of the datasets": found["average"]}
        elif source.benchmark == "mmad-bbox":
            columns = [("images", "Images"), *_BBOX, ("mask_mean_iou", "Mask mIoU"), ("empty", "No box")]
            rows = {f"{name} defects": row for name, row in found.get("sizes", {}).items()}
            rows = {**found["datasets"], **rows, "All images": found["overall"]}
            rows = {name: {**row, **row["accuracy"]} for name, row in rows.items()}
        else:
            continue
        tables.append(
            Table(
                key=f"datasets-{number}",
                title=f"{source.name}: {'MMAD' if source.benchmark == 'mmad' else 'MMAD-BBox'} by dataset",
                columns=columns,
                rows=[Row(name=name, source="", values=row, apart=True) for name, row in rows.items()],
                counts=("images",),
            )
        )
    return tables


def reading_table(sources: Sequence[Source]) -> Table | None:
    """How MMAD's answers were read: MMAD's rule, the strict one, and by probabilities of the options."""
    rows = []
    for source in (source for source in sources if source.benchmark == "mmad"):
        found = source.results
        rows.append(
            Row(
                name=source.name,
                source="",
                apart=True,
                values={
                    "official": found["average"]["average"],
                    "strict": _deep(found, "strict", "average", "average"),
                    "logprobs": _deep(found, "logprobs", "average", "average"),
                    "auroc": _deep(found, "discrimination", "average", "auroc"),
                    "questions": found["questions"],
                    "invalid": found.get("invalid"),
                    "nearest": _deep(found, "parsing", "official", "nearest") or 0 if "parsing" in found else None,
                    "truncated": found.get("truncated"),
                },
            )
        )
    columns = [("official", "MMAD's rule"), ("strict", "Strict rule"), ("logprobs", "By probabilities"),
               ("auroc", "AUROC"), ("questions", "Questions"), ("invalid", "Unreadable"), ("nearest", "Guessed"),
               ("truncated", "Cut off")]  # fmt: skip
    counts = ("questions", "invalid", "nearest", "truncated")
    note = (
        "Average accuracy by three readings of the same answers, percent. Guessed: no letter in the answer, so MMAD's "
        "rule takes the option with the most similar text. The strict rule counts those as wrong."
    )
    if not rows:
        return None
    return Table(key="reading", title="How answers were read", columns=columns, rows=rows, note=note, counts=counts)


def _deep(value: Any, *names: str) -> Any:
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def heat_maps(sources: Sequence[Source]) -> list[Table]:
    """Each run's categories by sub-task, of MMAD; by mean IoU and accuracy, of MMAD-BBox."""
    maps = []
    for number, source in enumerate(sources, 1):
        if source.benchmark not in ("mmad", "mmad-bbox"):
            continue
        categories = source.results["categories"]
        if source.benchmark == "mmad":
            columns, values = _MMAD, categories
        else:
            columns, values = _BBOX, {name: {**row, **row["accuracy"]} for name, row in categories.items()}
        rows = [Row(name=name, source="", values=row, apart=True) for name, row in values.items()]
        title = f"{source.name}, {source.benchmark}"
        maps.append(Table(key=f"categories-{number}", title=title, columns=columns, rows=rows))
    return maps
