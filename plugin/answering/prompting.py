"""Items as chat prompts, and batches of groups that are alike in size."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError, one_line
from ..images import image_size
from ..vision_tokens import escape_vision_tokens
from .items import Item
from .sizing import Sizing

__all__ = ["chat_messages", "plain_text", "prompt_text", "sorted_groups"]

#: So many groups are sorted by size at a time: enough to find like sizes, few enough that the work goes steadily on.
WINDOW = 64
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
        turns.append(("user", [plain_text(part) if isinstance(part, str) else part for part in parts]))
        if number < len(item.history):
            turns.append(("assistant", [plain_text(item.history[number][1])]))
    return turns


def plain_text(text: str) -> str:
    """A text of a user's or a data file's without tokens that would stand for images, turns or calls."""
    return _OTHER_TOKENS.sub("\\g<0>\u200b", escape_vision_tokens(text))


def prompt_text(item: Item, processor: Any) -> str:
    """The prompt by the model's chat template, each image one place holder.

    Raises:
        UserError: the template cannot take this.
    """
    messages = [
        {
            "role": role,
            "content": [
                {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"} for part in parts
            ],
        }
        for role, parts in chat_messages(item)
    ]
    try:
        return processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
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
