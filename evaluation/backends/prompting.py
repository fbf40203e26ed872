"""Items as chat prompts, and batches of groups that are alike in size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from adcopilot.answering.items import Item, chat_messages
from adcopilot.answering.sizing import Sizing
from adcopilot.errors import UserError, one_line
from adcopilot.images import image_size
from adcopilot.inspect.greedy import chat_prompt

__all__ = ["prompt_text", "sorted_groups"]

#: So many groups are sorted by size at a time: enough to find like sizes, few enough that the work goes steadily on.
WINDOW = 64


def prompt_text(item: Item, processor: Any) -> str:
    """The prompt by the model's chat template, each image one place holder.

    Raises:
        UserError: the template cannot take this.
    """
    try:
        return chat_prompt(processor, chat_messages(item))
    except Exception as error:  # whatever a template raises
        reason = one_line(error)
        raise UserError(f"the model's chat template cannot be applied ({reason})") from error


def sorted_groups(groups: Sequence[list[Item]], sizing: Sizing) -> Iterator[list[Item]]:
    """Groups with the same templates after one another, which share their work, and then those with like sizes of
    images, so that batches need little padding."""

    def area(paths: Sequence[Path]) -> int:
        total = 0
        for path in paths:
            try:
                width, height = sizing.model_size(image_size(path))
            except UserError:
                continue  # said when it is the group's turn
            total += width * height
        return total

    def order(group: list[Item]) -> tuple:
        *templates, query = group[0].images or (None,)
        return len(templates), area(templates), templates, area([query] if query else [])

    for start in range(0, len(groups), WINDOW):
        yield from sorted(groups[start : start + WINDOW], key=order)
