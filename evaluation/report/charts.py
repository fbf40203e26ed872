"""What a table's charts show: which rows its radar plot has, and how its bars are ranked."""

from __future__ import annotations

from markupsafe import Markup

from adcopilot.pages.charts import Bar, Point, Series, radar_plot, ranked_plot

from ..table import Row, Table

__all__ = ["bars", "charts", "heat", "lines"]

_MOST_OWN, _MOST_PUBLISHED = 5, 3


def lines(table: Table) -> list[Series]:
    """Of the radar plot: the table's runs, and a few published rows; none without axes or without a run that has all
    of them."""
    shown = [row for row in table.rows if row.plot and (row.own or not row.why)]
    whole = [row for row in shown if all(row.values.get(name) is not None for name in table.axes)]
    own = [row for row in whole if row.own][:_MOST_OWN]
    rows = [*own, *[row for row in whole if not row.own][-_MOST_PUBLISHED:]]
    if len(table.axes) < 3 or not own:
        return []
    return [
        Series(
            name=row.name if row.own else f"{row.name} ({row.source})",
            points=[Point(x=place, y=row.values[name]) for place, name in enumerate(table.axes)],
            faint=not row.own,
        )
        for row in rows
    ]


def bars(table: Table) -> list[Bar]:
    """The table's main column, the longest bar first; rows that are not ranked stand below those that are."""
    rows: list[tuple[float, Row]] = [
        (row.values[table.main], row) for row in table.rows if table.main and row.values.get(table.main) is not None
    ]
    own = [row for row in table.rows if row.own]

    def unranked(row: Row) -> bool:
        return bool(row.why or table.main in row.unlike)

    return [
        Bar(
            name=row.name,
            value=value,
            colour=own.index(row) if row.own else None,
            unranked=unranked(row),
            **dict(zip(("low", "high"), row.intervals.get(table.main) or (None, None), strict=True)),
        )
        for value, row in sorted(rows, key=lambda pair: (unranked(pair[1]), -pair[0]))
    ]


def charts(table: Table) -> list[tuple[str, Markup]]:
    """(heading, SVG) of the table's radar plot and bars, where there are any."""
    heads, found = dict(table.columns), []
    if series := lines(table):
        axes = [heads[name] for name in table.axes]
        found.append((table.axes_called, Markup(radar_plot(table.axes_called, axes, series))))
    if ranked := bars(table):
        found.append((heads[table.main], Markup(ranked_plot(heads[table.main], ranked))))
    return found


def heat(value: float | None) -> int:
    """A colour of the heat map, 0 to 10 for 0 to 100 percent; -1 for nothing."""
    return -1 if value is None else min(10, max(0, round(value / 10)))
