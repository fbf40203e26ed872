"""The chat model behind LlamaBoard's chat tab and `llamafactory-cli webchat`, for models that compare images.

A turn may bring several images (templates, then the query), which stay with that turn for the rest of the
conversation; the boxes of an answer are drawn on the query. Other models are left to LlamaFactory's own methods.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import save_pil_to_cache
from gradio.utils import get_upload_folder
from llamafactory.data import Role
from llamafactory.extras.constants import IMAGE_PLACEHOLDER
from llamafactory.webui.chatter import WebChatModel

from ...boxes import boxes_in_image, map_text_boxes
from ...drawing import draw_boxes
from ...errors import UserError, one_line
from ...images import image_size, open_image
from ..matching import is_ours
from ..mm_plugin import size_for_model

#: Key of a message's images among the messages that the page keeps: paths of uploaded files.
IMAGES = "images"

#: The elements of LlamaFactory's chat that set how an answer is made, in the order in which `answer` takes them.
SETTINGS = ("max_new_tokens", "top_p", "temperature", "skip_special_tokens", "escape_html", "enable_thinking")

#: LlamaFactory's lists: what the page shows, and what the model is told.
Chat = list[dict[str, Any]]


class ComparingChatModel(WebChatModel):
    """LlamaFactory's `WebChatModel`, which can also be asked about a template and a query."""

    @property
    def compares(self) -> bool:
        """Whether the loaded model is an AD-Copilot model, whatever name was chosen for it."""
        return self.loaded and is_ours(self.engine.template)

    def load_model(self, data) -> Generator[str, None, None]:
        """As upstream's; a user's mistake is told in words instead of as an "Error"."""
        try:
            yield from super().load_model(data)
        except UserError as error:
            gr.Warning(str(error))
            yield str(error)

    def stream_chat(self, messages, system=None, tools=None, images=None, *args, **kwargs) -> Iterator[str]:
        """As upstream's, with the images that `ask` kept in the messages."""
        kept = [path for message in messages for path in message.get(IMAGES, ())]
        if kept:
            messages = [{"role": message["role"], "content": message["content"]} for message in messages]
        return super().stream_chat(messages, system, tools, kept or images, *args, **kwargs)

    def look(self, templates: list[dict[str, Any]] | None, query: dict[str, Any] | None) -> list[str]:
        """Check the images of the slots before anything is asked about them.

        Args:
            templates: value of the gallery, as gradio has it before preprocessing: `{"image": {"path": …}, …}` each,
                with `video` as the key for a film.
            query: value of the query image, before preprocessing too. Gradio's own would decode it in its own way
                (16-bit grey turns white) and fail without a word at a file that is no image.

        Returns:
            Paths of the uploaded files, templates first, the query last; empty for a question about no image.

        Raises:
            gr.Error: what is wrong with the images, in words; the question stays where it was typed.
        """
        if templates and not query:
            raise gr.Error("There are template images but no query image: add the image of the part in question.")
        # a film in the gallery is told apart from an image by its key alone; as an image it is refused in words
        files = [one.get("image") or one["video"] for one in templates or []] + ([query] if query else [])
        paths = [file["path"] for file in files]
        try:
            for path in paths:
                size_for_model(open_image(path, name=Path(path).name).size, self.engine.processor)
        except UserError as error:
            raise gr.Error(str(error)) from error
        return paths

    def ask(
        self, chatbot: Chat, messages: Chat, role: str, query: str, escape_html: bool, images: list[str]
    ) -> tuple[Chat, Chat]:
        """Add a question, and the images of the slots if they are not those of the turn before.

        All images are sent again when one has changed: the query is always compared with its template, not with the
        query before.

        Args:
            chatbot, messages: the conversation so far.
            role, query, escape_html: as `WebChatModel.append`. Boxes in the query are in pixels of the image.
            images: from `look`.

        Returns:
            The conversation with the question.

        Raises:
            gr.Error: the text places other images than there are; it stays where it was typed.
        """
        new = images if images != last_images(messages) else []
        marks = query.count(IMAGE_PLACEHOLDER)
        if marks not in (0, len(new)):
            raise gr.Error(
                f"The text has {marks} {IMAGE_PLACEHOLDER} for {len(new)} new images: write one for each, or none."
            )
        question = {"role": role, "content": query if marks else IMAGE_PLACEHOLDER * len(new) + query}
        if new:
            question[IMAGES] = new
        told = [*messages, question]
        if seen := last_images(told):
            size, model_size = self._sizes(seen[-1])
            question["content"] = map_text_boxes(question["content"], size, model_size)
        shown, _, _ = self.append(chatbot, messages, role, query, escape_html)
        pictures = [{"role": "user", "content": _side_by_side(new)}] if new else []
        return [*chatbot, *pictures, shown[-1]], told

    def answer(
        self, chatbot: Chat, messages: Chat, query: str, lang: str, system: str, tools: str, *settings: Any
    ) -> Generator[tuple[Chat, Chat, Any], None, None]:
        """Answer the question that `ask` added.

        Boxes are shown in pixels of the query image, upright, and drawn on it below the answer; what the model is told
        of its own answer in later turns stays in the pixels that it sees.

        Args:
            chatbot, messages: from `ask`.
            query: the question as it was typed.
            lang, system, tools: as `WebChatModel.stream`.
            settings: the values of `SETTINGS`.

        Yields:
            What the page shows, what the model is told next time, and the text of the input field.

        Raises:
            gr.Error: the engine failed. The question is taken out of the conversation, back into the input field.
        """
        images = last_images(messages)
        sizes = self._sizes(images[-1]) if images else None
        asked, told = list(chatbot), messages
        try:
            # By name: releases and main of LlamaFactory have them in different orders. Further results are a fork's.
            for shown, told, *_ in self.stream(
                chatbot=list(chatbot),
                messages=messages,
                lang=lang,
                system=system,
                tools=tools,
                **dict.fromkeys(("image", "video", "audio")),
                **dict(zip(SETTINGS, settings, strict=True)),
            ):
                if sizes:
                    text = map_text_boxes(shown[-1]["content"], sizes[1], sizes[0])
                    shown = [*shown[:-1], {**shown[-1], "content": text}]
                asked = shown
                yield shown, told, ""
        except Exception as error:
            turn = 1 + (IMAGES in messages[-1])
            yield chatbot[:-turn], messages[:-1], query
            raise gr.Error(f"No answer: {one_line(error)}") from error
        if sizes and told[-1]["role"] == Role.ASSISTANT.value:
            boxes = boxes_in_image(self._conclusion(told[-1]["content"]), sizes[1], sizes[0])
            if boxes:
                yield [*asked, self._drawing(images[-1], boxes)], told, ""

    def _conclusion(self, text: str) -> str:
        """An answer without its reasoning; nothing of one whose reasoning was cut off."""
        # LlamaFactory's words around reasoning have line breaks in them, which models leave out
        start, end = (word.strip() for word in self.engine.template.thought_words)
        return "" if start in text and end not in text else text.rpartition(end)[2]

    def _sizes(self, path: str) -> tuple[tuple[int, int], tuple[int, int]]:
        """(width, height) of an image file that `look` has seen, upright, and of the image as the model sees it."""
        size = image_size(path)
        return size, size_for_model(size, self.engine.processor)

    def _drawing(self, path: str, boxes: list[dict[str, Any]]) -> dict[str, Any]:
        picture = draw_boxes(open_image(path), boxes)
        file = save_pil_to_cache(picture, cache_dir=get_upload_folder(), name="boxes", format="png")
        names = ", ".join(dict.fromkeys(box["label"] for box in boxes if box["label"])) or "boxes"
        return {"role": "assistant", "content": {"path": file, "alt_text": f"{Path(path).name}: {names}"}}


def last_images(messages: Chat) -> list[str]:
    """Paths of the images that came last in a conversation, the query at the end; empty if none has come."""
    return next((message[IMAGES] for message in reversed(messages) if message.get(IMAGES)), [])


def _side_by_side(paths: list[str]) -> gr.Gallery:
    return gr.Gallery(
        [(path, Path(path).name) for path in paths],
        columns=len(paths),
        height="auto",
        object_fit="contain",
        show_label=False,
        interactive=False,
    )
