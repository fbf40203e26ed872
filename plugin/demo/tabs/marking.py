"""Saying that a verdict was wrong: a row of buttons on both tabs, and where a mark's picture goes."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr

from ...errors import UserError
from ...images import IMAGE_SUFFIXES
from ...jsonl import atomic_write, file_digest
from ...line.marks import append_mark
from .. import fragments
from ..belonging import files_of, mark
from ..limits import MIB
from ..words import bilingual, label

if TYPE_CHECKING:
    from ..service import Service

__all__ = ["MarkRow", "Marks"]

#: Letters of a kind of defect.
KIND = 80


class Marks:
    """The file of marks, and beside it the folder of uploaded pictures that were marked.

    Args:
        path: of the file; `marks.jsonl` has its pictures in `marks-pictures/`.
        most_bytes: of all pictures there: any visitor may add to them.
    """

    def __init__(self, path: Path, *, most_bytes: int) -> None:
        self.path = path.absolute()  # a mark names its picture, and `--marks` may be read from anywhere
        self.pictures = self.path.with_name(f"{self.path.stem}-pictures")
        self._most_bytes = most_bytes
        self._lock = threading.Lock()

    def add(self, picture: Path, *, good: bool, kind: str, is_upload: bool) -> None:
        """Write down what a picture is, and keep it if it is an upload, which goes when its visitor does.

        Raises:
            UserError: it cannot be kept, in words for visitors; why is on stderr.
        """
        kind = " ".join(kind.split())[:KIND]
        try:
            with self._lock:
                where = self._kept(picture) if is_upload else picture
                append_mark(self.path, query=where, good=good, kind="" if good else kind)
        except UserError as error:
            print(f"marks: {error}", file=sys.stderr, flush=True)
            raise UserError("The mark could not be kept on the server; it has been written down there why") from None

    def _kept(self, picture: Path) -> Path:
        """The picture under its digest, which is all of a visitor's file name that is left."""
        suffix = picture.suffix.lower() if picture.suffix.lower() in IMAGE_SUFFIXES else ".png"
        path = self.pictures / f"{file_digest(picture)}{suffix}"
        if path.is_file():
            return path
        kept = sum(one.stat().st_size for one in self.pictures.iterdir()) if self.pictures.is_dir() else 0
        if kept + picture.stat().st_size > self._most_bytes:
            raise UserError(
                f"{self.pictures}: {kept / MIB:.0f} MiB of marked pictures, expected at most "
                f"{self._most_bytes / MIB:g} (--max-stored-mb); take them into a line and begin another file of marks"
            )
        atomic_write(path, lambda file: file.write(picture.read_bytes()))
        return path


@dataclass(frozen=True, kw_only=True)
class MarkRow:
    """The row. `build` puts it on the page, `connect` says which components tell what is marked.

    Attributes:
        service: whose marks they are; without any, the row is hidden.
        part: from (which of several, values of the three upload components, visitor) to a part: its picture, its
            name, and whether it is an upload. It raises a `UserError` where there is nothing to mark.
        name: of the tab, for the page's style and tests.
        label: of the field for the kind.
    """

    service: Service
    part: Callable[[str | None, tuple, str], AbstractContextManager[tuple[Path, str, bool]]]
    name: str
    label: str = "Kind of defect (may be empty)"

    def build(self) -> tuple[gr.Textbox, gr.Button, gr.Button, gr.HTML]:
        """Field for the kind, the two buttons, and the place for what was said."""
        visible = self.service.marks is not None
        with gr.Row(visible=visible, elem_id=f"adc-marks-{self.name}", elem_classes="adc-marks"):
            kind = gr.Textbox(
                label=label(self.label),
                placeholder=label("scratch"),
                max_lines=1,
                max_length=KIND,
                scale=3,
                min_width=160,
            )
            bad = gr.Button(label("Mark as defective"), min_width=150)
            good = gr.Button(label("Mark as good"), min_width=150)
        told = gr.HTML("", elem_id=f"adc-told-{self.name}", padding=False, visible=visible)
        return kind, bad, good, told

    def connect(self, row, which: gr.components.Component, pictures: list) -> None:
        """Let both buttons write down what the part is that `which` and the three upload components tell."""
        kind, bad, good, told = row
        for button, is_good in ((bad, False), (good, True)):
            button.click(
                self.event(is_good),
                [kind, which, *pictures],
                [told],
                concurrency_limit=4,
                concurrency_id="files",
                api_name=False,
                show_progress="hidden",
            )

    def event(self, good: bool) -> Callable[..., str]:
        """What a button does."""

        def on_mark(kind: str, which: str | None, first, second, third, request: gr.Request) -> str:
            slots, kind = (first, second, third), kind or ""
            try:
                if self.service.marks is None:
                    raise UserError("This page keeps no marks.")
                with self.part(which, slots, request.session_hash) as (picture, name, is_upload):
                    self.service.marks.add(picture, good=good, kind=kind, is_upload=is_upload)
            except UserError as error:
                return fragments.notice(self.service.without_paths(str(error)).removesuffix(".") + ".")
            return told(name, good=good, kind=kind, about=mark(files_of(*slots)))

        return on_mark


def told(name: str, *, good: bool, kind: str, about: str) -> str:
    """That a mark was written down."""
    name, kind = fragments.bold(name), fragments.escaped(" ".join(kind.split())[:KIND])
    if good:
        words = bilingual("{name} is marked as good. The last mark of a picture counts.", name=name)
    elif kind:
        words = bilingual(
            "{name} is marked as defective: {kind}. The last mark of a picture counts.", name=name, kind=kind
        )
    else:
        words = bilingual("{name} is marked as defective. The last mark of a picture counts.", name=name)
    return fragments.of(about, f'<p class="adc-small" role="status">{words}</p>')
