"""Texts of other people's data sets: what may stand in a training record, and conversations in its form."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any

from ...errors import UserError
from ...records import IMAGE_PLACEHOLDER, check_record, make_record
from ...sample.wording import boxes_list
from .questions import ASK_BOX
from .source import Rejected

__all__ = ["caption_record", "checked_record", "checked_text", "conversation_turns", "sentence"]

# What the tokenizer or LlamaFactory reads as more than text: an <|image_pad|> in a web page that somebody pasted into
# a chat would count as an image, <|im_end|> would end the turn.
_SPECIAL = re.compile(
    r"<\|(?:endoftext|im_(?:start|end)|(?:object_ref|box|quad)_(?:start|end)|vision_(?:start|end|pad)"
    r"|image_pad|video_pad|compare_pad)\|>|<(?:video|audio)>"
)

_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}


def checked_text(text: object, *, what: str) -> str:
    """A text without white space around it.

    Raises:
        Rejected: it is no text, is empty, cannot be written as UTF-8, or holds a token of the model's own.
    """
    if not isinstance(text, str):
        raise Rejected("broken item", f"{what} is {type(text).__name__}, expected text")
    text = text.strip()
    if not text:
        raise Rejected("empty text", what, expected=True)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Rejected("broken item", f"{what} holds half a character (a lone surrogate)") from None
    special = _SPECIAL.search(text)
    if special:
        raise Rejected("special token in a text", f"{special[0]} in {what}", expected=True)
    return text


def sentence(text: str) -> str:
    """One line that starts with a capital and ends like a sentence."""
    text = " ".join(text.split())
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?", '"', "”")) else ".")


def conversation_turns(
    messages: object, *, role: str, content: str, images: int
) -> tuple[str | None, list[tuple[str, str]]]:
    """`(system, [(question, answer), …])` of a conversation whose `<image>` marks are as many as its images.

    Args:
        messages: a list of objects.
        role, content: their fields, as in ("from", "value").
        images: of the item.

    Raises:
        Rejected: the list is broken, speakers do not alternate, or marks do not fit.
    """
    if not isinstance(messages, list) or not messages:
        raise Rejected("broken item", "no conversation in it")
    spoken: list[tuple[str, str]] = []
    for index, message in enumerate(messages):
        found = message.get(role) if isinstance(message, dict) else message
        if not isinstance(message, dict) or not isinstance(found, str) or found not in _ROLES:
            raise Rejected("broken item", f"message {index} has {role} {found!r:.60}")
        spoken.append((_ROLES[found], checked_text(message.get(content), what=f"message {index}")))
    system = spoken.pop(0)[1] if spoken[0][0] == "system" else None
    expected = [("user", "assistant")[index % 2] for index in range(len(spoken))]
    if not spoken or [who for who, _ in spoken] != expected or len(spoken) % 2:
        order = " ".join(who for who, _ in spoken[:6])
        raise Rejected("speakers out of order", f"{order} …, expected user and assistant in turn", expected=True)
    marks = sum(text.count(IMAGE_PLACEHOLDER) for _, text in spoken) + (system or "").count(IMAGE_PLACEHOLDER)
    if marks != images:
        raise Rejected("<image> marks and images differ", f"{marks} marks, {images} images", expected=True)
    if any(IMAGE_PLACEHOLDER in text for who, text in spoken if who == "assistant"):
        raise Rejected("<image> in an answer", expected=True)
    texts = [text for _, text in spoken]
    return system, list(zip(texts[::2], texts[1::2], strict=True))


def checked_record(
    source: str,
    key: str,
    *,
    images: Sequence[str] = (),
    turns: Sequence[tuple[str, str]],
    sizes: Sequence[tuple[int, int]] = (),
    system: str | None = None,
    task: str = "dialogue",
    answer: str = "",
    boxes: Sequence[Sequence[int]] = (),
    labels: Sequence[str] = (),
    mask: str = "",
) -> dict[str, Any]:
    """The record of an item, checked with its images' (width, height).

    Args:
        source, key: the source's name, and the item's in it.
        images, turns, system: as `records.make_record`.
        sizes: of the images.
        task, answer, boxes, labels, mask: what a record of Chat-AD has.

    Raises:
        Rejected: it would be no valid record.
    """
    fields = {"task": task, "answer": answer, "boxes": list(boxes), "labels": list(labels), "mask": mask}
    about = {"source": source, "key": f"{source}/{key}", "category": "general"}
    try:
        record = make_record(images=images, turns=turns, system=system, **fields, **about)
        check_record(record, name="record", sizes=sizes)
        return record
    except UserError as error:
        raise Rejected("not a valid record", str(error)) from None


def caption_record(
    source: str,
    key: str,
    *,
    rng: random.Random,
    questions: Sequence[str],
    caption: str,
    boxes: Sequence[Sequence[int]] = (),
    label: str = "",
    box_share: float = 0.0,
    **more: Any,
) -> dict[str, Any]:
    """The record of an item that is one question about pictures, answered by what its source says of them.

    Args:
        rng: chooses the question, and who is asked for boxes.
        questions: to choose from.
        caption: the answer.
        boxes, label: of what the caption is about, in pixels of the last picture.
        box_share: of the records with boxes, how many are asked for them, which then end the answer.
        source, key, more: as `checked_record`.

    Raises:
        Rejected: as `checked_record`.
    """
    question, answer = rng.choice(questions), caption
    # Drawn even without a box, so that boxes change nothing else.
    tail, with_boxes = rng.choice(ASK_BOX), rng.random() < box_share
    if boxes and with_boxes:
        question, answer = question + tail, f"{caption} {boxes_list([(box, label) for box in boxes])}"
    about = {"task": "caption", "answer": answer, "boxes": boxes, "labels": [label] * len(boxes)}
    return checked_record(source, key, turns=[(question, answer)], **about, **more)
