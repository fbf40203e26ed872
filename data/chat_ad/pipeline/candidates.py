"""Which pairs an output takes, and which task each of them gets.

A pair's place in the draw is a hash of the seed and its content: the same pairs come first in every output, so that
what an endpoint wrote about a pair once serves all of them, and a larger amount keeps what a smaller one had. When
some of the pairs give no record (a refusal), the next in the draw take their places.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...tasks import TASKS as VERIFIABLE
from ..crops import cut_boxes
from ..draws import rank64
from ..generation import TASKS
from ..generation.pair_view import MAX_BOXES
from ..steps import Shard, read

__all__ = [
    "COLUMNS",
    "NO_BOXES",
    "TOO_MANY_BOXES",
    "Candidates",
    "choose_task",
    "draw_waves",
    "obstacle",
    "possible_tasks",
    "query_hash",
]

#: Why defective images cannot have a task that needs boxes.
NO_BOXES = "have no masks"
TOO_MANY_BOXES = f"have more than {MAX_BOXES} regions"

#: Of a pair, that decide about its place in the draw.
COLUMNS = ["image", "source", "sha256", "template_sha256", "crop", "label", "width", "height", "boxes", "box_labels"]


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """The pairs that an output may take, in the order of its draw.

    Attributes:
        shard: (n,) number of each pair's shard.
        row: (n,) its row there.
        task: (n,) index in `TASKS`.
        rank: (n,) its place in the draw, increasing.
        query: (n,) a hash of the image that is asked about; with several templates it is in several pairs.
        anomalous: (n,) whether that has a defect.
        surplus: (shard, row) of pairs that are left out because a verdict of their kind would be one too many.
    """

    shard: np.ndarray
    row: np.ndarray
    task: np.ndarray
    rank: np.ndarray
    query: np.ndarray
    anomalous: np.ndarray
    surplus: frozenset[tuple[int, int]] = frozenset()

    def __len__(self) -> int:
        return len(self.rank)

    @classmethod
    def collect(cls, shards: Sequence[Shard], *, tasks: Mapping[str, float], seed: int, name: str) -> Candidates:
        """Of shards of pairs; each pair counts once, however often it occurs.

        As many pairs are asked for a verdict that have a defect as have none, so that neither answer is the likelier
        one: of the more frequent ones those that come last in the draw get another task, or none.

        Args:
            shards: in order.
            tasks: task → weight.
            seed: of the draw.
            name: of the output, which the choice of tasks depends on too.
        """
        parts = array("Q")  # a few numbers a pair, not as many objects
        others = {task: weight for task, weight in tasks.items() if task != "verdict"}
        for number, shard in enumerate(shards):
            for row, pair in enumerate(read(shard, COLUMNS).to_pylist()):
                content = f"{pair['sha256']}\0{pair['template_sha256']}\0{pair['crop']}"
                possible = possible_tasks(pair["label"], len(cut_boxes(pair)[0]))
                task = choose_task(tasks, possible, seed, name, content)
                if task is not None:
                    other = choose_task(others, possible, seed, name, content) if task == "verdict" else task
                    codes = (TASKS.index(task), len(TASKS) if other is None else TASKS.index(other))
                    query = query_hash(pair)
                    anomalous = int(pair["label"] == "anomalous")
                    parts.extend((number, row, *codes, query, anomalous, rank64(seed, "pair", content)))
        found = np.array(parts, np.uint64).reshape(-1, 7)
        ranks, first = np.unique(found[:, 6], return_index=True)  # sorted; of equals the first
        found = found[first]
        shard, row, task, other, anomalous = (found[:, place].astype(np.int64) for place in (0, 1, 2, 3, 5))
        surplus = _surplus(task == TASKS.index("verdict"), anomalous == 1)
        task[surplus] = other[surplus]
        kept = task < len(TASKS)
        return cls(
            shard=shard[kept],
            row=row[kept],
            task=task[kept],
            rank=ranks[kept],
            query=found[kept, 4],
            anomalous=anomalous[kept] == 1,
            surplus=frozenset(zip(shard[~kept].tolist(), row[~kept].tolist(), strict=True)),
        )


def _surplus(verdicts: np.ndarray, anomalous: np.ndarray) -> np.ndarray:
    """The places of verdicts beyond as many of the other kind; none where there is only one kind."""
    kinds = [np.flatnonzero(verdicts & (anomalous == kind)) for kind in (False, True)]
    least = min(map(len, kinds))
    return np.concatenate([places[least:] for places in kinds]) if least else np.zeros(0, np.int64)


def obstacle(task: str, label: str, boxes: int) -> str:
    """Why a pair cannot have a task, "" where it can.

    Args:
        task: of `TASKS`.
        label: `normal` or `anomalous`.
        boxes: in view.
    """
    verifiable = VERIFIABLE.get(task)
    if verifiable and verifiable.obstacle:
        return verifiable.obstacle(label, boxes)
    if label == "normal":
        return "have nothing to localise" if task == "loc" else ""
    if task in ("caption", "loc") and not boxes:
        return NO_BOXES
    return TOO_MANY_BOXES if task in ("caption", "loc", "verdict") and boxes > MAX_BOXES else ""


def possible_tasks(label: str, boxes: int) -> tuple[str, ...]:
    """The tasks that a pair can have, as `obstacle` says."""
    return tuple(task for task in TASKS if not obstacle(task, label, boxes))


def query_hash(pair: Mapping[str, str]) -> int:
    """A number for the image that a pair asks about, the same for each of its templates."""
    return rank64(0, "query", pair["source"], pair["image"])


def choose_task(tasks: Mapping[str, float], possible: Sequence[str], seed: int, name: str, content: str) -> str | None:
    """One of the possible tasks by weight, None when there is none."""
    weights = {task: weight for task, weight in tasks.items() if task in possible}
    if not weights:
        return None
    place = rank64(seed, "task", name, content) / 2**64 * sum(weights.values())
    for task, weight in weights.items():
        if place < weight:
            return task
        place -= weight
    return task


def draw_waves(
    candidates: Candidates, amount: int | None, make: Callable[[int, Mapping[int, list[tuple[int, str]]]], int]
) -> int:
    """Draw until there are enough records or no candidates are left; how many candidates were taken.

    Args:
        candidates: of one output.
        amount: records wanted, None for one of each.
        make: `make(wave, {shard: [(row, task), …]})` makes the records of some candidates and returns how many.
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
    return taken
