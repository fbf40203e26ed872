"""Where an OpenAI-style endpoint is, and the key for it, which appears in no message.

No request of this package follows a redirect, so that a key goes to no other host.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ..errors import UserError, shortened

__all__ = ["KEY_VARIABLE", "Endpoint", "checked_address", "key_of", "said"]

#: Where the key is if no other variable is named. Not OpenAI's own: that key is for OpenAI, not for any endpoint.
KEY_VARIABLE = "ADCOPILOT_API_KEY"


@dataclass(frozen=True)
class Endpoint:
    """An endpoint.

    Attributes:
        url: base address, as OpenAI clients take it (`http://localhost:8000/v1`).
        key: sent as a bearer token, "" for none.
    """

    url: str
    key: str = field(default="", repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """Of each request."""
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    def safe(self, text: str) -> str:
        """One short line without the key, which a server may repeat."""
        return shortened(text.replace(self.key, "[key]") if self.key else text, 200)

    def reason(self, status: int, content: bytes) -> str:
        """A status and what the body says about it: `status 400 (too long)`."""
        told = self.safe(said(content))
        return f"status {status}{f' ({told})' if told else ''}"


def checked_address(url: str | None, *, setting: str, key_goes: str) -> str:
    """An address that requests can begin with.

    Args:
        url: as a user gave it.
        setting: the option or key that it was given by.
        key_goes: where a key belongs instead of into the address, as "put the key into …" ends.

    Raises:
        UserError: it is none, or carries something secret, which the message leaves out.
    """
    try:
        parts = urlsplit(url or "")
    except ValueError:  # a bracket that is not closed
        parts = urlsplit("")
    if parts.username or parts.password or parts.query:
        raise UserError(f"{setting} of {parts.hostname}: carries a password or a query; put the key into {key_goes}")
    if parts.scheme not in ("http", "https") or not parts.netloc:
        shown = re.sub(".*@", "…@", url or "missing")  # `name:password@host` without http:// is no address yet
        raise UserError(f"{setting} is {shown}, expected something like http://localhost:8000/v1")
    return url


def key_of(variable: str | None = None) -> str:
    """The key in an environment variable; without a name, `ADCOPILOT_API_KEY`'s where it is set, and "" otherwise.

    Raises:
        UserError: the variable that was named is not set, or what it holds is no key.
    """
    name = variable or KEY_VARIABLE
    key = os.environ.get(name, "").strip()
    if not key and variable:
        raise UserError(f"environment variable {name}: not set, expected the endpoint's key")
    if not (key.isascii() and key.isprintable()):
        raise UserError(
            f"environment variable {name}: holds something that is no key (letters that HTTP cannot send); set it "
            "again"
        )
    return key


def said(content: bytes, *, whole: bool = False) -> str:
    """What a body says of an error, in whichever form it came; `whole`, its code and type too."""
    parts: list[Any]
    try:
        error = json.loads(content)
        error = error.get("error", error) if isinstance(error, dict) else error
        if isinstance(error, dict):
            parts = [error.get("message") or error.get("detail") or error]
            parts += [error.get(name) for name in ("code", "type", "metadata")] if whole else []
        else:
            parts = [error]
    except (ValueError, RecursionError):
        parts = [content[:2000].decode("utf-8", "replace")]
    return " ".join(str(part) for part in parts if part is not None)[:2000]
