"""The page: what stands above its two tabs, and how it looks."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from . import fragments
from .door.guard import where
from .event_queue import with_queue
from .examples import Example
from .service import Engine, Service
from .tabs.many_parts import ManyParts, ServerFolder
from .tabs.one_part import OnePart
from .words import CHINESE, bilingual, label

__all__ = ["build_page"]

#: Fonts of the visitor's system: nothing is loaded from other hosts.
FONTS = ("system-ui", "sans-serif")
MONOSPACE = ("ui-monospace", "monospace")
#: Of gradio's theme, what has less than 4.5:1 of contrast in it (light and dark).
READABLE = {
    "button_primary_background_fill": "*primary_700",
    "button_primary_background_fill_dark": "*primary_700",
    "button_primary_background_fill_hover": "*primary_800",
    "button_primary_background_fill_hover_dark": "*primary_800",
    "color_accent": "*primary_700",
    "body_text_color_subdued": "*neutral_600",
    "body_text_color_subdued_dark": "*neutral_300",
    "block_label_text_color": "*neutral_700",
    "block_label_text_color_dark": "*neutral_200",
    "block_title_text_color": "*neutral_700",
    "block_info_text_color": "*neutral_600",
    "link_text_color_dark": "*secondary_300",
    "input_placeholder_color": "*neutral_600",
    "input_placeholder_color_dark": "*neutral_300",
}
#: A model of fewer parameters is for trying things out; the smallest that the paper's recipe is for has 3 billion.
TOY = 100_000_000


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


def build_page(service: Service, *, examples: Sequence[Example], folder: ServerFolder | None, queue: int) -> gr.Blocks:
    """The page, not launched.

    Args:
        service: what both tabs work with; `GRADIO_TEMP_DIR` has to name its store's `served`.
        examples: pairs to try.
        folder: of this machine, which visitors may have inspected.
        queue: so many questions may wait; further ones are told to come again.
    """
    theme = gr.themes.Default(primary_hue="blue", font=FONTS, font_mono=MONOSPACE).set(**READABLE)
    folder_of_scripts = Path(__file__).with_name("browser")
    css = "\n".join(one.read_text("utf-8") for one in sorted(folder_of_scripts.glob("*.css")))
    scripts = "".join(f"<script>{one.read_text('utf-8')}</script>" for one in sorted(folder_of_scripts.glob("*.js")))
    page = Page(
        title="AD-Copilot inspection", theme=theme, css=css, head=scripts, analytics_enabled=False, fill_width=True
    )
    with page:
        gr.HTML(_header(service.engine, has_good_parts=service.good_parts is not None), padding=False)
        with gr.Tab(label("One part")):
            OnePart(service=service, examples=examples).build()
        with gr.Tab(label("Many parts")):
            many = ManyParts(service=service, folder=folder)
            many.build()

        def leave(request: gr.Request) -> None:
            many.stop(request)
            service.store.leave(request.session_hash)

        page.unload(leave)  # when a visitor closes or reloads the page
    return with_queue(page, waiting=queue)


def _header(engine: Engine, *, has_good_parts: bool) -> str:
    """What the page does, who answers, and the two languages."""
    if engine.speaks:
        what = bilingual(
            "The model looks at both pictures and says whether the part is defective, and where. It can be wrong."
        )
    else:
        what = bilingual(
            "The anomaly map of both pictures says whether the part is defective, and where. It can be wrong."
        )
    if has_good_parts:
        what += " " + bilingual("This line has good parts of its own: bring the part alone, or both.")
    name = bilingual(engine.title) if engine.title in CHINESE else fragments.escaped(engine.title)
    about = f"{bilingual('Model' if engine.speaks else 'Without a model')}: <b>{name}</b>"
    if engine.parameters is not None:
        millions = engine.parameters / 1e6
        about += ", " + bilingual("{number} million parameters", number=f"{millions:,.{0 if millions >= 10 else 2}f}")
        if engine.parameters < TOY:
            words = bilingual("a toy: it shows how the page works, its answers mean little")
            about += f' <span class="adc-chip unsure">{words}</span>'
    return (
        f'<div class="adc-header"><h1>{bilingual("Compare a part with a good one")}</h1><span class="adc-languages">'
        '<button type="button" data-language="en" lang="en">English</button>'
        '<button type="button" data-language="zh-CN" lang="zh-CN">中文</button></span>'
        f"<p>{what}</p><p>{about}</p></div>"
    )
