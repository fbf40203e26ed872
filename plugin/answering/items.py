"""One question of a benchmark, as a backend gets it.

A prompt is a `prefix` of text and images, then a `question`. All items of one `group` have the same images and the
same prefix, so a backend may encode the images and run the prefix once and branch the questions from there; whether it
does changes how long an answer takes and never the answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..vision_tokens import escape_vision_tokens

__all__ = ["Item", "Part", "chat_messages"]

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


#: What other families' tokenizers take for an image or a turn; a question that quotes it means the words.
_OTHER_TOKENS = re.compile(
    r"<(?=(?:image|img|/img|IMG_CONTEXT|image_soft_token|start_of_image|end_of_image|start_of_turn|end_of_turn"
    r"|bos|eos|/?s)>)|\[(?=/?INST\])"
)


def chat_messages(item: Item) -> list[tuple[str, list[str | int]]]:
    """The prompt's turns, `user` or `assistant` and their parts: texts without tokens that would stand for images, and
    indices of images. The last is the user's, with the question at its end."""
    asked = [*(question for question, _ in item.history), item.question]
    turns: list[tuple[str, list[str | int]]] = []
    for number, question in enumerate(asked):
        parts = (*item.prefix, question) if number == 0 else (question,)
        turns.append(("user", [_plain_text(part) if isinstance(part, str) else part for part in parts]))
        if number < len(item.history):
            turns.append(("assistant", [_plain_text(item.history[number][1])]))
    return turns


def _plain_text(text: str) -> str:
    """A text of a user's or a data file's without tokens that would stand for images, turns or calls."""
    return _OTHER_TOKENS.sub("\\g<0>\u200b", escape_vision_tokens(text))
