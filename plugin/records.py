"""The Chat-AD record: LlamaFactory's ShareGPT form with several images, one JSON object a line.

    {"messages": [{"role": "user", "content": "<image><image>…"}, {"role": "assistant", "content": "…"}],
     "images": ["template.png", "query.png"], …}

`<image>` stands for the next of `images`. Boxes in the text are `"bbox_2d": [x1, y1, x2, y2]`, pixels of the original
(upright) image, corner to corner, so that `0 <= x1 < x2 <= width`; a box refers to the last image before it. What else
a record carries (task, boxes, source …) LlamaFactory ignores and GRPO reads.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .errors import UserError
from .images import image_size

__all__ = ["IMAGE_PLACEHOLDER", "check_box", "check_record", "make_record", "record_boxes", "record_image_sizes"]

IMAGE_PLACEHOLDER = "<image>"

# The key as `boxes.map_text_boxes` reads it (either quotes, escaped or not), then a list or a list of lists. What
# stands between the brackets is looked at afterwards: a box of three numbers is an error here, not "no box".
# Possessive, or a list that is not closed is tried in all the ways to divide its white space: 2^n for n boxes.
_KEY = r"""["']bbox_2d\\*["']\s*:\s*"""
_EVENT = re.compile(rf"{re.escape(IMAGE_PLACEHOLDER)}|{_KEY}\[((?:\s*+\[[^\[\]]*\]\s*+,?)++\s*+|[^\[\]]*)\]")

# How a prompt explains the format; not a box.
_FORMAT_EXAMPLE = re.compile(r"\s*x_?1\s*,\s*y_?1\s*,\s*x_?2\s*,\s*y_?2\s*,?\s*", re.IGNORECASE)


def make_record(
    *, images: Sequence[str], turns: Sequence[tuple[str, str]], system: str | None = None, **extra: Any
) -> dict[str, Any]:
    """Build a record; `<image>` marks are put before the first question unless some turn already has them.

    Args:
        images: paths as they stand in the file, relative to LlamaFactory's `media_dir`; the template before the query.
        turns: (question, answer) pairs.
        system: the system message, if any.
        extra: further JSON fields, kept after the two that LlamaFactory reads.

    Raises:
        UserError: `check_record` finds a fault.
    """
    messages = [] if system is None else [{"role": "system", "content": system}]
    for question, answer in turns:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    if turns and not any(IMAGE_PLACEHOLDER in message["content"] for message in messages):
        first = messages[0 if system is None else 1]
        first["content"] = IMAGE_PLACEHOLDER * len(images) + first["content"]
    record = {"messages": messages, "images": list(images), **extra}
    check_record(record, name="record")
    return record


def check_record(record: Any, *, name: str, sizes: Sequence[tuple[int, int]] | None = None) -> None:
    """Refuse a record that would train something else than it says, or stop a run half way.

    Args:
        record: the parsed JSON line.
        name: file and line for the message.
        sizes: (width, height) of each of its images in pixels, upright; without them the extents are not checked.

    Raises:
        UserError: the roles do not alternate, `<image>` marks and `images` differ in number, or a box is malformed,
            inverted, empty, before any image, or outside its image.
    """
    if not isinstance(record, dict):
        raise UserError(f"{name}: expected a JSON object, got {type(record).__name__}")
    messages, images = record.get("messages"), record.get("images", [])
    if not isinstance(messages, list) or not messages:
        raise UserError(f"{name}: 'messages' is {_short(messages)}, expected a list of user and assistant messages")
    if not isinstance(images, list) or not all(isinstance(path, str) and path for path in images):
        raise UserError(f"{name}: 'images' is {_short(images)}, expected a list of file names")
    _check_roles(messages, name)
    marks = sum(message["content"].count(IMAGE_PLACEHOLDER) for message in messages)
    if marks != len(images):
        raise UserError(
            f"{name}: {marks} {IMAGE_PLACEHOLDER} in the messages but {len(images)} in 'images'; "
            f"write one {IMAGE_PLACEHOLDER} for each image"
        )
    if sizes is not None and len(sizes) != len(images):
        raise ValueError(f"{name}: {len(sizes)} sizes for {len(images)} images")
    for image, box in record_boxes(record, name=name):
        if image < 0:
            raise UserError(f"{name}: box {box} stands before any {IMAGE_PLACEHOLDER}; move it after its image")
        check_box(box, name=name, size=None if sizes is None else sizes[image], image=images[image])


def check_box(box: Any, *, name: str, size: tuple[int, int] | None = None, image: str = "the image") -> None:
    """Refuse a box that is not `[x1, y1, x2, y2]` with `0 <= x1 < x2 <= width` and the same for y.

    Raises:
        UserError: naming the box and what is wrong with it.
    """
    numbers = isinstance(box, (list, tuple)) and len(box) == 4 and all(_is_number(value) for value in box)
    if not numbers:
        raise UserError(f"{name}: box {_short(box)} is not four numbers, expected [x1, y1, x2, y2]")
    x1, y1, x2, y2 = box
    if x1 >= x2 or y1 >= y2:
        kind = "empty" if x1 == x2 or y1 == y2 else "inverted"
        raise UserError(f"{name}: box {list(box)} is {kind}, expected x1 < x2 and y1 < y2")
    if min(x1, y1) < 0 or (size is not None and (x2 > size[0] or y2 > size[1])):
        extent = "" if size is None else f" ({size[0]}×{size[1]} pixels)"
        raise UserError(f"{name}: box {list(box)} is outside {image}{extent}; boxes are pixels of the original image")


def record_boxes(record: dict[str, Any], *, name: str) -> Iterator[tuple[int, list[int | float]]]:
    """Yield `(index of the image it refers to, [x1, y1, x2, y2])` for each `"bbox_2d"` in a record's messages.

    The index is that of the last `<image>` before the box, -1 when there is none. Numbers keep their kind; that there
    are four of them is for `check_box` to say.

    Raises:
        UserError: the brackets hold something other than numbers, or than the x1, y1, x2, y2 of a prompt.
    """
    image = -1
    for event in _EVENT.finditer("\n".join(message["content"] for message in record["messages"])):
        if event[1] is None:
            image += 1
            continue
        for inside in re.findall(r"\[([^\[\]]*)\]", event[1]) or [event[1]]:
            if _FORMAT_EXAMPLE.fullmatch(inside):
                continue
            try:
                yield image, [_number(value) for value in inside.strip().rstrip(",").split(",")]
            except ValueError:
                raise UserError(
                    f"{name}: box [{_short(inside)}] is not four numbers, expected [x1, y1, x2, y2]"
                ) from None


def record_image_sizes(record: dict[str, Any], *, name: str, media_dir: str | Path = ".") -> list[tuple[int, int]]:
    """(width, height) of each image of a record, from the files' headers.

    Raises:
        UserError: an image cannot be opened; the message names the record and the file.
    """
    sizes = []
    for path in record.get("images", []):
        try:
            sizes.append(image_size(Path(media_dir, path)))
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
    return sizes


def _check_roles(messages: list[Any], name: str) -> None:
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise UserError(f"{name}: message {index} is {_short(message)}, expected a role and a text as content")
    roles = [message.get("role") for message in messages]
    start = 1 if roles[0] == "system" else 0
    expected = roles[:start] + [("user", "assistant")[index % 2] for index in range(len(roles) - start)]
    if roles != expected:
        index = next(i for i, (found, want) in enumerate(zip(roles, expected, strict=True)) if found != want)
        raise UserError(f"{name}: message {index} has role {roles[index]!r}, expected {expected[index]!r}")
    if roles[-1] != "assistant":
        raise UserError(f"{name}: the last message is the {roles[-1]}'s, expected the assistant's answer")


def _number(text: str) -> int | float:
    text = text.strip()
    return int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)


def _is_number(value: Any) -> bool:
    # compared and not converted: JSON may hold an integer of any length, which no float holds
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -math.inf < value < math.inf


def _short(value: Any) -> str:
    text = " ".join(repr(value).split()) if not isinstance(value, str) else " ".join(value.split())
    return text if len(text) <= 60 else text[:57] + "…"
