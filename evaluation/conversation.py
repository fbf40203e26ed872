"""A benchmark's questions about an image as one conversation, each with what was said before it.

UniPCB's own script asks so, and some of MMAD's where they are told to keep the history: the images stand in the first
question, and every later question comes with the earlier ones and the model's own answers to them. What is asked
therefore depends on answers, and an image's questions are asked one after another; the first questions of all images
go first, then all second ones, ….
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from adcopilot.answering.base import Backend, Reply, grouped
from adcopilot.answering.items import Item

from .run_folder import LOGS, REFUSED, read_records

__all__ = ["Conversation"]

#: Why a question was not asked.
_SKIPPED = "an earlier question of its conversation has no answer"
_REFUSED = "an earlier question of its conversation was refused"


class Conversation:
    """A backend that asks the items of a group in their order, each with the history of the group.

    Args:
        backend: answers the items.
        items: all items of the run, those of a group in the order of the conversation.
        answers: key of an item → the model's answer to it, of those that an earlier start has answered.
        refused: keys of those that the endpoint declined to answer.
    """

    def __init__(
        self, *, backend: Backend, items: Sequence[Item], answers: Mapping[str, str], refused: Iterable[str] = ()
    ) -> None:
        self._backend = backend
        self.name, self.family = backend.name, backend.family
        self.describe, self.model_size = backend.describe, backend.model_size
        self._groups = {group[0].group: group for group in grouped(items)}
        self._answers = dict(answers)
        self._refused = set(refused)

    @classmethod
    def going_on(cls, *, backend: Backend, items: Sequence[Item], folder: Path) -> Conversation:
        """With what an earlier start has logged in the folder of the run, if one has."""
        # Lines of another kind of run, which will be refused, have none.
        lines = {pattern: [one for one in read_records(folder, pattern) if {"item", "reply"} <= one.keys()]
                 for pattern in (LOGS, REFUSED)}  # fmt: skip
        return cls(
            backend=backend,
            items=items,
            answers={one["item"]: one["reply"]["text"] for one in lines[LOGS]},
            refused=[one["item"] for one in lines[REFUSED]],
        )

    def answer(self, items: Sequence[Item], *, max_new_tokens: int) -> Iterator[tuple[Item, Reply]]:
        """As `Backend.answer`. A question after one that got no answer has an error; after one that was refused, it is
        refused too."""
        waiting = [list(group) for group in grouped(items)]
        for group in waiting:
            order = {item.key: place for place, item in enumerate(self._groups[group[0].group])}
            group.sort(key=lambda item: order[item.key])
        while waiting:
            asked: dict[str, Item] = {}
            for group in waiting:
                history = self._history(group[0])
                if history is not None:
                    asked[group[0].key] = replace(group[0], history=history)
                    continue
                refused = any(item.key in self._refused for item in self._earlier(group[0]))
                error = _REFUSED if refused else _SKIPPED
                yield from ((item, Reply(error=error, refused=refused)) for item in group)
                group.clear()
            firsts = {group[0].key: group[0] for group in waiting if group}
            for item, reply in self._backend.answer(list(asked.values()), max_new_tokens=max_new_tokens):
                if reply.error is None:
                    self._answers[item.key] = reply.text
                    self._refused.discard(item.key)
                elif reply.refused:
                    self._refused.add(item.key)
                yield firsts[item.key], reply
            waiting = [group[1:] for group in waiting if len(group) > 1]

    def _history(self, item: Item) -> tuple[tuple[str, str], ...] | None:
        """What was asked and answered before an item; None where an answer is missing."""
        turns: list[tuple[str, str]] = []
        for earlier in self._earlier(item):
            if earlier.key not in self._answers:
                return None
            turns.append((earlier.question, self._answers[earlier.key]))
        return tuple(turns)

    def _earlier(self, item: Item) -> list[Item]:
        group = self._groups[item.group]
        return group[: next(place for place, one in enumerate(group) if one.key == item.key)]
