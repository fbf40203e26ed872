"""What was given and not used, and why: a line of any `*.dropped.jsonl`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

__all__ = ["ROW", "Dropped"]

#: Of a row of the table, what a line about it keeps.
ROW = ("image", "category", "label", "source")


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """A line. On disk it has `step`, `reason` and what else is known.

    Attributes:
        step: what left it out: `index`, `filter`, `rebalance` or `pair` of a dataset, `write` of an output; of a
            converter `filter` where that was to be expected, `read` where this copy is at fault.
        image: the image's reference, or file.
        key: of the pair or item.
        where: file and position of an item.
        task: that gave no record.
        reason: a word or few, the same for all of this kind: they are what is counted.
        detail: what was found, in words.
        value, limit: what was found, and what would have been accepted.
        of: the image that it is the same as.
        category, label, source: of its row.
        count: images that are left out by it.
        left_out: whether it is; otherwise it is only told.
        fallback: whether another generator wrote it instead.
    """

    step: str
    image: str = ""
    key: str = ""
    where: str = ""
    task: str = ""
    reason: str
    detail: str = ""
    value: Any = None
    limit: Any = None
    of: str = ""
    category: str = ""
    label: str = ""
    source: str = ""
    count: int = 1
    left_out: bool = True
    fallback: bool = False

    @classmethod
    def row(cls, step: str, row: Mapping, reason: str, value: Any, limit: Any = None, **more: Any) -> Dropped:
        """Of a row of the table, with the columns `ROW` and any others."""
        return cls(step=step, reason=reason, value=value, limit=limit, **{name: row[name] for name in ROW}, **more)

    def line(self) -> dict[str, Any]:
        """As JSON."""
        return {one.name: value for one in fields(self) if (value := getattr(self, one.name)) != one.default}
