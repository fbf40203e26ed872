"""An HTTP exchange ends: in time, and with a body that fits."""

import asyncio
import gzip
import socket
import threading
from contextlib import contextmanager

import httpx
import pytest

from adcopilot.endpoint.exchange import TooLarge, exchange, exchange_now

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"


@contextmanager
def server(*pieces, pause=0.0, forever=None):
    """A server that answers each connection with `pieces`, a pause after each, then with `forever` again and again.

    In fact it ends after a while, so that a client that does not leave meets another error than one that does.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def answer(connection):
        with connection:
            connection.recv(65536)
            try:
                for piece in pieces:
                    connection.sendall(piece)
                    over.wait(pause)
                for _ in range(1500 if forever is not None else 0):
                    connection.sendall(forever)
                    if over.wait(pause):
                        break
            except OSError:
                pass

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        over.set()
        listener.close()


def ask(url, seconds=60.0, **changes):
    return exchange_now("GET", url, client={"timeout": None}, seconds=seconds, **changes)


def test_an_answer():
    with server(HEAD + b"X-Said: yes\r\nContent-Length: 5\r\n\r\nhello") as url:
        response = ask(url)
        assert (response.status_code, response.text, response.headers["x-said"]) == (200, "hello", "yes")


def test_a_compressed_answer():
    body = gzip.compress(b"hello" * 100)
    head = HEAD + f"Content-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with server(head + body) as url:
        assert ask(url).text == "hello" * 100


TRICKLES = {
    "body": ([HEAD + b"Content-Length: 1000\r\n\r\n"], b"x"),
    "headers": ([HEAD], b"X-Some: thing\r\n"),
    "status line": ([b"HTTP"], b"/"),
    "chunks": ([HEAD + b"Transfer-Encoding: chunked\r\n\r\n"], b"1\r\nx\r\n"),
    "nothing at all": ([b""], None),
}


@pytest.mark.parametrize("name", TRICKLES)
def test_a_server_that_trickles_is_left(name):
    pieces, forever = TRICKLES[name]
    # at the server's pleasure it would last half a minute, and end with an answer cut off
    with server(*pieces, pause=0.02 if forever else 30.0, forever=forever) as url, pytest.raises(TimeoutError):
        ask(url, seconds=0.3)


@pytest.mark.parametrize("kind", ["plain", "gzip"])
def test_a_body_without_an_end_is_left(kind):
    if kind == "plain":
        pieces, forever = [HEAD + b"Transfer-Encoding: chunked\r\n\r\n"], b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    else:
        bomb = gzip.compress(b"x" * 4_000_000)
        pieces, forever = (
            [HEAD + f"Content-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n".encode() + bomb],
            None,
        )
    with server(*pieces, forever=forever) as url, pytest.raises(TooLarge, match="more than 1,000,000 bytes"):
        ask(url, most_bytes=1_000_000)


def test_errors_are_httpx_s_own():
    with pytest.raises(httpx.ConnectError):
        ask("http://127.0.0.1:1/")
    with server(b"nonsense\r\n\r\n") as url, pytest.raises(httpx.RemoteProtocolError):
        ask(url)


def test_many_at_once_share_a_client():
    async def all_of_them(url):
        async with httpx.AsyncClient(timeout=None) as client:
            return await asyncio.gather(*(exchange(client, "GET", url, seconds=60.0) for _ in range(8)))

    with server(HEAD + b"Content-Length: 2\r\nConnection: close\r\n\r\nok") as url:
        assert [response.text for response in asyncio.run(all_of_them(url))] == ["ok"] * 8
