"""Line and bar plots as SVG files of their own: no script, no font and no network, light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

__all__ = ["Line", "Point", "bar_plot", "line_plot"]

_WIDTH, _HEIGHT = 900, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 880, 50, 330
# Okabe and Ito's colours, which people with any colour vision tell apart; lighter ones where the ground is dark.
_LIGHT = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#6b4c9a", "#555555")
_DARK = ("#5ab4f0", "#ff9a52", "#3fd6ab", "#f0a8cf", "#e6c84f", "#9fd8ff", "#b79ce0", "#bbbbbb")
_DASHES = ("", "7 4", "2 3", "9 3 2 3")


@dataclass(frozen=True, kw_only=True)
class Point:
    """A value at `x`, with the ends of its interval where it has one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of a plot, or the bars of one colour; `points` in the order of x."""

    name: str
    points: Sequence[Point]


def line_plot(title: str, lines: Sequence[Line], *, x_label: str, y_label: str, log_x: bool = False) -> str:
    """Lines with their points and intervals.

    Args:
        title: heading, also what a screen reader says.
        lines: at least one with a point; `x` above 0 where `log_x`.
        x_label, y_label: below and above the axes.
        log_x: whether equal distances in x are equal factors.
    """
    values = sorted({point.x for line in lines for point in line.points})
    place = math.log if log_x else float
    first, last = place(values[0]), place(values[-1])
    room = (last - first) * 0.04 or 1.0

    def at(x: float) -> float:
        return _LEFT + (place(x) - first + room) / (last - first + 2 * room) * (_RIGHT - _LEFT)

    y_axis, height = _y_axis([point for line in lines for point in line.points])
    ticks = _apart(values if log_x or len(values) <= 12 else _steps(values[0], values[-1]), at)
    marks = [
        f'<text class="tick" x="{at(x):.1f}" y="{_BOTTOM + 20}" text-anchor="middle">{x:,g}</text>' for x in ticks
    ]
    for index, line in enumerate(lines):
        spots = [(at(point.x), height(point.y)) for point in line.points]
        dash = _DASHES[index // len(_LIGHT) % len(_DASHES)]
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
        told = ", ".join(f"{point.x:,g}: {point.y:.2f}" for point in line.points)
        marks.append(f'<g class="c{index % len(_LIGHT)}"><title>{escape(f"{line.name}: {told}")}</title>')
        marks.append(f'<polyline class="line" points="{path}"{dashed}/>')
        for point, (x, y) in zip(line.points, spots, strict=True):
            marks.append(_whisker(point, x, height) + f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.4"/>')
        marks.append("</g>")
    return _page(title, [*y_axis, *marks], [line.name for line in lines], x_label=x_label, y_label=y_label)


def bar_plot(title: str, names: Sequence[str], lines: Sequence[Line], *, y_label: str) -> str:
    """Groups of bars.

    Args:
        title: heading.
        names: of the groups, from left to right.
        lines: the bars of one colour each; `x` is the index of their group. Bars begin at 0.
        y_label: above the axis.
    """
    y_axis, height = _y_axis([point for line in lines for point in line.points], zero=True)
    group = (_RIGHT - _LEFT) / len(names)
    width = group * 0.8 / len(lines)
    marks = []
    for index, name in enumerate(names):
        words = _two_lines(name)
        for row, word in enumerate(words):
            x = _LEFT + group * (index + 0.5)
            marks.append(f'<text class="tick" x="{x:.1f}" y="{_BOTTOM + 18 + 14 * row}" text-anchor="middle">'
                         f"{escape(word)}</text>")  # fmt: skip
    for index, line in enumerate(lines):
        marks.append(f'<g class="c{index % len(_LIGHT)}">')
        for point in line.points:
            x = _LEFT + group * (point.x + 0.1) + width * index
            y = height(point.y)
            told = escape(f"{line.name}, {names[int(point.x)]}: {point.y:.2f}")
            marks.append(f'<rect class="bar" x="{x:.1f}" y="{y:.1f}" width="{width * 0.92:.1f}" '
                         f'height="{max(height(0) - y, 0):.1f}"><title>{told}</title></rect>')  # fmt: skip
            marks.append(_whisker(point, x + width * 0.46, height))
        marks.append("</g>")
    return _page(title, [*y_axis, *marks], [line.name for line in lines], x_label="", y_label=y_label)


def _y_axis(points: Sequence[Point], *, zero: bool = False):
    """The lines and numbers of the y axis, and the function from a value to its place."""
    ends = [value for point in points for value in (point.y, point.low, point.high) if value is not None]
    low, high = min(ends), max(ends)
    ticks = _steps(min(low, 0.0) if zero else low, high)
    start, end = ticks[0], ticks[-1]

    def height(value: float) -> float:
        return _BOTTOM - (value - start) / (end - start) * (_BOTTOM - _TOP)

    drawn = []
    for tick in ticks:
        y = height(tick)
        drawn.append(f'<line class="grid" x1="{_LEFT}" x2="{_RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        drawn.append(f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:,g}</text>')
    return drawn, height


def _steps(low: float, high: float) -> list[float]:
    """Four to eight round numbers around a range."""
    span = (high - low) or abs(high) or 1.0
    unit = 10 ** math.floor(math.log10(span / 5))
    step = next(unit * factor for factor in (1, 2, 5, 10) if span / (unit * factor) <= 6)
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [round(number * step, 10) for number in range(first, last + 1)]


def _apart(values: Sequence[float], at) -> list[float]:
    """Those values whose numbers do not touch."""
    kept: list[float] = []
    for value in values:
        if not kept or at(value) - at(kept[-1]) > 44:
            kept.append(value)
    return kept


def _whisker(point: Point, x: float, height) -> str:
    if point.low is None or point.high is None:
        return ""
    return (
        f'<line class="whisker" x1="{x:.1f}" x2="{x:.1f}" y1="{height(point.low):.1f}" y2="{height(point.high):.1f}"/>'
    )


def _two_lines(name: str) -> list[str]:
    first, _, rest = name.partition(" ")
    return [first, rest] if rest else [first]


def _page(title: str, marks: Sequence[str], names: Sequence[str], *, x_label: str, y_label: str) -> str:
    """The whole file; the key below the plot, two names a line."""
    key = []
    for index, name in enumerate(names):
        x, y = _LEFT + 405 * (index % 2), _BOTTOM + 66 + 22 * (index // 2)
        shown = name if len(name) <= 46 else f"{name[:45]}…"
        key.append(f'<g class="c{index % len(_LIGHT)}"><rect class="bar" x="{x}" y="{y - 9}" width="18" height="9"/>'
                   f'</g><text x="{x + 26}" y="{y}">{escape(shown)}</text>')  # fmt: skip
    height = max(_HEIGHT, _BOTTOM + 80 + 22 * ((len(names) + 1) // 2))

    def colours(palette: Sequence[str]) -> str:
        return "".join(f".c{n}{{--c:{colour}}}" for n, colour in enumerate(palette))

    style = (
        "svg{background:#fff;--ink:#1c2733;--soft:#5b6977;--grid:#d5dbe1;font:13px system-ui,sans-serif}"
        f"{colours(_LIGHT)}@media (prefers-color-scheme:dark){{svg{{background:#161d25;--ink:#e7edf3;--soft:#a3b0bd;"
        f"--grid:#36424e}}{colours(_DARK)}}}"
        "text{fill:var(--ink)}.tick,.label{fill:var(--soft);font-size:12px}.title{font-size:16px;font-weight:600}"
        ".grid{stroke:var(--grid)}.line{fill:none;stroke:var(--c);stroke-width:2}.bar,circle{fill:var(--c)}"
        ".whisker{stroke:var(--ink);stroke-width:1.4}"
    )
    label = escape(title, {'"': "&quot;"})
    middle = (_LEFT + _RIGHT) / 2
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{label}">',
        f"<title>{escape(title)}</title><style>{style}</style>",
        f'<text class="title" x="{_LEFT}" y="22">{escape(title)}</text>',
        f'<text class="label" x="{_LEFT}" y="40">{escape(y_label)}</text>',
        *marks,
        f'<text class="label" x="{middle}" y="{_BOTTOM + 42}" text-anchor="middle">{escape(x_label)}</text>',
        *key,
        "</svg>",
    ]
    return "\n".join(line for line in lines if line) + "\n"
