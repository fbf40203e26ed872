"""A small part of a benchmark that stands for all of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

from adcopilot.errors import UserError

__all__ = ["first", "stratified"]

Entry = TypeVar("Entry")


def first(entries: Sequence[Entry], limit: int | None) -> list[Entry]:
    """The first `limit` entries.

    Raises:
        UserError: `limit` is below 1.
    """
    if limit is not None and limit < 1:
        raise UserError(f"--limit is {limit}, expected 1 or more")
    return list(entries if limit is None else entries[:limit])


def stratified(
    entries: Sequence[Entry],
    count: int,
    *,
    outer: Callable[[Entry], Hashable],
    inner: Callable[[Entry], Hashable],
    name: Callable[[Entry], str],
) -> list[Entry]:
    """About `count` entries, the same number of each outer kind, and of its inner kinds in their proportion.

    MMAD's score is a mean over datasets, so each dataset gets an equal part whatever its size, and within it products
    and normal and anomalous images keep their shares. Every inner kind has one entry at least, so a small `count` may
    be exceeded. Which entries are taken depends on their names alone: the same on every machine and in every run, and
    a larger `count` adds to a smaller one.

    Args:
        entries: of a benchmark.
        count: how many are wanted.
        outer, inner: of an entry, what is to be represented equally, and within it in proportion.
        name: of an entry, unlike all others.

    Returns:
        The entries taken, in their order.

    Raises:
        UserError: `count` is below 1.
    """
    if count < 1:
        raise UserError(f"--quick is {count}, expected 1 or more images")
    kinds: dict[Hashable, dict[Hashable, list[int]]] = {}
    for index, entry in enumerate(entries):
        kinds.setdefault(outer(entry), {}).setdefault(inner(entry), []).append(index)
    taken: set[int] = set()
    sizes = [sum(map(len, strata.values())) for strata in kinds.values()]
    for quota, strata in zip(_level(sizes, count), kinds.values(), strict=True):
        total = sum(map(len, strata.values()))
        for members in strata.values():
            members = sorted(members, key=lambda index: hashlib.sha256(name(entries[index]).encode()).digest())
            taken.update(members[: max(1, round(quota * len(members) / total))])
    return [entry for index, entry in enumerate(entries) if index in taken]


def _level(sizes: Sequence[int], count: int) -> list[float]:
    """`count` shared equally among places of limited size; what one cannot hold goes to the others."""
    quotas = [0.0] * len(sizes)
    left, open_places = float(count), list(range(len(sizes)))
    while open_places and left > 1e-9:
        share = left / len(open_places)
        for place in open_places:
            given = min(share, sizes[place] - quotas[place])
            quotas[place] += given
            left -= given
        open_places = [place for place in open_places if quotas[place] < sizes[place]]
    return quotas
