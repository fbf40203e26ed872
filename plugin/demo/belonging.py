"""Results belong to the pictures they were asked for.

Whatever is about pictures carries a mark of their files. The server drops an answer that comes when other pictures are
there, and takes results away when a picture changes. What is under way between the two meanwhile, in whatever order it
comes, is seen by `belonging.js`: it hides results with another mark than that of the pictures on the page.

A file is told by its address on the server, which has a hash of its content or a random number in it. What no browser
shows is replaced by a PNG (`Store.shown_file`) while somebody may be asking already: it is the same picture.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from . import fragments
from .engines.answer import Answer
from .store import SHOWN
from .words import bilingual

__all__ = ["Asked", "Coming", "Files", "Talk", "files_of", "mark", "nothing"]

#: The addresses of the files in each upload component.
Files = tuple[tuple[str, ...], ...]


def files_of(*slots: str | Sequence[tuple[str, str]] | None) -> Files:
    """The addresses of the files in each upload component.

    Args:
        slots: values of `UploadedImage` (a path or None) and of `UploadedFiles` ((path, name) pairs).
    """
    return tuple(
        ((slot,) if slot else ()) if slot is None or isinstance(slot, str) else tuple(path for path, _ in slot)
        for slot in slots
    )


def mark(files: Files) -> str:
    """A short text that is another one for other files (two 32-bit hashes, as `belonging.js` computes them)."""
    pictures = (map(_picture, slot) for slot in files)
    text = "\n\n".join("\n".join(slot) for slot in pictures).encode("utf-16-le", "surrogatepass")
    a, b = 0x811C9DC5, 0x9747B28C
    for low, high in zip(text[::2], text[1::2], strict=True):
        unit = low | high << 8
        a = (a ^ unit) * 0x01000193 & 0xFFFFFFFF
        b = (b ^ unit) * 0x5BD1E995 & 0xFFFFFFFF
        b ^= b >> 15
    return f"{a:x}-{b:x}"


def _picture(path: str) -> str:
    """The address without what differs between a picture and the PNG that is shown instead."""
    return re.sub(rf"/{SHOWN}/(?=[^/]*$)", "/", re.sub(r"\.[^./]*$", "", path))


@dataclass(frozen=True, kw_only=True)
class Talk:
    """A conversation about one set of pictures.

    Attributes:
        about: the mark of the pictures; with others it begins anew.
        answers: so far.
    """

    about: str = ""
    answers: tuple[Answer, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Who asks about which pictures.

    Attributes:
        files: of the three upload components: good part, more of them, part to inspect.
        visitor: the session.
        words: in the field for the visitor's own question, "" if a button was pressed.
    """

    files: Files
    visitor: str
    words: str = ""

    @property
    def templates(self) -> list[str]:
        """Pictures of good parts."""
        return [*self.files[0], *self.files[1]]

    @property
    def query(self) -> str | None:
        """The part to inspect, if there is one."""
        return self.files[2][0] if self.files[2] else None


@dataclass(frozen=True, kw_only=True)
class Coming:
    """What an event brings to the page.

    Attributes:
        asked: whose pictures and question it is about.
        results: values of the components with results; a problem has none, but lets the conversation stand.
        problem: what went wrong, as HTML.
        entry: for the history.
    """

    asked: Asked
    results: tuple
    problem: str = ""
    entry: dict[str, Any] | None = None

    @property
    def late(self) -> str:
        """What is said instead if other pictures are there when it comes."""
        names = ", ".join(fragments.bold(Path(one).name) for slot in self.asked.files[::-1] for one in slot)
        words = "An answer about {names} came when other pictures were here, so it is not shown. Ask again."
        return f'<p class="adc-notice" role="alert">{bilingual(words, names=names)}</p>'


def nothing() -> tuple:
    """Values of the components with results where there are none."""
    off = gr.DownloadButton(value=None, interactive=False)
    return "", None, "", None, "", off, off, "", None, "", "", None, "", "", ""
