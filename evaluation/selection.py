"""Which part of a benchmark is asked: some categories, a small part that stands for all, what has its images."""

from __future__ import annotations

import argparse
import difflib
import hashlib
from collections.abc import Callable, Collection, Hashable, Sequence
from pathlib import Path
from typing import TypeVar

from adcopilot.cli.saying import say
from adcopilot.errors import UserError

__all__ = ["choose", "first", "stratified"]

Entry = TypeVar("Entry")


def choose(
    args: argparse.Namespace,
    entries: Sequence[Entry],
    *,
    names: Callable[[Entry], Sequence[str]],
    kinds: str,
    outer: Callable[[Entry], Hashable],
    inner: Callable[[Entry], Hashable],
    name: Callable[[Entry], str],
    plural: str,
    files: Callable[[Entry], Sequence[Hashable]] = lambda entry: entry.images,
    missing: Callable[[list[Hashable]], tuple[Collection[Hashable], str]] | None = None,
    keep: Callable[[Entry], bool] | None = None,
) -> list[Entry]:
    """The entries that `--category`, `--quick`, `--limit` and `--skip-missing` ask for, their files all in place.

    Args:
        args: the command line.
        entries: of a benchmark.
        names, kinds: as `_of_category`.
        outer, inner, name: as `stratified`.
        plural: what entries are called.
        files: of an entry, what it needs.
        missing: of files, each once, those that are not there and what to say of them; None for paths.
        keep: those that it is false for are left out before anything is counted.

    Raises:
        UserError: a category is unknown, files are missing, or nothing is left.
    """
    entries = _of_category(entries, args.category, names=names, kinds=kinds)
    entries = entries if keep is None else list(filter(keep, entries))
    if args.quick is not None:
        entries = stratified(entries, args.quick, outer=outer, inner=inner, name=name)
    entries = first(entries, args.limit)
    needed = list(dict.fromkeys(file for entry in entries for file in files(entry)))
    gone, message = _missing(needed, args.data_root) if missing is None else missing(needed)
    if gone and not args.skip_missing:
        raise UserError(f"{message}; download them, or leave their {plural} out with --skip-missing")
    if gone:
        left = [entry for entry in entries if not set(gone) & set(files(entry))]
        say(f"{message}: {len(entries) - len(left)} of {len(entries)} {plural} left out")
        entries = left
    if not entries:
        raise UserError(f"{args.data_root}: no {plural} are left to ask about")
    return entries


def _missing(paths: Sequence[Path], root: Path) -> tuple[list[Path], str]:
    gone = [path for path in paths if not path.is_file()]
    shown = ", ".join(str(path.relative_to(root)) for path in gone[:5])
    return gone, f"{root}: {len(gone)} of {len(paths)} images are not there: {shown}{' …' if len(gone) > 5 else ''}"


def _of_category(
    entries: Sequence[Entry], wanted: Sequence[str], *, names: Callable[[Entry], Sequence[str]], kinds: str
) -> list[Entry]:
    """The entries of some categories; all if none is named.

    Args:
        entries: of a benchmark.
        wanted: names of categories, in any case.
        names: of an entry, what its category may be called; the fullest name last.
        kinds: what these names are, for the error.

    Raises:
        UserError: there is no such category; it names the nearest ones.
    """
    if not wanted:
        return list(entries)
    known = {name.casefold(): name for entry in entries for name in reversed(names(entry)) if name}
    for name in wanted:
        if name.casefold() not in known:
            near = difflib.get_close_matches(name.casefold(), known, n=3, cutoff=0.5)
            every = sorted({next(filter(None, reversed(names(entry))), "") for entry in entries} - {""})
            hint = f"did you mean {' or '.join(known[one] for one in near)}?" if near else "there are: "
            raise UserError(f"--category {name}: no such {kinds}; {hint}{'' if near else ', '.join(every)}")
    keep = {name.casefold() for name in wanted}
    return [entry for entry in entries if keep & {name.casefold() for name in names(entry)}]


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
