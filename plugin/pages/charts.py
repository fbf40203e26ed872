"""Charts of pages and of files, by matplotlib: SVG of the same bytes for the same numbers, light and dark, no script.

matplotlib draws in the light colours; what it writes as `style` becomes plain attributes, for our pages' policies let
no style in but their own, and a style sheet of a few rules turns each light colour dark where that is wanted. Texts
stay texts, and parts say what they are when they are pointed at.
"""

from __future__ import annotations

import io
import math
import textwrap
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .text import clean

__all__ = ["Bar", "Point", "Series", "chart_style", "column_plot", "line_plot", "radar_plot", "ranked_plot"]

#: Light colour → dark colour, of series: Okabe and Ito's, which people with any colour vision tell apart.
_SERIES = {
    "#0072b2": "#5ab4f0", "#d55e00": "#ff9a52", "#009e73": "#3fd6ab", "#cc79a7": "#f0a8cf",
    "#8a6d00": "#e6c84f", "#56b4e9": "#9fd8ff", "#6b4c9a": "#b79ce0", "#555555": "#bbbbbb",
}  # fmt: skip
_COLOURS = list(_SERIES)
_INK, _SOFT, _GRID, _GROUND, _OTHER = "#1c2733", "#5b6977", "#d5dbe1", "#fffffe", "#b9c3ce"
_OTHERS = {_INK: "#e7edf3", _SOFT: "#a3b0bd", _GRID: "#36424e", _GROUND: "#161d25", _OTHER: "#4b5866"}
#: Of a line, to a screen reader and to who points at it.
MOST_TOLD = 40
_DASHES = ("-", "--", ":", "-.")
_SVG, _LINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"


