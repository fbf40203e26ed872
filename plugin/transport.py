"""One request to an OpenAI-style endpoint, until it is answered: patience with what passes, clear words for the rest.

- 408, 409, 425, 429, 5xx, time-outs, broken connections and bodies that are no chat completion are tried again, after
  twice the wait each time and not before what `Retry-After` says, which all requests then keep to.
- 401, 402, 403, 404, 405, 407, 410, redirects, and 4xx that speak of the key or of the model's name end the run: no
  other request would fare better.
- Other 4xx are about this request (too long, too large, refused by a filter): `Declined`. So is a 403 that speaks of
  moderation, and a body without any choice that comes again at each attempt. However many come in a row, the endpoint
  is well.
- Many other failures in a row end the run too.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from .endpoint import exchange
from .errors import UserError, shortened

__all__ = ["Answer", "Declined", "NoChoice", "Refused", "Transport"]

_AGAIN = frozenset({408, 409, 425, 429})
_HOPELESS = frozenset({401, 402, 403, 404, 405, 407, 410})
#: What some servers say with a status of 400 though it is about every request.
_ABOUT_ALL = re.compile(
    r"api[ _-]?key|authenticat|insufficient[ _]quota|model[ _]not[ _]found|"
    r"\bmodel\b.{0,120}(?:does not exist|not found)",
    re.IGNORECASE,
)
#: What others say with a status of 403 though it is about this request.
_ABOUT_ONE = re.compile(r"moderation|flagged|content[ _-]?(?:filter|policy)", re.IGNORECASE)


class Refused(Exception):
    """There is nothing to be had here, and nothing wrong elsewhere; the message says why in one line."""

    def __init__(self, reason: str) -> None:
        super().__init__(" ".join(reason.split()))

    @property
    def reason(self) -> str:
        """The message."""
        return self.args[0]


class Declined(Refused):
    """The endpoint is well and does not answer this request; it would not answer it the next time either."""


class NoChoice(ValueError):
    """A whole body of a chat completion that has no choice in it."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A chat completion.

    Attributes:
        text: of the first choice.
        finish: why it ended: `stop`, `length`, `content_filter`, ….
        refusal: what the endpoint says when it declined, else "".
        usage: (prompt tokens, completion tokens), None when it does not say.
    """

    text: str
    finish: str
    refusal: str
    usage: tuple[int, int] | None


class Transport:
    """Sends requests; belongs to one event loop.

    Args:
        url: base address, ending in `/v1` or the like; `/chat/completions` is added.
        key: sent as a bearer token, "" for none; it appears in no message.
        timeout: seconds to wait for an answer.
        attempts: how often a request is tried.
        first_wait, longest_wait: seconds before the second attempt, and the most between any two.
        give_up: so many failed requests in a row end the run.
        events: counts what happened: `status 429`, `time-out`, ….
        read: what becomes of a response's body; a ValueError says that it cannot be used, and it is asked again.
    """

    def __init__(
        self,
        *,
        url: str,
        key: str,
        timeout: float,
        attempts: int,
        first_wait: float,
        longest_wait: float,
        give_up: int,
        events: Counter[str],
        read: Callable[[bytes], Any] | None = None,
    ) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._url = f"{url.rstrip('/')}/chat/completions"
        self._key = key
        self._client = httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(timeout, connect=min(timeout, 30.0)),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
        )
        self._timeout = timeout
        self._attempts = attempts
        self._first_wait, self._longest_wait = first_wait, longest_wait
        self._give_up, self._failed_in_row = give_up, 0
        self._events = events
        self._read = read or read_answer
        self._not_before = 0.0
        self.stopping = asyncio.Event()

    async def send(self, body: Mapping[str, Any]) -> Any:
        """Ask until there is an answer: an `Answer`, or what `read` makes of it.

        Raises:
            Declined: the endpoint does not answer this request.
            Refused: there is none for this request now.
            UserError: there will be none for any.
        """
        reason, empty = "", False
        for attempt in range(self._attempts):
            await self._wait(attempt)
            self._events["requests"] += 1
            empty = False
            try:
                response = await exchange(self._client, "POST", self._url, seconds=self._timeout, json=body)
            except (httpx.TimeoutException, TimeoutError):
                reason = f"no answer within {self._timeout:g} s"
                self._events["time-out"] += 1
                continue
            except httpx.TransportError as error:
                reason = self._safe(f"{type(error).__name__}: {error}")
                self._events["broken connection"] += 1
                continue
            except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as error:
                raise UserError(f"{self._url}: not an address ({self._safe(str(error))})") from None
            status = _status_of(response)
            if status != 200:
                self._events[f"status {status}"] += 1
                reason = self._status(response, status)
                continue
            try:
                answer = self._read(response.content)
            except ValueError as error:
                reason, empty = self._safe(str(error)), isinstance(error, NoChoice)
                self._events["unusable body"] += 1
                continue
            self._failed_in_row = 0
            return answer
        reason = f"no answer after {self._attempts} attempts: {reason}"
        if empty:
            raise Declined(reason)
        return self._fail(reason)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _wait(self, attempt: int) -> None:
        """Until the next attempt may be made; `stopping` cuts it short."""
        now = time.monotonic()
        wait = 0.0
        if attempt:
            wait = min(self._longest_wait, self._first_wait * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0)
        wait = max(wait, self._not_before - now)
        if wait > 0 and not self.stopping.is_set():
            self._events["seconds waited"] += round(wait)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), wait)
        if self.stopping.is_set():
            raise Refused("the run was stopped")

    def _status(self, response: httpx.Response, status: int) -> str:
        """What a status other than 200 means: the reason to try again, or an exception."""
        said = self._safe(_message(response))
        reason = f"status {status}{f' ({said})' if said else ''}"
        if status in _AGAIN or status >= 500:
            seconds = _retry_after(response.headers.get("retry-after"))
            if seconds > self._longest_wait:
                raise UserError(
                    f"{self._url}: {reason} asks to wait {seconds:.0f} s; start again then, every answer is kept"
                )
            self._not_before = max(self._not_before, time.monotonic() + seconds)
            return reason
        told = _message(response, whole=True)
        about_all = status in _HOPELESS and not (status == 403 and _ABOUT_ONE.search(told))
        if about_all or status < 400 or _ABOUT_ALL.search(told):
            where = f" to {response.headers.get('location', '?')}" if 300 <= status < 400 else ""
            raise UserError(f"{self._url}: {reason}{where}; check the address, the model's name and the key")
        raise Declined(reason)

    def _fail(self, reason: str) -> Any:
        self._failed_in_row += 1
        if self._failed_in_row >= self._give_up:
            raise UserError(f"{self._url}: {self._failed_in_row} requests in a row failed, the last with {reason}")
        raise Refused(reason)

    def _safe(self, text: str) -> str:
        """One short line without the key, which a server may repeat."""
        return shortened(text.replace(self._key, "[key]") if self._key else text, 200)


def read_answer(content: bytes) -> Answer:
    """A chat completion from the body of a response.

    Raises:
        ValueError: it is something else; the message says what.
    """
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        raise ValueError(f"the body is not JSON: {content[:60]!r}") from None
    try:
        choice = body["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason") or ""
        text, refusal = message.get("content"), message.get("refusal") or ""
        if isinstance(text, list):  # parts, as some servers answer
            text = "".join(part.get("text", "") for part in text if part.get("type") == "text")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise ValueError(f"the body has no choices[0].message: {content[:60]!r}") from None
    filtered = bool(refusal) or finish == "content_filter"
    if not isinstance(text, str) or not text.strip():
        if not filtered:
            raise ValueError("the answer is empty")
        text = ""
    usage = body.get("usage")
    counts = (
        [usage.get(name) for name in ("prompt_tokens", "completion_tokens")] if isinstance(usage, dict) else [None]
    )
    known = all(type(count) is int and count >= 0 for count in counts)
    return Answer(text=text, finish=str(finish), refusal=str(refusal), usage=tuple(counts) if known else None)


def _retry_after(value: str | None) -> float:
    """Seconds that a `Retry-After` header asks for: a number, or a date."""
    if not value:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return 0.0
    return seconds if 0 <= seconds < 1e9 else 0.0


def _message(response: httpx.Response, *, whole: bool = False) -> str:
    """What a body says of an error; `whole`, its code and type too."""
    try:
        error = response.json()["error"]
        parts = [error.get("message")] if isinstance(error, dict) else [error]
        if whole and isinstance(error, dict):
            parts += [error.get("code"), error.get("type"), error.get("metadata")]
        return " ".join(str(part) for part in parts if part is not None)[:2000]
    except Exception:  # any body at all: it is only quoted
        return response.text[:200]


def _status_of(response: httpx.Response) -> int:
    """The status; of a 200 whose body is an error and no completion, as routers send, the error's own."""
    if response.status_code != 200 or b'"error"' not in response.content[:2000]:
        return response.status_code
    try:
        body = response.json()
        error = body["error"] if "choices" not in body else None
        code = error["code"] if isinstance(error, dict) else None
    except (ValueError, RecursionError, KeyError, TypeError):
        return 200
    if not error:
        return 200
    return code if type(code) is int and 400 <= code < 600 else 502
