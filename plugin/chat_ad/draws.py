"""Which pairs an output takes, and which task each of them gets.

A pair's place in the draw is a hash of the seed and its content: the same pairs come first in every output, so that
what an endpoint wrote about a pair once serves all of them, and a larger amount keeps what a smaller one had. When
some of the pairs give no record (a refusal), the next in the draw take their places.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .crops import cut_boxes
from .generation import TASKS
from .generation.locate import MAX_BOXES
from .shards import Shard, read

__all__ = ["Candidates", "choose_task", "draw_waves", "possible_tasks"]

_COLUMNS = ["image", "sha256", "template_sha256", "crop", "label", "width", "height", "boxes", "box_labels"]


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """The pairs that an output may take, in the order of its draw.

    Attributes:
        shard: (n,) number of each pair's shard.
        row: (n,) its row there.
        task: (n,) index in `TASKS`.
        rank: (n,) its place in the draw, increasing.
    """

    shard: np.ndarray
    row: np.ndarray
    task: np.ndarray
    rank: np.ndarray

    def __len__(self) -> int:
        return len(self.rank)

    @classmethod
    def collect(cls, shards: Sequence[Shard], *, tasks: Mapping[str, float], seed: int, name: str) -> Candidates:
        """Of shards of pairs; each pair counts once, however often it occurs.

        Args:
            shards: in order.
            tasks: task → weight.
            seed: of the draw.
            name: of the output, which the choice of tasks depends on too.
        """
        parts = array("Q")  # four numbers a pair, not four objects
        for number, shard in enumerate(shards):
            for row, pair in enumerate(read(shard, _COLUMNS).to_pylist()):
                content = f"{pair['sha256']}\0{pair['template_sha256']}\0{pair['crop']}"
                task = choose_task(tasks, possible_tasks(pair["label"], len(cut_boxes(pair)[0])), seed, name, content)
                if task is not None:
                    parts.extend((number, row, TASKS.index(task), _hash(seed, "pair", content)))
        found = np.array(parts, np.uint64).reshape(-1, 4)
        ranks, first = np.unique(found[:, 3], return_index=True)  # sorted; of equals the first
        columns = found[first].astype(np.int64)
        return cls(shard=columns[:, 0], row=columns[:, 1], task=columns[:, 2], rank=ranks)


def possible_tasks(label: str, boxes: int) -> tuple[str, ...]:
    """The tasks that a pair can have.

    Args:
        label: `normal` or `anomalous`.
        boxes: in view.
    """
    if label == "normal":
        return tuple(task for task in TASKS if task != "loc")
    if not boxes:  # nobody knows where it is
        return tuple(task for task in TASKS if task not in ("loc", "caption"))
    return TASKS if boxes <= MAX_BOXES else tuple(task for task in TASKS if task != "loc")


def choose_task(tasks: Mapping[str, float], possible: Sequence[str], seed: int, name: str, content: str) -> str | None:
    """One of the possible tasks by weight, None when there is none."""
    weights = {task: weight for task, weight in tasks.items() if task in possible}
    if not weights:
        return None
    place = _hash(seed, f"task\0{name}", content) / 2**64 * sum(weights.values())
    for task, weight in weights.items():
        if place < weight:
            return task
        place -= weight
    return task


def draw_waves(
    candidates: Candidates, amount: int | None, make: Callable[[int, Mapping[int, list[tuple[int, str]]]], int]
) -> Iterator[tuple[int, int]]:
    """Draw until there are enough records or no candidates are left.

    Args:
        candidates: of one output.
        amount: records wanted, None for one of each.
        make: `make(wave, {shard: [(row, task), …]})` makes the records of some candidates and returns how many.

    Yields:
        (candidates taken, records made) after each wave.
    """
    wanted = len(candidates) if amount is None else amount
    taken = made = wave = 0
    while made < wanted and taken < len(candidates):
        end = min(len(candidates), taken + wanted - made)
        by_shard: dict[int, list[tuple[int, str]]] = {}
        for place in range(taken, end):
            chosen = (int(candidates.row[place]), TASKS[int(candidates.task[place])])
            by_shard.setdefault(int(candidates.shard[place]), []).append(chosen)
        made += make(wave, {shard: sorted(chosen) for shard, chosen in sorted(by_shard.items())})
        taken, wave = end, wave + 1
        yield taken, made


def _hash(seed: int, purpose: str, content: str) -> int:
    text = f"{seed}\0{purpose}\0{content}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
