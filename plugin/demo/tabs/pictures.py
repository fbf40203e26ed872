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

__all__ = ["kept_entry", "save_answer", "shown_upload"]

#: What every browser shows as it is; anything else is shown, and used, as the PNG that it decodes to.
SHOWN_AS_IT_IS = {"PNG": ("L", "RGB", "RGBA", "P"), "JPEG": ("L", "RGB"), "WEBP": ("RGB", "RGBA")}


def shown_upload(service: Service, path: str, *, visitor: str) -> Any:
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


def save_answer(service: Service, answer: Answer, images: list[Image.Image], *, visitor: str) -> dict[str, str | None]:
    """The pictures of an answer, and what can be saved of it, as files of the visitor's.

    Args:
        images: that it is about, templates first.

    Returns:
        Paths: of the "good part" that the query is compared with, as large as the query is drawn, the "marked" query
        with its numbered boxes, where the model "compared", and where the query "differs", None for what there is not;
        of the line as "json", and of the picture that `adcopilot inspect --draw` makes ("inspected").
    """
    *templates, query = images
    result, found, limit = answer.result, answer.result.map, answer.judge.map_threshold
    stem = Path(result.query).stem[:60]
    pictures = {
        "good part": draw_boxes(templates[-1], []) if templates else None,
        "marked": draw_boxes(query, result.boxes, numbered=True),
        "compared": None if answer.heat is None else draw_heat(draw_boxes(query, []), answer.heat),
        "differs": None if found is None else draw_map(query, found, threshold=map_scale(limit)[0]),
    }
    files = {
        role: picture and service.store.save(picture, f"{stem} {role}.png", visitor=visitor, compress_level=1)
        for role, picture in pictures.items()
    }
    as_json = service.store.new_file(f"{stem}.json", visitor=visitor)
    as_json.write_text(json.dumps(answer.to_dict(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    inspected = draw_boxes(query, result.boxes)
    if answer.verdict is not None and templates:
        inspected = answer.drawn(templates[-1], query, name=result.query, map_threshold=limit)
    as_png = service.store.save(inspected, f"{stem} inspected.png", visitor=visitor)
    return {**files, "json": str(as_json), "inspected": as_png}


def kept_entry(answer: Answer, image: Image.Image) -> dict[str, Any]:
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
