"""No model: what an anomaly map says of a query and its templates, in the words of an answer.

It is the baseline that a reader of any table asks for: does comparing need a model here?
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

from adcopilot.answering.base import Reply, grouped
from adcopilot.answering.families import FAMILIES
from adcopilot.answering.items import Item
from adcopilot.errors import UserError
from adcopilot.prompts import verdict_answer
from adcopilot.tasks.locate import LOCATE
from adcopilot.tasks.verdict import VERDICT

from ..maps import MapFinding, Maps, shown_in

__all__ = ["MapBackend"]

#: The answer where a score has no threshold; boxes may follow.
UNDECIDED = "Undecided."


class MapBackend:
    """Answers what a map can: whether a query differs from its templates, and where.

    The probability of the first option is score / (1 + score): it ranks images as the map's score does.

    Args:
        maps: compare the pictures.

    Attributes:
        family: whose answers these look like, boxes in pixels of what is seen.
    """

    name = "map"
    family = FAMILIES["adcopilot"]

    def __init__(self, maps: Maps) -> None:
        self.maps = maps

    def learn(self, items: Sequence[Item]) -> None:
        """Find thresholds among the templates of all items of a run, before `describe`.

        Raises:
            UserError: an item has no template, or asks for something else than a verdict or boxes.
        """
        for item in items:
            task = item.meta.get("task")
            if task not in (None, LOCATE.name, VERDICT.name):
                raise UserError(
                    f"record {item.meta['record']}: its task is {task}, but a map gives verdicts and boxes alone; add "
                    f"--task {LOCATE.name} --task {VERDICT.name}"
                )
            if len(item.images) < 2:
                what = item.meta.get("record") or item.meta.get("image")
                raise UserError(f"{what}: has no template to compare with; leave it out, or give --shots 1 or more")
        self.maps.learn([shown_in(item.images, item.meta) for item in items])

    def describe(self) -> dict[str, Any]:
        """As `Backend.describe`."""
        return {"backend": self.name, "model": self.maps.title, "family": self.family.name, **self.maps.describe()}

    def model_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The file's own: boxes are pixels of it."""
        return size

    def answer(self, items: Sequence[Item], *, max_new_tokens: int) -> Iterator[tuple[Item, Reply]]:
        """As `Backend.answer`; a pair about which there can be no verdict is refused, with the reason."""
        groups = grouped(items)
        # Pairs come back in any order, and two groups may show the same pair.
        waiting: dict[Any, list[list[Item]]] = {}
        for group in groups:
            waiting.setdefault(shown_in(group[0].images, group[0].meta), []).append(group)
        started = time.monotonic()
        for shown, found, error in self.maps.compare(list(waiting)):
            seconds, started = time.monotonic() - started, time.monotonic()
            these = [item for group in waiting[shown] for item in group]
            for item in these:
                yield item, _reply(item, found, error, seconds / len(these))


def _reply(item: Item, found: MapFinding, error: str, seconds: float) -> Reply:
    if error or found.refused:
        return Reply(error=error or found.refused, refused=not error, seconds=seconds)
    logprobs = None
    if item.options and found.score is not None:
        yes, no = item.options
        score = max(found.score, 1e-9)
        logprobs = {yes: math.log(score / (1 + score)), no: -math.log1p(score)}
    return Reply(text=_text(item, found), option_logprobs=logprobs, seconds=seconds)


def _text(item: Item, found: MapFinding) -> str:
    boxes = json.dumps(found.boxes)
    if found.anomalous is None:
        return f"{UNDECIDED} {boxes}" if found.boxes else UNDECIDED
    if item.meta.get("role") == "score":  # the letters of a second question
        return list(item.options)[not found.anomalous]
    return verdict_answer(found.anomalous, boxes)
