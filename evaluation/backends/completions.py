"""One chat completion, read as an evaluation needs it: an empty answer is an answer, and the first token counts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from adcopilot.chat_ad.generation.transport import Transport
from adcopilot.errors import UserError

__all__ = ["Completion", "CompletionTransport", "read_completion"]


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


class CompletionTransport(Transport):
    """`Transport`'s patience with endpoints; what is read is a `Completion`."""

    async def complete(self, body: Mapping[str, Any]) -> Completion:
        """Ask until there is an answer.

        Raises:
            Refused: there is none for this request.
            UserError: there will be none for any.
        """
        reason = ""
        for attempt in range(self._attempts):
            await self._wait(attempt)
            self._events["requests"] += 1
            try:
                # The read time-out is for a silent connection; a server may also trickle for ever.
                response = await asyncio.wait_for(self._client.post(self._url, json=body), 2 * self._timeout)
            except (httpx.TimeoutException, TimeoutError):
                self._events["time-out"] += 1
                reason = f"no answer within {self._timeout:g} s"
            except httpx.TransportError as error:
                self._events["broken connection"] += 1
                reason = self._safe(f"{type(error).__name__}: {error}")
            except (httpx.InvalidURL, UnicodeError) as error:
                raise UserError(f"{self._url}: not an address ({self._safe(str(error))})") from None
            else:
                if response.status_code != 200:
                    self._events[f"status {response.status_code}"] += 1
                    reason = self._status(response)
                    continue
                try:
                    completion = read_completion(response.content)
                except ValueError as error:
                    self._events["unusable body"] += 1
                    reason = self._safe(str(error))
                    continue
                self._failed_in_row = 0
                return completion
        return self._fail(f"no answer after {self._attempts} attempts: {reason}")


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
