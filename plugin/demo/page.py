"""The page: what stands above its two tabs, and how it looks."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from ..inspect.judging import Judge
from . import fragments
from .door.guard import where
from .event_queue import with_queue
from .examples import Example
from .limits import Limits
from .service import Engine, GoodParts, Service
from .store import Store
from .tabs.many_parts import ManyParts, ServerFolder
from .tabs.marking import Marks
from .tabs.one_part import OnePart

__all__ = ["build_page"]

#: Fonts of the visitor's system: nothing is loaded from other hosts.
FONTS = ("system-ui", "sans-serif")
MONOSPACE = ("ui-monospace", "monospace")


class Page(gr.Blocks):
    """Gradio's, which writes down no request: its own message about one that it cannot use quotes it whole."""

    async def process_api(self, *args: Any, **options: Any) -> dict[str, Any]:
        """As gradio's.

        Raises:
            gr.Error: whatever went wrong, in words; where it did is on stderr.
        """
        try:
            return await super().process_api(*args, **options)
        except gr.Error:
            raise
        except Exception as error:
            print(f"page: {where(error)}", file=sys.stderr, flush=True)
            raise gr.Error(
                "Something went wrong on the server. Reload the page and try again.", print_exception=False
            ) from None


def build_page(
    *,
    engine: Engine,
    store: Store,
    limits: Limits,
    judge: Judge,
    thinking: bool,
    examples: Sequence[Example],
    folder: ServerFolder | None,
    queue: int,
    good_parts: GoodParts | None = None,
    marks: Path | None = None,
) -> gr.Blocks:
    """The page, not launched.

    Args:
        engine: who answers.
        store: where visitors' files lie; `GRADIO_TEMP_DIR` has to name its `served`.
        limits: how much visitors may bring.
        judge: whose verdicts they are, and from where on a part is defective.
        thinking: ask for the reasoning before each answer.
        examples: pairs to try.
        folder: of this machine, which visitors may have inspected.
        queue: so many questions may wait; further ones are told to come again.
        good_parts: of the line whose folder was given, for visitors who bring none.
        marks: the file that visitors' marks go to; None where they cannot mark.
    """
    theme = gr.themes.Default(font=FONTS, font_mono=MONOSPACE)
    css = Path(__file__).with_name("page.css").read_text("utf-8")
    script = f"<script>{Path(__file__).with_name('page.js').read_text('utf-8')}</script>"
    page = Page(title="AD-Copilot inspection", theme=theme, css=css, head=script, analytics_enabled=False)
    service = Service(
        engine=engine,
        store=store,
        limits=limits,
        judge=judge,
        thinking=thinking,
        good_parts=good_parts,
        marks=marks and Marks(marks, most_bytes=limits.stored_bytes),
        page=page,
    )
    who = "The model looks at both pictures and says" if engine.speaks else "The anomaly map of both pictures says"
    source = "Model" if engine.speaks else "Without a model"
    brought = " This line has good parts of its own: bring the part alone, or both." if good_parts else ""
    with page:
        gr.HTML(
            f"<h1>Compare a part with a good one</h1><p>{who} whether the part is "
            f"defective, and where. It can be wrong.{brought} {source}: <b>{fragments.plain(engine.title)}</b></p>"
        )
        with gr.Tab("One part"):
            OnePart(service=service, examples=examples).build()
        with gr.Tab("Many parts"):
            many = ManyParts(service=service, folder=folder)
            many.build()

        def leave(request: gr.Request) -> None:
            many.stop(request)
            store.leave(request.session_hash)

        page.unload(leave)  # when a visitor closes or reloads the page
    return with_queue(page, waiting=queue)