@dataclass(frozen=True, kw_only=True)
class Point:
    """A value at `x`, with the ends of its interval where it has one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Series:
    """A line, or the columns of one colour; `points` in the order of x, `faint`: drawn behind, thin or broken."""

    name: str
    points: Sequence[Point]
    faint: bool = False


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A bar of a ranking: percent, the ends of its interval, its colour (None for none of its own), and whether it
    stands apart."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    colour: int | None = None
    unranked: bool = False


def line_plot(
    title: str,
    lines: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    y_range: tuple[float, float] | None = None,
    ground: bool = True,
) -> str:
    """Lines with their points and intervals.

    Args:
        title: heading, also what a screen reader says.
        lines: at least one with a point; `x` above 0 where `log_x`.
        x_label, y_label: of the axes.
        log_x: whether equal distances in x are equal factors.
        y_range: lowest and highest value, where plots beside each other are compared; by default those of the lines.
        ground: whether it is a file of its own, with a ground and a heading; else a part of a page.
    """
    size = (900, 440 + 22 * (len(lines) // 2)) if ground else (480, 250)
    with _figure(title, *size) as (figure, told):
        axes = _axes(figure, title if ground else "", y_label)
        if y_range is not None:
            room = 0.03 * (y_range[1] - y_range[0])  # for the marks of points that lie on the edge
            axes.set_ylim(y_range[0] - room, y_range[1] + room)
        axes.set_xlabel(x_label)
        values = sorted({point.x for line in lines for point in line.points})
        if log_x:
            axes.set_xscale("log")
            axes.minorticks_off()
        if log_x or len(values) <= 12:
            axes.set_xticks(_apart(values, log=log_x), [f"{value:,g}" for value in _apart(values, log=log_x)])
        for number, line in enumerate(lines):
            xs, ys = [point.x for point in line.points], [point.y for point in line.points]
            dash = _DASHES[number // len(_COLOURS) % len(_DASHES)]
            gid = _told(told, f"{line.name}: {_values(xs, ys)}")
            style = {"linewidth": 1.2, "zorder": 1.5} if line.faint else {"marker": "o"}
            axes.plot(xs, ys, dash, color=_colour(number), label=_short(line.name), gid=gid, **style)
            _whiskers(axes, line.points)
        figure.legend(loc="outside lower left", ncols=2, frameon=False)
        return _svg(figure, title, told, ground=ground)


def column_plot(
    title: str, names: Sequence[str], series: Sequence[Series], *, y_label: str = "", ground: bool = True
) -> str:
    """Groups of columns, which begin at 0.

    Args:
        title: heading.
        names: of the groups, from left to right.
        series: the columns of one colour each; `x` is the index of their group.
        y_label: of the axis; without one, each column has its number above it instead.
        ground: whether it is a file of its own, with a ground and a heading; else a part of a page.
    """
    size = (900, 440) if ground else (330, 150)
    with _figure(title, *size) as (figure, told):
        axes = _axes(figure, title if ground else "", y_label)
        axes.set_xticks(range(len(names)), [_two_lines(name) for name in names])
        width = 0.8 / len(series)
        for number, one in enumerate(series):
            for point in one.points:
                where = point.x - 0.4 + width * (number + 0.5)
                label = ", ".join(filter(None, (one.name, names[int(point.x)])))
                value = f"{point.y:.2f}" if y_label else f"{point.y:,g}"
                gid = _told(told, f"{label}: {value}")
                axes.bar(where, point.y, width * 0.92, color=_colour(number), gid=gid)
                if not y_label and point.y:
                    axes.annotate(value, (where, point.y), (0, 2), textcoords="offset points", ha="center")
            _whiskers(axes, [Point(x=point.x - 0.4 + width * (number + 0.5), y=point.y, low=point.low,
                                   high=point.high) for point in one.points])  # fmt: skip
        if y_label:
            handles = [axes.bar(0, 0, color=_colour(number), label=_short(one.name))
                       for number, one in enumerate(series)]  # fmt: skip
            figure.legend(handles=handles, loc="outside lower left", ncols=2, frameon=False)
        else:
            axes.set_yticks([])
            axes.spines["left"].set_visible(False)
            axes.margins(y=0.18)
        return _svg(figure, title, told, ground=ground)


def radar_plot(title: str, heads: Sequence[str], lines: Sequence[Series]) -> str:
    """Lines around a centre, percent; a part of a page.

    Args:
        title: what a screen reader hears first.
        heads: of the axes, from the top to the right.
        lines: with a point an axis, `x` its index.
    """
    lowest = min(point.y for line in lines for point in line.points)
    # Tens from 0 up; where all is far above, the middle of the plot is not wasted on nothing.
    start = max(0, 10 * math.floor(lowest / 10) - 10)
    step = 20 if 100 - start > 50 else 10
    width, across, above, below = 480, 260, 56, 50 + 19 * len(lines)
    height = above + across + below
    with _figure(title, width, height) as (figure, told):
        figure.set_layout_engine("none")  # which takes no account of labels around a circle
        place = ((width - across) / 2 / width, below / height, across / width, across / height)
        axes = figure.add_axes(place, projection="polar", theta_offset=math.pi / 2, theta_direction=-1)
        angles = [2 * math.pi * index / len(heads) for index in range(len(heads))]
        axes.set_ylim(start, 100)
        axes.set_xticks(angles, [_two_lines(head) for head in heads])
        axes.set_yticks(range(start + step, 101, step))
        axes.set_rlabel_position(8)
        axes.tick_params(axis="x", pad=16, labelcolor=_INK)
        axes.spines["polar"].set_color(_GRID)
        for number, line in reversed(list(enumerate(lines))):
            ys = [point.y for point in line.points]
            values = ", ".join(f"{head} {value:.1f}" for head, value in zip(heads, ys, strict=True))
            style = {"linestyle": "--", "linewidth": 1.6} if line.faint else {"linewidth": 2.4}
            style |= {"marker": "o", "markersize": 3 if line.faint else 5, "color": _colour(number)}
            gid = _told(told, f"{line.name}: {values}")
            axes.plot([*angles, angles[0]], [*ys, ys[0]], label=_short(line.name), gid=gid, **style)
        handles, names = axes.get_legend_handles_labels()
        figure.legend(handles[::-1], names[::-1], loc="lower center", frameon=False)
        return _svg(figure, title, told, ground=False)


def ranked_plot(title: str, bars: Sequence[Bar]) -> str:
    """Bars in the order given, from the top, each with its name and number; percent; a part of a page."""
    with _figure(title, 480, 16 + 24 * len(bars)) as (figure, told):
        axes = figure.add_subplot()
        names = [f"{bar.name} (not ranked)" if bar.unranked else bar.name for bar in bars]
        places = list(range(len(bars)))
        axes.barh(places, [100] * len(bars), 0.62, color=_GRID, alpha=0.35)
        for place, bar in enumerate(bars):
            colour = _OTHER if bar.colour is None else _colour(bar.colour)
            drawn = axes.barh(place, bar.value, 0.62, color=colour, alpha=0.45 if bar.unranked else 1)[0]
            drawn.set_gid(_told(told, f"{names[place]}: {bar.value:.2f}"))
            if bar.low is not None and bar.high is not None:
                axes.hlines(place, bar.low, bar.high, color=_INK, linewidth=1.4)
            axes.annotate(f"{bar.value:.2f}", (100, place), (6, 0), textcoords="offset points", va="center")
        axes.set_yticks(places, [_wrapped(name) for name in names])
        axes.tick_params(axis="y", labelcolor=_INK, length=0)
        axes.set_xticks([])
        axes.set_xlim(0, 100)
        axes.set_ylim(len(bars) - 0.5, -0.5)
        for spine in axes.spines.values():
            spine.set_visible(False)
        return _svg(figure, title, told, ground=False)


def chart_style() -> str:
    """The rules that turn charts dark: for the style sheet of a page that they are parts of."""
    rules = [
        f'.chart [{what}="{light}"]{{{what}:{dark}}}'
        for light, dark in (_SERIES | _OTHERS).items()
        for what in ("fill", "stroke")
    ]
    return f"@media (prefers-color-scheme:dark){{{''.join(rules)}}}"


@contextmanager
def _figure(title: str, width: float, height: float) -> Iterator[tuple[Any, dict[str, str]]]:
    """A figure of so many pixels, under matplotlib's own defaults whatever the user's are; and what its parts say."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(), warnings.catch_warnings():
        # Letters that its font lacks are measured by a box, and drawn by the reader's browser in a font that has them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({
            "svg.fonttype": "none", "svg.hashsalt": f"adcopilot {clean(title)}", "font.size": 12, "text.color": _INK,
            "axes.edgecolor": _SOFT, "axes.labelcolor": _SOFT, "xtick.color": _SOFT, "ytick.color": _SOFT,
            "axes.spines.top": False, "axes.spines.right": False, "grid.color": _GRID, "lines.linewidth": 2,
            "lines.markersize": 6, "axes.axisbelow": True, "axes.facecolor": "none", "figure.facecolor": "none",
        })  # fmt: skip
        yield Figure(figsize=(width / 72, height / 72), dpi=72, layout="constrained"), {}


