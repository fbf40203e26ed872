"""Template and query slots in LlamaFactory's chat, on LlamaBoard's chat tab and in `llamafactory-cli webchat`.

LlamaFactory's chat takes one image, and a comparison needs two. Nothing of its page is replaced: beside its own
elements stand the slots and a second submit button, and they take the place of its image tab and its button while an
AD-Copilot model is loaded. `webchat_model.py` is what they call.
"""

import functools
import logging
from importlib import metadata

import gradio as gr

from ...errors import UserError

#: In pixels: what one template takes where the two slots share half of a page of 1400 pixels.
SLOT_HEIGHT = 290

logger = logging.getLogger(__name__)

#: Texts of the new elements, in the languages of LlamaBoard.
TEXTS = {
    "template_images": {
        "en": {"label": "Template images"},
        "ru": {"label": "Эталонные изображения"},
        "zh": {"label": "模板图像"},
        "ko": {"label": "템플릿 이미지"},
        "ja": {"label": "テンプレート画像"},
    },
    "query_image": {
        "en": {"label": "Query image"},
        "ru": {"label": "Проверяемое изображение"},
        "zh": {"label": "待检图像"},
        "ko": {"label": "검사할 이미지"},
        "ja": {"label": "検査画像"},
    },
}


#: What LlamaFactory must have for this step (`gate.py`).
NEEDS = {
    "llamafactory.webui.components.infer:create_chat_box": ("engine", "visible"),
    "llamafactory.webui.components.infer:create_infer_tab": ("engine",),
    "llamafactory.webui.components.export:save_model": None,
    "llamafactory.webui.engine:WebChatModel": None,
    "llamafactory.webui.locales:LOCALES": None,
    "llamafactory.webui.common:is_multimodal": ("model_name",),
    "llamafactory.webui.chatter:WebChatModel.load_model": ("data",),
    "llamafactory.webui.chatter:WebChatModel.append": ("chatbot", "messages", "role", "query", "escape_html"),
    # passed by name, so their order may be any
    "llamafactory.webui.chatter:WebChatModel.stream": (
        *("chatbot", "messages", "lang", "system", "tools", "image", "video", "audio"),
        *("max_new_tokens", "top_p", "temperature", "skip_special_tokens", "escape_html", "enable_thinking"),
    ),
}


def register(infer) -> None:
    """Have LlamaFactory's pages build the slots.

    `llamafactory.webui.components.infer` is the first of their modules that is imported after `llamafactory.data`,
    where patched forks load plugins, and it is imported before the pages that use it.

    With gradio 4, which LlamaFactory 0.9.5 still admits, the chat stays LlamaFactory's: its events have no `success`
    that waits for a checked upload, and its chat no elements in messages.
    """
    version = metadata.version("gradio")
    if int(version.split(".")[0]) != 5:
        logger.warning("adcopilot: the chat compares two images with gradio 5 only, found gradio %s", version)
        return
    from llamafactory.webui import components, engine, locales

    from .webchat_model import ComparingChatModel

    engine.WebChatModel = ComparingChatModel
    locales.LOCALES.update(TEXTS, compare_btn=locales.LOCALES["submit_btn"])
    # The tab takes it from `infer`, the page of `webchat` from the package.
    infer.create_chat_box = components.create_chat_box = _with_slots(infer.create_chat_box)
    infer.create_infer_tab = _with_switching(infer.create_infer_tab)
    components.export.save_model = _telling_mistakes(components.export.save_model)


def _telling_mistakes(save_model):
    # A user's mistake is told in words, where the tab tells its own, instead of as an "Error".
    @functools.wraps(save_model)
    def wrapped(*args):
        try:
            yield from save_model(*args)
        except UserError as error:
            gr.Warning(str(error))
            yield str(error)

    return wrapped


def _with_slots(create_chat_box):
    @functools.wraps(create_chat_box)
    def wrapped(engine, visible=False):
        chatbot, messages, elems = create_chat_box(engine, visible)
        # `webchat` has loaded its one model already
        if not engine.pure_chat or engine.chatter.compares:
            elems.update(_create_slots(engine, chatbot, messages, elems))
        return chatbot, messages, elems

    return wrapped


def _create_slots(engine, chatbot, messages, elems) -> dict:
    from llamafactory.webui.locales import LOCALES

    from .webchat_model import SETTINGS

    # Built with their words. Without, each tells the page its missing label when it appears, and on a slow connection
    # that comes after the page's first event has named them all: the slots were called "File" and "Image" then.
    lang = engine.manager.get_elem_by_id("top.lang").value or "en"

    def words(name: str) -> dict[str, str]:
        return LOCALES[name].get(lang, LOCALES[name]["en"])

    shown = engine.chatter.compares
    with gr.Column(visible=shown, scale=2) as compare_box, gr.Row():
        template_images = gr.Gallery(
            **words("template_images"),
            file_types=["image"],
            interactive=True,
            columns=2,
            height=SLOT_HEIGHT,
            object_fit="contain",
        )
        query_image = gr.Image(**words("query_image"), sources=["upload", "clipboard"], height=SLOT_HEIGHT)
    compare_btn = gr.Button(**words("compare_btn"), variant="primary", visible=shown)
    _move(compare_box, before=elems["mm_box"])
    _move(compare_btn, before=elems["submit_btn"])
    if shown:
        elems["mm_box"].visible = elems["submit_btn"].visible = False
    if engine.pure_chat:
        # LlamaFactory writes all labels when the language changes from none, as LlamaBoard's does when the page opens;
        # with gradio 5 the stand-alone page's starts with the first choice, and its elements stay without names.
        engine.manager.get_elem_by_id("top.lang").value = None

    chatter, images = engine.chatter, gr.State([])
    compare_btn.click(chatter.look, [template_images, query_image], [images], preprocess=False).success(
        chatter.ask,
        [chatbot, messages, elems["role"], elems["query"], elems["escape_html"], images],
        [chatbot, messages],
    ).success(
        chatter.answer,
        [
            chatbot,
            messages,
            elems["query"],
            engine.manager.get_elem_by_id("top.lang"),
            *(elems[name] for name in ("system", "tools", *SETTINGS)),
        ],
        [chatbot, messages, elems["query"]],
    )
    return {
        "compare_box": compare_box,
        "template_images": template_images,
        "query_image": query_image,
        "compare_btn": compare_btn,
    }


def _move(block, *, before) -> None:
    """Put a block that was just created into the layout before another one of LlamaFactory's."""
    block.parent.children.remove(block)
    block.parent = before.parent
    block.parent.children.insert(block.parent.children.index(before), block)


def _with_switching(create_infer_tab):
    @functools.wraps(create_infer_tab)
    def wrapped(engine):
        elems = create_infer_tab(engine)
        model_name = engine.manager.get_elem_by_id("top.model_name")
        switch = {
            "fn": functools.partial(_switch, engine),
            "inputs": [model_name],
            "outputs": [elems[name] for name in ("compare_box", "compare_btn", "submit_btn", "mm_box")],
        }
        gr.on(**switch)  # with the page, which may be opened while a model is loaded
        elems["info_box"].change(**switch)  # says that a model is loaded or unloaded
        # LlamaFactory's own listener shows or hides `mm_box` by the name alone: ours has the last word.
        model_name.change(lambda: None).then(**switch)
        return elems

    return wrapped


def _switch(engine, model_name: str):
    from llamafactory.webui.common import is_multimodal

    ours = engine.chatter.compares
    return [
        gr.Column(visible=ours),
        gr.Button(visible=ours),
        gr.Button(visible=not ours),
        gr.Column(visible=not ours and is_multimodal(model_name)),
    ]
