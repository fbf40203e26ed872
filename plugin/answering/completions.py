"""One chat completion, read as an evaluation needs it: an empty answer is an answer, and the first token counts."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from adcopilot.transport import NoChoice

__all__ = ["Completion", "read_completion"]


@dataclass(frozen=True, kw_only=True)
class Completion:
    """A chat completion.

    Attributes:
        text: of the first choice. Reasoning that a server hands over apart from it stands before it between `<think>`
            tags.
        finish: why it ended: `stop`, `length`, `content_filter`, ….
        declined: one line that says why there is no text though the endpoint answered: the model's `refusal`, or a
            filter; "" otherwise. An empty text alone is an answer.
        first_token: (token, log-probability) of the most probable first tokens, where the endpoint tells.
    """

    text: str
    finish: str
    declined: str = ""
    first_token: tuple[tuple[str, float], ...] = ()


def read_completion(content: bytes) -> Completion:
    """A chat completion from the body of a response.

    Raises:
        ValueError: it is something else; the message says what. A `NoChoice` if only the choice is missing.
    """
    try:
        choices = json.loads(content)["choices"]
        if choices == []:
            raise NoChoice("the endpoint sent no choice")
        choice = choices[0]
        message, finish = choice["message"], str(choice.get("finish_reason") or "")
        text = message.get("content")
        if isinstance(text, list):  # parts, as some servers answer
            text = "".join(part.get("text", "") for part in text if part.get("type") == "text")
        refusal, reasoning = message.get("refusal"), message.get("reasoning_content") or message.get("reasoning")
    except NoChoice:
        raise
    except (ValueError, RecursionError, KeyError, IndexError, TypeError, AttributeError):
        raise ValueError(f"the body is no chat completion: {content[:60]!r}") from None
    if not isinstance(text, str):
        text = ""
    declined = ""
    if not text.strip() and isinstance(refusal, str) and refusal.strip():
        declined = f"the model declined ({' '.join(refusal.split())[:200]})"
    elif not text.strip() and finish == "content_filter":
        declined = "a content filter of the endpoint took the answer away"
    if isinstance(reasoning, str) and reasoning.strip():
        text = f"<think>{reasoning}</think>{text}"
    return Completion(text=text, finish=finish, declined=declined, first_token=_first_token(choice.get("logprobs")))


def _first_token(logprobs: Any) -> tuple[tuple[str, float], ...]:
    try:
        found = tuple((str(one["token"]), float(one["logprob"])) for one in logprobs["content"][0]["top_logprobs"])
    except (KeyError, IndexError, TypeError, ValueError, OverflowError):
        return ()
    # Minus infinity is how servers write "not at all"; a list with anything else that is no logarithm of a
    # probability says nothing about its other tokens either.
    if any(math.isnan(value) or value > 1e-3 for _, value in found):
        return ()
    return tuple((token, min(value, 0.0)) for token, value in found if value > -math.inf)
