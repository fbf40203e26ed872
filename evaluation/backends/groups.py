"""What the transformers backend has made ready for the model: a group of questions, or one whole prompt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from adcopilot.answering.items import Item

from .branching import Prompt
from .trunks import Stem

__all__ = ["PromptGroup", "Whole", "halves"]


@dataclass(frozen=True, kw_only=True)
class PromptGroup:
    """A group ready for the model, or why it is not.

    Attributes:
        shared: length of the prefix that its prompts share, in tokens.
        trunk: length of the part of it that other groups share too; 0 where none does.
    """

    items: list[Item]
    prompts: list[Prompt] | None = None
    shared: int = 0
    pixel_values: torch.Tensor | None = None
    grid: torch.Tensor | None = None
    trunk: int = 0
    error: str | None = None

    @property
    def trunk_key(self) -> tuple:
        """Equal for groups that begin with the same templates and words."""
        first = self.items[0]
        return first.images[:-1], tuple(self.prompts[0].ids[: self.trunk])

    def whole(self, end: int) -> Stem:
        """The first `end` tokens, with all images."""
        return Stem(prompt=self.prompts[0], start=0, end=end, pixel_values=self.pixel_values, grid=self.grid)

    def stems(self) -> tuple[Stem, Stem]:
        """The trunk with the templates, and what comes behind it with the query."""
        cut = int(self.grid[:-1].prod(-1).sum())
        prompt, pixels = self.prompts[0], self.pixel_values
        return (
            Stem(prompt=prompt, start=0, end=self.trunk, pixel_values=pixels[:cut], grid=self.grid[:-1]),
            Stem(prompt=prompt, start=self.trunk, end=self.shared, pixel_values=pixels[cut:], grid=self.grid[-1:]),
        )


@dataclass(frozen=True, kw_only=True)
class Whole:
    """One item ready for the processor, or why it is not."""

    items: list[Item]
    text: str = ""
    images: list[Any] | None = None
    error: str | None = None


def halves(one: PromptGroup | Whole) -> list[list[Any]]:
    """For what does not fit into memory: a group's questions in two groups; nothing for a single question."""
    if len(one.items) < 2:
        return []
    middle = len(one.items) // 2
    return [
        [replace(one, items=one.items[part], prompts=one.prompts[part])]
        for part in (slice(0, middle), slice(middle, None))
    ]