def _axes(figure: Any, title: str, y_label: str) -> Any:
    axes = figure.add_subplot()
    axes.set_title(_plain(title), loc="left", fontsize=16, fontweight="bold")
    axes.set_ylabel(y_label)
    axes.grid(bool(y_label), axis="y")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    return axes


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]


def _told(told: dict[str, str], text: str) -> str:
    """A name for a part that says this text when it is pointed at."""
    told[gid := f"told-{len(told)}"] = clean(text)
    return gid


def _values(xs: Sequence[float], ys: Sequence[float]) -> str:
    """The values of a line, or the two at its ends where nobody would listen to all."""
    told = [f"{x:,g}: {y:.2f}" for x, y in zip(xs, ys, strict=True)]
    return ", ".join(told) if len(told) <= MOST_TOLD else f"from {told[0]} to {told[-1]}"


def _whiskers(axes: Any, points: Sequence[Point]) -> None:
    known = [point for point in points if point.low is not None and point.high is not None]
    if known:
        axes.vlines([point.x for point in known], [point.low for point in known], [point.high for point in known],
                    color=_INK, linewidth=1.4, gid="whiskers")  # fmt: skip


def _apart(values: Sequence[float], *, log: bool) -> list[float]:
    """Those values whose numbers do not touch."""
    place = math.log if log else float
    room = (place(values[-1]) - place(values[0])) / 16
    kept: list[float] = []
    for value in values:
        if not kept or place(value) - place(kept[-1]) > room:
            kept.append(value)
    return kept


def _two_lines(name: str) -> str:
    return _plain(name.replace(" ", "\n", 1) if len(name) > 8 else name)


def _short(name: str) -> str:
    return _plain(name if len(name) <= 46 else f"{name[:45]}…")


def _wrapped(name: str) -> str:
    return _plain("\n".join(textwrap.wrap(name, 30, max_lines=2, placeholder=" …")))


def _plain(text: str) -> str:
    """A text that matplotlib takes for no formula, and a legend for no name to leave out."""
    text = clean(text).replace("$", r"\$")
    return f"\N{ZERO WIDTH SPACE}{text}" if text.startswith("_") else text


def _svg(figure: Any, title: str, told: Mapping[str, str], *, ground: bool) -> str:
    """The figure as SVG."""
    if ground:
        figure.set_facecolor(_GROUND)
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    root = ET.fromstring(file.getvalue())
    for place in [one for one in root if one.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}defs")]:
        if place.find(f"{{{_SVG}}}style") is not None or place.tag.endswith("metadata"):
            root.remove(place)
    for element in root.iter():
        for rule in filter(None, map(str.strip, element.attrib.pop("style", "").split(";"))):
            name, _, value = rule.partition(":")
            if name != "font-family":
                element.set(name, value.strip())
        if (target := element.attrib.pop(f"{{{_LINK}}}href", None)) is not None:
            element.set("href", target)
        gid = element.get("id", "")
        if gid in told:
            said = ET.Element(f"{{{_SVG}}}title")
            said.text = told[gid]
            element.insert(0, said)
        if element.tag == f"{{{_SVG}}}g":
            element.attrib.pop("id", None)  # which a page with several charts would have twice
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    title = clean(title)
    label = ". ".join([title, "; ".join(told.values())])
    root.attrib |= {"class": "chart", "role": "img", "aria-label": label, "stroke-linejoin": "round",
                    "stroke-linecap": "butt", "font-family": "'DejaVu Sans', system-ui, sans-serif"}  # fmt: skip
    if ground:
        style, said = ET.Element(f"{{{_SVG}}}style"), ET.Element(f"{{{_SVG}}}title")
        style.text, said.text = chart_style(), title
        root[:0] = [said, style]
    ET.register_namespace("", _SVG)
    return ET.tostring(root, encoding="unicode") + "\n"
