"""The page's plots as numbers: where the lines of a radar plot and the bars of a bar plot go."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..table import Row, Table

__all__ = ["SERIES", "Axis", "Bar", "Radar", "Series", "bars", "heat", "radar"]

#: Colours of the style sheet that lines and bars take in turn.
SERIES = 8
_MOST_OWN, _MOST_PUBLISHED = 5, 3
_CENTRE, _RADIUS = (250.0, 190.0), 126.0


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A spoke: its end, its label's place, anchor and lines."""

    x: float
    y: float
    label_x: float
    label_y: float
    anchor: str
    lines: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Series:
    """A line: its name, colour, whether it is published, its points, and what a reader hears of it."""

    name: str
    colour: int
    published: bool
    points: str
    dots: Sequence[tuple[float, float]]
    values: str


@dataclass(frozen=True, kw_only=True)
class Radar:
    """A radar plot. `rings`: (points of the ring, its number)."""

    axes: Sequence[Axis]
    rings: Sequence[tuple[str, int]]
    series: Sequence[Series]


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A bar: percent is its length in hundredths; `low` and `high` of its interval; `unranked` if it stands apart."""

    name: str
    source: str
    value: float
    own: bool
    colour: int
    low: float | None = None
    high: float | None = None
    unranked: bool = False


def radar(table: Table) -> Radar | None:
    """The runs of a table, and a few published rows; None without axes or without a row that has all of them."""
    heads = dict(table.columns)
    shown = [row for row in table.rows if row.plot and (row.own or not row.why)]
    whole = [row for row in shown if all(row.values.get(name) is not None for name in table.axes)]
    own = [row for row in whole if row.own][:_MOST_OWN]
    rows = [*own, *[row for row in whole if not row.own][-_MOST_PUBLISHED:]]
    if len(table.axes) < 3 or not own:
        return None
    lowest = min(min(row.values[name] for name in table.axes) for row in rows)
    # Tens from 0 up; where all is far above, the middle of the plot is not wasted on nothing.
    start = max(0, 10 * math.floor(lowest / 10) - 10)
    step = 20 if 100 - start > 50 else 10
    rings = list(range(start + step, 101, step))

    def place(index: int, value: float) -> tuple[float, float]:
        angle = 2 * math.pi * index / len(table.axes)
        length = _RADIUS * (value - start) / (100 - start)
        return round(_CENTRE[0] + length * math.sin(angle), 2), round(_CENTRE[1] - length * math.cos(angle), 2)

    def join(points: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{x},{y}" for x, y in points)

    count = range(len(table.axes))
    axes = []
    for index, name in enumerate(table.axes):
        (x, y), lines = place(index, 100), _two_lines(heads[name])
        side = math.sin(2 * math.pi * index / len(table.axes))
        label = (x + 12 * side, y - 10 * math.cos(2 * math.pi * index / len(table.axes)))
        anchor = "middle" if abs(side) < 0.3 else "start" if side > 0 else "end"
        shift = -16 * (len(lines) - 1) if index == 0 else 0
        axes.append(Axis(x=x, y=y, label_x=round(label[0], 2), label_y=round(label[1] + 4 + shift, 2), anchor=anchor,
                         lines=lines))  # fmt: skip
    series = []
    for number, row in enumerate(rows):
        dots = [place(index, row.values[name]) for index, name in enumerate(table.axes)]
        series.append(
            Series(
                name=row.name if row.own else f"{row.name} ({row.source})",
                colour=number % SERIES,
                published=not row.own,
                points=join(dots),
                dots=dots,
                values=", ".join(f"{heads[name]} {row.values[name]:.1f}" for name in table.axes),
            )
        )
    return Radar(axes=axes, rings=[(join([place(index, ring) for index in count]), ring) for ring in rings],
                 series=series)  # fmt: skip


def _two_lines(head: str) -> list[str]:
    first, _, rest = head.partition(" ")
    return [first, rest] if rest else [first]


def bars(table: Table) -> list[Bar]:
    """The table's main column, the longest bar first; rows that are not ranked stand below those that are."""
    rows: list[tuple[float, Row]] = [
        (row.values[table.main], row) for row in table.rows if table.main and row.values.get(table.main) is not None
    ]
    found, own = [], [row for row in table.rows if row.own]
    for value, row in sorted(rows, key=lambda pair: (bool(pair[1].why or table.main in pair[1].unlike), -pair[0])):
        low, high = row.intervals.get(table.main, (None, None))
        colour = own.index(row) % SERIES if row.own else 0
        found.append(
            Bar(
                name=row.name,
                source=row.source,
                value=value,
                own=row.own,
                colour=colour,
                low=low,
                high=high,
                unranked=bool(row.why or table.main in row.unlike),
            )
        )
    return found


def heat(value: float | None) -> int:
    """A colour of the heat map, 0 to 10 for 0 to 100 percent; -1 for nothing."""
    return -1 if value is None else min(10, max(0, round(value / 10)))
