"""Questions to an OpenAI-style endpoint, each until it is answered: patience with what passes, words for the rest.

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
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from ..errors import UserError
from .address import Endpoint, said
from .completion import Completion, NoChoice, read_completion
from .exchange import exchange

__all__ = ["Client", "Declined", "Patience", "Refused"]

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


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long answers are waited for.

    Attributes:
        concurrency: requests under way at once.
        timeout: seconds for one answer.
        attempts: how often a request is tried.
        first_wait, longest_wait: seconds before the second attempt, and the most between any two.
        give_up: so many failed requests in a row, without those that were declined, end the run.
    """

    concurrency: int = 16
    timeout: float = 180.0
    attempts: int = 6
    first_wait: float = 1.0
    longest_wait: float = 120.0
    give_up: int = 20

    def check(self, said_as: Callable[[str], str] = str) -> None:
        """Look at the values.

        Args:
            said_as: from an attribute's name to what the user knows it by.

        Raises:
            UserError: one is out of range.
        """
        for name in ("concurrency", "attempts", "give_up"):
            if getattr(self, name) < 1:
                raise UserError(f"{said_as(name)} is {getattr(self, name)}, expected 1 or more")
        for name in ("timeout", "first_wait", "longest_wait"):
            if not getattr(self, name) > 0:
                raise UserError(f"{said_as(name)} is {getattr(self, name)}, expected more than 0 seconds")


class Client:
    """Asks an endpoint; belongs to one event loop.

    Args:
        endpoint: `/chat/completions` is added to its address.
        patience: with it. How many requests are under way at once is up to the caller.
        events: counts what happened: `status 429`, `time-out`, ….
        may_be_empty: whether an empty answer is one; else it is asked for again, unless a filter took it away.
    """

    def __init__(self, *, endpoint: Endpoint, patience: Patience, events: Counter[str], may_be_empty: bool) -> None:
        self._endpoint, self._patience = endpoint, patience
        self._url = f"{endpoint.url.rstrip('/')}/chat/completions"
        self._client = httpx.AsyncClient(
            headers=endpoint.headers,
            timeout=httpx.Timeout(patience.timeout, connect=min(patience.timeout, 30.0)),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
        )
        self._failed_in_row = 0
        self._events, self._may_be_empty = events, may_be_empty
        self._not_before = 0.0
        self.stopping = asyncio.Event()

    async def send(self, body: Mapping[str, Any]) -> Completion:
        """Ask until there is an answer.

        Raises:
            Declined: the endpoint does not answer this request.
            Refused: there is none for this request now.
            UserError: there will be none for any.
        """
        reason, no_choice, seconds = "", False, self._patience.timeout
        for attempt in range(self._patience.attempts):
            await self._wait(attempt)
            self._events["requests"] += 1
            no_choice = False
            try:
                response = await exchange(self._client, "POST", self._url, seconds=seconds, json=body)
            except (httpx.TimeoutException, TimeoutError):
                reason = f"no answer within {seconds:g} s"
                self._events["time-out"] += 1
                continue
            except httpx.TransportError as error:
                reason = self._endpoint.safe(f"{type(error).__name__}: {error}")
                self._events["broken connection"] += 1
                continue
            except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as error:
                raise UserError(f"{self._url}: not an address ({self._endpoint.safe(str(error))})") from None
            status = _status_of(response)
            if status != 200:
                self._events[f"status {status}"] += 1
                reason = self._passing(response, status)
                continue
            try:
                answer = self._read(response.content)
            except ValueError as error:
                reason, no_choice = self._endpoint.safe(str(error)), isinstance(error, NoChoice)
                self._events["unusable body"] += 1
                continue
            self._failed_in_row = 0
            return answer
        reason = f"no answer after {self._patience.attempts} attempts: {reason}"
        if no_choice:
            raise Declined(reason)
        self._failed_in_row += 1
        if self._failed_in_row >= self._patience.give_up:
            raise UserError(f"{self._url}: {self._failed_in_row} requests in a row failed, the last with {reason}")
        raise Refused(reason)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _wait(self, attempt: int) -> None:
        """Until the next attempt may be made; `stopping` cuts it short."""
        now, wait = time.monotonic(), 0.0
        if attempt:
            wait = min(self._patience.longest_wait, self._patience.first_wait * 2 ** (attempt - 1))
            wait *= random.uniform(0.5, 1.0)
        wait = max(wait, self._not_before - now)
        if wait > 0 and not self.stopping.is_set():
            self._events["seconds waited"] += round(wait)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), wait)
        if self.stopping.is_set():
            raise Refused("the run was stopped")

    def _read(self, content: bytes) -> Completion:
        answer = read_completion(content)
        filtered = answer.refusal or answer.finish == "content_filter"
        if not (answer.text or filtered or self._may_be_empty):
            raise ValueError("the answer is empty")
        return answer

    def _passing(self, response: httpx.Response, status: int) -> str:
        """What a status other than 200 means: the reason to try again, or an exception."""
        reason = self._endpoint.reason(status, response.content)
        if status in _AGAIN or status >= 500:
            seconds = _retry_after(response.headers.get("retry-after"))
            if seconds > self._patience.longest_wait:
                raise UserError(
                    f"{self._url}: {reason} asks to wait {seconds:.0f} s; start again then, every answer is kept"
                )
            self._not_before = max(self._not_before, time.monotonic() + seconds)
            return reason
        told = said(response.content, whole=True)
        about_all = status in _HOPELESS and not (status == 403 and _ABOUT_ONE.search(told))
        if about_all or status < 400 or _ABOUT_ALL.search(told):
            where = f" to {response.headers.get('location', '?')}" if 300 <= status < 400 else ""
            raise UserError(f"{self._url}: {reason}{where}; check the address, the model's name and the key")
        raise Declined(reason)


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
