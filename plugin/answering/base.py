"""What every backend offers, and what it answers with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .families import Family
from .items import Item

__all__ = ["Backend", "Reply", "grouped"]


@dataclass(frozen=True, kw_only=True)
class Reply:
    """The answer to one item.

    Attributes:
        text: as the model wrote it, special tokens left out, white space at both ends removed; reasoning and box
            coordinates untouched (`families.split_thinking`, `families.read_boxes`). Empty after an error.
        option_logprobs: option letter → natural logarithm of the probability that the answer's first token is this
            letter (with or without a space before it), over the whole vocabulary. None where the item has no options,
            or the backend was not asked for it or cannot. An endpoint tells only its most probable tokens: letters
            that are not among them are left out. Of a model that reasons first they say nothing.
        error: one line that says why there is no answer; None otherwise. Asking again may help, unless it is refused.
        refused: whether an endpoint that is well declined to answer this item (a filter, a prompt that is too long):
            it would do so the next time too. `error` has its words.
        seconds: time this answer took; for answers computed together, their share.
        truncated: whether the answer was cut off at `max_new_tokens`.
    """

    text: str = ""
    option_logprobs: Mapping[str, float] | None = None
    error: str | None = None
    refused: bool = False
    seconds: float = 0.0
    truncated: bool = False

    def to_dict(self) -> dict[str, Any]:
        """JSON values; what is None is left out."""
        line: dict[str, Any] = {"text": self.text, "seconds": round(self.seconds, 4), "truncated": self.truncated}
        if self.option_logprobs is not None:
            known = {letter: value for letter, value in self.option_logprobs.items() if value > -math.inf}
            line["option_logprobs"] = {letter: round(value, 6) for letter, value in known.items()}
        if self.error is not None:
            line["error"] = self.error
        return {**line, "refused": True} if self.refused else line


class Backend(Protocol):
    """Answers items.

    Attributes:
        name: `transformers`, `vllm` or `api`.
        family: how the model is talked to: `families.Family`.
    """

    name: str
    family: Family

    def describe(self) -> dict[str, Any]:
        """All that answers depend on besides the items: model, versions, dtype, pixel budget, decoding. JSON values,
        the same for the same settings, and nothing secret."""

    def model_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(width, height) that the model sees an upright image of `size` in, which is the space of its boxes where
        the family writes pixels."""

    def answer(self, items: Sequence[Item], *, max_new_tokens: int) -> Iterator[tuple[Item, Reply]]:
        """Answer greedily, each item once, in any order, as soon as answers are there.

        Closing the iterator early stops the work.

        Raises:
            UserError: no further answers are to be had (the endpoint is gone, the device cannot be used). What was
                yielded before stays valid.
        """


def grouped(items: Iterable[Item]) -> list[list[Item]]:
    """Items by their group; groups and the items in them in the order in which they came."""
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(item.group, []).append(item)
    return list(groups.values())
