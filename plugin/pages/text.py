"""Texts of unknown origin, made fit for a page."""

from __future__ import annotations

import re

__all__ = ["clean", "cut", "plural", "shorten"]

#: Characters of an answer, or of what is asked, that a page shows.
MOST_TEXT = 2_500

# Everything that HTML forbids or that has no shape, but tabs and line ends; and the marks that reorder the text around
# them, by which a name could look like another.
_UNFIT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def clean(text: str) -> str:
    """The text with what no page can hold replaced by `�`."""
    return _UNFIT.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))


def shorten(text: object, limit: int = 120) -> str:
    """A value as one clean line of at most `limit` characters."""
    # Cut first: a value may have millions of characters.
    line = " ".join(clean(str(text)[: 4 * limit + 4]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def cut(text: object) -> str:
    """A value's clean text as far as `MOST_TEXT`, and how long it is where that is not all."""
    whole = clean(str(text))
    return whole if len(whole) <= MOST_TEXT else f"{whole[:MOST_TEXT]} … ({len(whole):,} characters)"


def plural(count: int, noun: str, many: str | None = None) -> str:
    """`1 record`, `2,000 records`."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"
