"""The report as one HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adcopilot.pages import html
from adcopilot.pages.charts import chart_style
from adcopilot.pages.gallery import filters
from adcopilot.pages.text import shorten

from ..benchmark import RIGHT_IOU, Compared
from ..table import Table
from .cards import AnswerCard
from .charts import charts, heat
from .plan import Figure
from .text_files import number_text

__all__ = ["Report", "render_report"]

_PAGE = Path(__file__).parent / "page"

# Grounds of the heat map from 0 to 100 percent, light and dark; the text keeps its colour on all of them.
_SCALES = {"light": ((253, 236, 226), (255, 255, 255), (190, 220, 250)),
           "dark": ((84, 44, 26), (24, 31, 39), (22, 74, 128))}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the page and the Markdown file show.

    Attributes:
        names: of the runs.
        tables: with the paper's columns, and others that stand beside them.
        datasets, maps: of each run, by dataset and by category.
        figures: plots that are files of their own.
        comparisons: pairs of runs.
        answers: the gallery.
        settings: run → what its numbers depend on.
        heads: column of a comparison → how it is called.
        samples, seed: of the bootstrap; the seed is the gallery's too.
    """

    names: Sequence[str]
    tables: Sequence[Table]
    datasets: Sequence[Table]
    maps: Sequence[Table]
    figures: Sequence[Figure]
    comparisons: Sequence[Compared]
    answers: Sequence[AnswerCard]
    settings: Mapping[str, Sequence[tuple[str, str]]]
    heads: Mapping[str, str]
    samples: int
    seed: int


def render_report(report: Report) -> str:
    """The page."""
    tiles = [
        (f"{row.name}, {one.title.partition(' (')[0]}", number_text(row.values.get(one.main)))
        for one in report.tables
        if one.main
        for row in one.rows
        if row.own
    ]
    shown = filters(report.answers, ("run", "dataset", "task", "label"))
    return html.render(
        _PAGE,
        "report.html.jinja",
        style=(_PAGE / "evaluation.css").read_text("utf-8") + _heat_style() + chart_style(),
        known={"number_text": number_text, "heat": heat, "charts": charts, "shown": shown},
        **{**vars(report), "names": [shorten(name, 60) for name in report.names]},
        tiles=tiles,
        right_iou=RIGHT_IOU,
    )


def _heat_style() -> str:
    def ground(scheme: str, step: int) -> str:
        low, middle, high = _SCALES[scheme]
        start, end, share = (low, middle, step / 5) if step < 5 else (middle, high, (step - 5) / 5)
        return "rgb({},{},{})".format(*(round(a + (b - a) * share) for a, b in zip(start, end, strict=True)))

    rules = {
        scheme: "".join(f".h{step}{{background:{ground(scheme, step)}}}" for step in range(11)) for scheme in _SCALES
    }
    return f"{rules['light']}\n@media (prefers-color-scheme: dark) {{{rules['dark']}}}\n"
