"""One question of a benchmark, as a backend gets it.

A prompt is a `prefix` of text and images, then a `question`. All items of one `group` have the same images and the
same prefix, so a backend may encode the images and run the prefix once and branch the questions from there; whether it
does changes how long an answer takes and never the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..errors import UserError

__all__ = ["Item", "Part", "check_groups"]

#: A piece of a prompt: text, or the place of an image (its index in `Item.images`).
Part = str | int

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True, eq=False)
class Item:
    """One question about some images.

    Attributes:
        key: content key of the question within its benchmark; two items of a run never share one. It says what is
            asked (images, prefix, question, options), not who is asked: model, decoding and pixel budget are the
            run's, see `adcopilot.evaluation.running`.
        group: items with the same group have equal `images` and `prefix`.
        images: files, templates first, the query last. Empty for a question without images.
        prefix: the beginning of the prompt in order: texts, and indices into `images`. Every image stands there
            exactly once, in the order of `images`. No separators are implied: texts carry their own line breaks.
        question: text asked after the prefix, with its options written out and with what the answer should look like.
        options: letter → text for multiple choice, in the order asked; None for an open question.
        reference: the right answer, in the benchmark's own form (a letter, a text, a list of boxes).
        history: (question, answer) of the conversation so far. The prefix then stands before the first of these
            questions, and `question` is the latest.
        meta: whatever scoring and reports need (dataset, category, type, normal, …); JSON values only.

    Raises:
        ValueError: the prefix does not hold each image once and in order, or `key` or `group` is empty.
    """

    key: str
    group: str
    images: tuple[Path, ...]
    prefix: tuple[Part, ...]
    question: str
    options: Mapping[str, str] | None = None
    reference: Any = None
    history: tuple[tuple[str, str], ...] = ()
    meta: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", tuple(Path(path) for path in self.images))
        object.__setattr__(self, "prefix", tuple(self.prefix))
        if not self.key or not self.group:
            raise ValueError(f"an item needs a key and a group, got key {self.key!r} and group {self.group!r}")
        places = [part for part in self.prefix if not isinstance(part, str)]
        if places != list(range(len(self.images))):
            raise ValueError(
                f"item {self.key}: its prefix holds the images {places}, expected each of the "
                f"{len(self.images)} once and in order"
            )


def check_groups(items: Sequence[Item]) -> None:
    """Make sure that keys differ and that items of one group share images and prefix.

    Raises:
        UserError: two items have one key (the benchmark asks the same question twice), or a group is mixed.
    """
    keys: set[str] = set()
    first: dict[str, Item] = {}
    for item in items:
        if item.key in keys:
            raise UserError(f"item {item.key} is there twice: {item.question[:80]!r}; keep one of them")
        keys.add(item.key)
        other = first.setdefault(item.group, item)
        if (other.images, other.prefix) != (item.images, item.prefix):
            raise UserError(f"group {item.group}: items {other.key} and {item.key} differ in images or prefix")
