"""One HTTP exchange that ends: within a time in all, and with a body of a known size at most.

httpx limits the time of each read. A server that sends a byte each half second stays within that for ever, in its
headers as well as in its body, and a body without an end fills the memory. So every request of this package to a
server that it does not own goes through here.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from functools import cache
from typing import Any

import httpx

__all__ = ["MOST_BYTES", "TooLarge", "exchange", "exchange_now"]

#: Bytes of an answer, decompressed. A chat completion of 64 samples with 20,000 token ids each has about 10 MB.
MOST_BYTES = 64 << 20


class TooLarge(httpx.TransportError):
    """The body has more bytes than allowed; the rest was not read."""


async def exchange(
    client: httpx.AsyncClient, method: str, url: str, *, seconds: float, most_bytes: int = MOST_BYTES, **request: Any
) -> httpx.Response:
    """Send a request and read its answer whole.

    Args:
        client: whose connections are used.
        method, url, request: as `httpx.AsyncClient.request`.
        seconds: for everything together, from the connection to the last byte.
        most_bytes: of the body.

    Raises:
        TimeoutError: the time is over.
        TooLarge: the body is too large.
        httpx.HTTPError: as httpx.
    """
    async with asyncio.timeout(seconds), client.stream(method, url, **request) as response:
        body = bytearray()
        async for piece in response.aiter_bytes():
            body += piece
            if len(body) > most_bytes:
                raise TooLarge(f"an answer of more than {most_bytes:,} bytes", request=response.request)
    # The body is decompressed already.
    headers = [(name, value) for name, value in response.headers.multi_items() if name != "content-encoding"]
    return httpx.Response(response.status_code, headers=headers, content=bytes(body), request=response.request)


def exchange_now(
    method: str, url: str, *, client: Mapping[str, Any], seconds: float, most_bytes: int = MOST_BYTES, **request: Any
) -> httpx.Response:
    """`exchange` from a thread without an event loop, over a connection of its own.

    Args:
        client: of `httpx.AsyncClient`.
        method, url, seconds, most_bytes, request: as `exchange`.

    Raises:
        TimeoutError, TooLarge, httpx.HTTPError: as `exchange`.
    """

    async def once() -> httpx.Response:
        async with httpx.AsyncClient(verify=_tls(), **client) as one:
            return await exchange(one, method, url, seconds=seconds, most_bytes=most_bytes, **request)

    return asyncio.run(once())


@cache
def _tls() -> ssl.SSLContext:
    """Reading the certificates takes longer than many an answer."""
    return httpx.create_ssl_context()
