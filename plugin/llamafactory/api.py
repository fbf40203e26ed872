"""`llamafactory-cli api` with AD-Copilot: what a request got wrong is told with HTTP 400, not 500.

LlamaFactory puts `<image>` where a request has an image, into the text that the user wrote, and counts the marks
afterwards. A mark that was typed is no image, so it would be counted for one; here it is refused before, and whatever
else this package says about a request becomes the answer to it.
"""

import binascii
import json
from collections.abc import AsyncGenerator, Iterator
from typing import Any

from llamafactory.extras.constants import AUDIO_PLACEHOLDER, IMAGE_PLACEHOLDER, VIDEO_PLACEHOLDER
from PIL import Image

from ..errors import UserError, one_line
from .hook import wrap_once
from .matching import is_ours
from .server_engine import ServerEngine

_MARKS = (IMAGE_PLACEHOLDER, VIDEO_PLACEHOLDER, AUDIO_PLACEHOLDER)
#: What reading a request's images raises besides.
_BAD_REQUEST = (UserError, Image.UnidentifiedImageError, Image.DecompressionBombError, binascii.Error)


#: What LlamaFactory must have for this step (`gate.py`).
NEEDS = {
    "llamafactory.api.chat:create_chat_completion_response": ("request", "chat_model"),
    "llamafactory.api.chat:create_stream_chat_completion_response": ("request", "chat_model"),
}


def register(api_chat) -> None:
    """Wrap the two functions of `llamafactory.api.chat` that answer a request; other models' are left alone."""
    for name, wrap in (
        ("create_chat_completion_response", _whole),
        ("create_stream_chat_completion_response", _streamed),
    ):
        wrap_once(api_chat, name, wrap)


def check_texts(request) -> None:
    """Refuse texts that would be taken for images, and parts of a message without what they are named for.

    A system message stands outside the messages in which marks are counted.

    Raises:
        UserError: naming the message, and how an image is sent.
    """
    for number, message in enumerate(request.messages):
        if number == 0 and message.role.value == "system":
            continue
        for text in _texts(message, number):
            mark = next((mark for mark in _MARKS if mark in text), None)
            if mark is not None:
                kind = f"{mark[1:-1]}_url"
                raise UserError(
                    f"message {number}: its text holds {mark}, which stands for {kind[:-4]} data and not for words; "
                    f'send that as a part {{"type": "{kind}", …}} of the content, or leave {mark} out'
                )


def _texts(message, number: int) -> Iterator[str]:
    for call in message.tool_calls or ():
        yield from (call.function.name, call.function.arguments)
    if isinstance(message.content, str):
        yield message.content
    elif message.content is None and not message.tool_calls:
        raise UserError(f"message {number}: has no content, expected a text or a list of parts")
    for part in message.content if isinstance(message.content, list) else ():
        if getattr(part, part.type) is None:
            raise UserError(f"message {number}: a part of type {part.type} has no {part.type}")
        if part.type == "text":
            yield part.text


def _error(error: Exception, chat_model) -> tuple[int, str]:
    """(HTTP status, message): a server behind this one that fails is no fault of the request."""
    status = 502 if isinstance(chat_model.engine, ServerEngine) else 400
    return status, one_line(error)


def _checked(request, chat_model) -> None:
    from fastapi import HTTPException

    try:
        check_texts(request)
    except UserError as error:
        raise HTTPException(status_code=400, detail=str(error)) from error


def _whole(create):
    async def wrapped(request, chat_model):
        if not is_ours(chat_model.engine.template):
            return await create(request, chat_model)
        from fastapi import HTTPException

        _checked(request, chat_model)
        try:
            return await create(request, chat_model)
        except _BAD_REQUEST as error:
            status, message = _error(error, chat_model)
            raise HTTPException(status_code=status, detail=message) from error

    return wrapped


def _streamed(create):
    # Not a generator itself: what is raised here comes before the answer's status is sent.
    def wrapped(request, chat_model):
        if not is_ours(chat_model.engine.template):
            return create(request, chat_model)
        _checked(request, chat_model)
        return _told(create(request, chat_model), chat_model)

    return wrapped


async def _told(pieces: AsyncGenerator[str, None], chat_model) -> AsyncGenerator[str, Any]:
    """The pieces of an answer; an error on the way is told in the form that OpenAI's clients know."""
    try:
        async for piece in pieces:
            yield piece
    except _BAD_REQUEST as error:
        status, message = _error(error, chat_model)
        yield json.dumps({"error": {"message": message, "code": status}}, ensure_ascii=False)
        yield "[DONE]"
