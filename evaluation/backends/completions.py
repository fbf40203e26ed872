"""One chat completion, read as an evaluation needs it: an empty answer is an answer, and the first token counts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

__all__ = ["Completion", "read_completion"]


@dataclass(frozen=True, kw_only=True)
class Completion:
    """A chat completion.

    Attributes:
        text: of the first choice; what the model declined with if it declined. Reasoning that a server hands over
            apart from it stands before it between `<think>` tags.
        finish: why it ended: `stop`, `length`, `content_filter`, ….
        first_token: (token, log-probability) of the most probable first tokens, where the endpoint tells.
    """

    text: str
    finish: str
    first_token: tuple[tuple[str, float], ...] = ()


def read_completion(content: bytes) -> Completion:
    """A chat completion from the body of a response.

    Raises:
        ValueError: it is something else; the message says what.
    """
    try:
        choice = json.loads(content)["choices"][0]
        message, finish = choice["message"], str(choice.get("finish_reason") or "")
        text = message.get("content")
        if isinstance(text, list):  # parts, as some servers answer
            text = "".join(part.get("text", "") for part in text if part.get("type") == "text")
        refusal, reasoning = message.get("refusal"), message.get("reasoning_content") or message.get("reasoning")
    except (ValueError, RecursionError, KeyError, IndexError, TypeError, AttributeError):
        raise ValueError(f"the body is no chat completion: {content[:60]!r}") from None
    if not isinstance(text, str):
        text = ""
    if not text.strip() and isinstance(refusal, str):
        text = refusal
    if isinstance(reasoning, str) and reasoning.strip():
        text = f"<think>{reasoning}</think>{text}"
    return Completion(text=text, finish=finish, first_token=_first_token(choice.get("logprobs")))


def _first_token(logprobs: Any) -> tuple[tuple[str, float], ...]:
    try:
        return tuple((str(one["token"]), float(one["logprob"])) for one in logprobs["content"][0]["top_logprobs"])
    except (KeyError, IndexError, TypeError, ValueError):
        return ()
