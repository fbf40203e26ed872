"""A chat completion, as endpoints send it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

__all__ = ["Completion", "NoChoice", "read_completion"]


class NoChoice(ValueError):
    """A whole body of a chat completion that has no choice in it."""


@dataclass(frozen=True, kw_only=True)
class Completion:
    """A chat completion, of which the first choice counts.

    Attributes:
        text: the answer, "" where there is none. An empty one is an answer unless something below says otherwise.
        reasoning: what a server hands over apart from the answer, or "".
        finish: why it ended: `stop`, `length`, `content_filter`, ….
        refusal: what the endpoint says when it declined, else "".
        usage: (prompt tokens, completion tokens), None when it does not say.
        first_token: (token, log-probability) of the most probable first tokens, where the endpoint tells.
    """

    text: str
    reasoning: str
    finish: str
    refusal: str
    usage: tuple[int, int] | None
    first_token: tuple[tuple[str, float], ...]


def read_completion(content: bytes) -> Completion:
    """A chat completion from the body of a response.

    Raises:
        ValueError: it is something else; the message says what. A `NoChoice` if only the choice is missing.
    """
    try:
        body = json.loads(content)
        if body["choices"] == []:
            raise NoChoice("the endpoint sent no choice")
        choice = body["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason")
        broken = choice.get("error") or finish in ("error", "abort")
        text = message.get("content")
        if isinstance(text, list):  # parts, as some servers answer
            text = "".join(part.get("text", "") for part in text if part.get("type") == "text")
        refusal, reasoning = message.get("refusal"), message.get("reasoning_content") or message.get("reasoning")
    except NoChoice:
        raise
    except (ValueError, RecursionError, KeyError, IndexError, TypeError, AttributeError):
        raise ValueError(f"the body is no chat completion: {content[:60]!r}") from None
    if broken:  # by the server or the one behind it; what there is of it is no answer of the model's
        raise ValueError(f"the answer was broken off: {choice.get('error') or finish!s:.120}")
    return Completion(
        text=_words(text),
        reasoning=_words(reasoning),
        finish=str(finish or ""),
        refusal=_words(refusal),
        usage=_usage(body.get("usage")),
        first_token=_first_token(choice.get("logprobs")),
    )


def _words(value: Any) -> str:
    return value if isinstance(value, str) and value.strip() else ""


def _usage(usage: Any) -> tuple[int, int] | None:
    if not isinstance(usage, dict):
        return None
    counts = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return counts if all(type(count) is int and count >= 0 for count in counts) else None


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
