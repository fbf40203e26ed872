"""What the first tab makes of an answer: pictures and files of the visitor's own, and what the browser keeps."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from ...drawing import draw_boxes, draw_map
from ...images import FORMATS
from ...jsonl import atomic_write
from .. import fragments
from ..colours import draw_heat, map_scale
from ..engines.answer import Answer
from ..service import Service

__all__ = ["AnswerFiles", "entry", "file_of", "shown"]

#: What every browser shows as it is; anything else is shown, and used, as the PNG that it decodes to.
SHOWN_AS_IT_IS = {"PNG": ("L", "RGB", "RGBA", "P"), "JPEG": ("L", "RGB"), "WEBP": ("RGB", "RGBA")}


def shown(service: Service, path: str, *, visitor: str) -> Any:
    """What the browser shows of an upload: the PNG of one that no browser shows."""
    found = service.store.use(path, visitor=visitor)
    image = service.open(path, visitor=visitor)
    with Image.open(found, formats=FORMATS) as raw:
        same = raw.mode in SHOWN_AS_IT_IS.get(raw.format, ()) and getattr(raw, "n_frames", 1) == 1
    if same:
        return gr.skip()
    path = service.store.shown_file(found, visitor=visitor)
    atomic_write(path, lambda file: image.save(file, "PNG", compress_level=1))
    return str(path)


def file_of(service: Service, picture: Image.Image | None, name: str, *, visitor: str) -> str | None:
    """A picture as a file of the visitor's, which goes when he leaves; gradio would keep its own copy longer."""
    if picture is None:
        return None
    path = service.store.new_file(name, visitor=visitor)
    picture.save(path, compress_level=1)
    return str(path)


class AnswerFiles:
    """The pictures of an answer, and the files to save.

    Args:
        service: whose store they lie in.
        answer: the answer.
        images: that it is about, templates first.
        visitor: whose they are.
    """

    def __init__(self, service: Service, answer: Answer, images: list[Image.Image], *, visitor: str) -> None:
        self.service, self.answer, self.query, self.visitor = service, answer, images[-1], visitor
        self.template = images[-2] if len(images) > 1 else None
        self.stem = Path(answer.result.query).stem[:60]

    def good(self) -> str | None:
        """The good part that the query is compared with, as large as the query is drawn."""
        return None if self.template is None else self._file(draw_boxes(self.template, []), "good part")

    def marked(self) -> str:
        """The query with its boxes, numbered."""
        return self._file(draw_boxes(self.query, self.answer.result.boxes, numbered=True), "marked")

    def compared(self) -> str | None:
        """Where the model compared."""
        heat = self.answer.heat
        return None if heat is None else self._file(draw_heat(draw_boxes(self.query, []), heat), "compared")

    def differs(self) -> str | None:
        """Where the query differs."""
        found, (middle, _) = self.answer.result.map, map_scale(self.answer.judge.map_threshold)
        return None if found is None else self._file(draw_map(self.query, found, threshold=middle), "differs")

    def _file(self, picture: Image.Image, role: str) -> str:
        return file_of(self.service, picture, f"{self.stem} {role}.png", visitor=self.visitor)

    def to_save(self) -> list[Path]:
        """The line as JSON, and the picture that `adcopilot inspect --draw` makes."""
        store, answer = self.service.store, self.answer
        as_json = store.new_file(f"{self.stem}.json", visitor=self.visitor)
        as_json.write_text(json.dumps(answer.to_dict(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        as_png = store.new_file(f"{self.stem} inspected.png", visitor=self.visitor)
        if answer.verdict is None or self.template is None:
            picture = draw_boxes(self.query, answer.result.boxes)
        else:
            limit = answer.judge.map_threshold
            picture = answer.drawn(self.template, self.query, name=answer.result.query, map_threshold=limit)
        picture.save(as_png)
        return [as_json, as_png]


def entry(answer: Answer, image: Image.Image) -> dict[str, Any]:
    """What the visitor's browser keeps of an answer."""
    return {
        "time": time.strftime("%Y-%m-%d %H:%M"),
        "query": answer.result.query,
        "templates": ", ".join(answer.templates),
        "question": answer.question[:200],
        "answer": answer.words[:300],
        "anomalous": answer.verdict.anomalous if answer.verdict else None,
        "reason": answer.verdict.reason if answer.verdict else None,
        "score": answer.score,
        "image": fragments.thumbnail(image),
    }
