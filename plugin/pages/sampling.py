"""The records that the gallery shows: a seeded draw that gives rare kinds of records their place."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Hashable
from typing import Any

__all__ = ["Draw"]


class Draw:
    """Draws `count` of the records it is offered, in turn from each stratum.

    A record's place in the draw depends on its bytes and the seed alone, so the same records give the same gallery
    whatever files they are in, and memory is `count` small tuples a stratum.

    Args:
        count: records, at most.
        seed: of the draw.
    """

    def __init__(self, *, count: int, seed: int) -> None:
        self._count = count
        self._seed = f"adcopilot report {seed}".encode()
        self._strata: dict[Hashable, list[tuple]] = {}
        self._offered = 0

    def offer(self, stratum: tuple, raw: bytes, place: Any) -> None:
        """Consider a record.

        Args:
            stratum: what it is one of; made of strings.
            raw: its bytes.
            place: what `chosen` returns.
        """
        score = self._score(raw)
        self._offered += 1
        heap = self._strata.setdefault(stratum, [])
        # The largest score is the first to go; of equal records the earlier one stays.
        entry = (-score, -self._offered, place)
        if len(heap) < self._count:
            heapq.heappush(heap, entry)
        elif heap and entry > heap[0]:
            heapq.heapreplace(heap, entry)

    def chosen(self) -> list[tuple[tuple, Any]]:
        """(stratum, place) of the records drawn, by stratum and then by place in the draw."""
        queues = {stratum: sorted(heap, reverse=True) for stratum, heap in self._strata.items()}
        # With more strata than places, chance decides which are shown, not the alphabet.
        order = sorted(queues, key=lambda stratum: self._score(repr(stratum).encode("utf-8", "replace")))
        taken: dict[Hashable, list] = {stratum: [] for stratum in order}
        left, turn = min(self._count, sum(map(len, queues.values()))), 0
        while left:
            for stratum in order:
                if left and turn < len(queues[stratum]):
                    taken[stratum].append(queues[stratum][turn][2])
                    left -= 1
            turn += 1
        return [(stratum, place) for stratum in sorted(taken) for place in taken[stratum]]

    def _score(self, raw: bytes) -> int:
        return int.from_bytes(hashlib.blake2b(raw, digest_size=8, key=self._seed[:64]).digest(), "big")
