"""A request's body, stopped at its limit while it comes in, whatever its headers say about it."""

from __future__ import annotations

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.types import Message, Receive, Scope, Send

__all__ = ["Body", "declared_length"]

#: Bytes of an upload that belong to no file: gradio's page sends none, and gradio keeps them in memory.
FIELD_BYTES = 64 << 10


def declared_length(scope: Scope) -> int | None:
    """Bytes of the body by its header; None where the header is missing, there twice or no number."""
    found = [value for name, value in scope["headers"] if name == b"content-length"]
    return int(found[0]) if len(found) == 1 and found[0].isdigit() and len(found[0]) < 16 else None


class Body:
    """Stands between a server and an app.

    Args:
        scope, receive, send: as ASGI has them.
        most: bytes that the app may be given.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, most: int) -> None:
        self._receive, self._send, self._most = receive, send, most
        self._size = 0
        self._fields = _Fields(scope)
        self.is_too_much, self.has_begun = False, False

    async def receive(self) -> Message:
        """The next part of the body. After the limit the visitor is gone, as far as the app can see."""
        if self.is_too_much:
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] == "http.request":
            data = message.get("body", b"")
            self._size += len(data)
            if self._size > self._most or self._fields.add(data) > FIELD_BYTES:
                self.is_too_much = True
                return {"type": "http.disconnect"}
        return message

    async def send(self, message: Message) -> None:
        """What the app answers, unless there was too much: then it is answered elsewhere."""
        if not self.is_too_much or self.has_begun:
            self.has_begun = True
            await self._send(message)


class _Fields:
    """Counts the bytes of a form that are in no file."""

    def __init__(self, scope: Scope) -> None:
        header = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
        kind, options = parse_options_header(header)
        self._bytes, self._in_file = 0, False
        self._header, self._value = b"", b""
        self._parser = None
        if kind == b"multipart/form-data" and options.get(b"boundary"):
            callbacks = {
                "on_part_begin": self._begin,
                "on_header_field": self._add_name,
                "on_header_value": self._add_value,
                "on_header_end": self._end_header,
                "on_part_data": self._data,
            }
            self._parser = MultipartParser(options[b"boundary"], callbacks)

    def add(self, data: bytes) -> int:
        """Bytes so far, after some more of the body. A form that cannot be read has none: the app refuses it."""
        if self._parser is not None:
            try:
                self._parser.write(data)
            except MultipartParseError:
                self._parser = None
        return self._bytes

    def _begin(self) -> None:
        self._in_file = False

    def _add_name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._in_file = b"filename" in parse_options_header(self._value)[1]
        self._header, self._value = b"", b""

    def _data(self, data: bytes, start: int, end: int) -> None:
        if not self._in_file:
            self._bytes += end - start
