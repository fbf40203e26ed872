"""What a converter of a general source provides, and how it says that an item cannot be used."""

from __future__ import annotations

import random
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

__all__ = ["GeneralSource", "RawSample", "Rejected"]


class Rejected(Exception):
    """An item that gives no record.

    Args:
        reason: a few words, the same for every item of this kind: they are what is counted.
        detail: what was found in this one, for the list.
        expected: a known property of the published data or a filter's choice, which is counted and listed. Otherwise
            it is a problem of this copy, and a run stops at it unless `--skip-problems` is given.
    """

    def __init__(self, reason: str, detail: str = "", *, expected: bool = False) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
        self.expected = expected


@dataclass(frozen=True, kw_only=True)
class RawSample:
    """One sample of a source as it was read.

    Attributes:
        ordinal: its position in `GeneralSource.items`, from 0.
        key: names it within the source, the same in every run: what is drawn depends on keys and the seed alone.
        where: file and position, for messages.
        data: what the source needs to make a record.
    """

    ordinal: int
    key: str
    where: str
    data: Any = None


class GeneralSource(Protocol):
    """A general source; each is a class of this one.

    Attributes:
        name: as in Table I.
        version: raised when the same arguments no longer give the same records.
        licence: one line for the manifest.
        root: the folder that the user named.
        files: what decides about the records, besides the images; hashed for the manifest.
        options: what was asked for, as JSON.
        workers: threads in which `record` may run.
    """

    name: str
    version: int = 1
    licence: str
    root: Path
    files: list[Path]
    options: dict[str, Any]
    workers: int = 1

    def items(self, chosen: Container[int] | None = None) -> Iterator[RawSample]:
        """All items in a fixed order, without what is expensive to read; or, complete, those in `chosen`."""
        ...

    def check(self, item: RawSample) -> None:
        """What can be checked of every item before any is drawn.

        Raises:
            Rejected: it cannot be used.
        """
        ...

    def record(self, item: RawSample, *, rng: random.Random) -> dict[str, Any]:
        """The record of an item that `items` gave completely. May write images.

        Raises:
            Rejected: it cannot be used after all.
        """
        ...
