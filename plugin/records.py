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
from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .boxes import SHARE_LIMIT
from .boxes.named import about, remedy
from .boxes.notations import Expression, bare_lists, scan_boxes
from .errors import UserError, shortened
from .images import image_size

__all__ = [
    "IMAGE_PLACEHOLDER",
    "REMEDIES",
    "check_box",
    "check_notations",
    "check_record",
    "foreign_boxes",
    "make_record",
    "record_boxes",
    "record_image_sizes",
    "unnamed_boxes",
]

IMAGE_PLACEHOLDER = "<image>"

# What LlamaFactory would look for a file for.
_OTHER_MEDIA = ("<video>", "<audio>")

#: What can be done about a box of a data file that `check_box` refuses.
REMEDIES = MappingProxyType(
    {
        "relative": "; convert them with `adcopilot data register NAME FILE --boxes relative`",
        "relative-xywh": "; convert them with `adcopilot data register NAME FILE --boxes relative-xywh`",
        "thousand": "; if they are 0 to 1000, convert them with `adcopilot data register NAME FILE --boxes thousand`",
        "pixels": "; `adcopilot data register NAME FILE --boxes pixels` writes it so",
    }
)

# How a prompt explains the format; not a box.
_FORMAT_EXAMPLE = re.compile(r"\s*x_?1\s*,\s*y_?1\s*,\s*x_?2\s*,\s*y_?2\s*,?\s*", re.IGNORECASE)
# What stands between two numbers of a box, also within JSON that is a JSON string.
_COMMA = re.compile(r"(?:\s|\\[nrt])*+,(?:\s|\\[nrt])*+")
# No box is written longer; what is searched beyond would be searched again for each key.
_LONGEST = 1000
_PIXELS = "boxes are pixels of the original image"


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
        UserError: the roles do not alternate, an answer is empty, `<image>` marks and `images` differ in number, or a
            box is malformed, inverted, empty, before any image, outside its image, or in a notation that training does
            not map.
    """
    check_form(record, name=name)
    images = record.get("images", [])
    if sizes is not None and len(sizes) != len(images):
        raise ValueError(f"{name}: {len(sizes)} sizes for {len(images)} images")
    check_notations(record, name=name)
    for image, box in record_boxes(record, name=name):
        if image < 0:
            raise UserError(f"{name}: box {box} stands before any {IMAGE_PLACEHOLDER}; move it after its image")
        size = None if sizes is None else sizes[image]
        check_box(box, name=name, size=size, image=images[image], remedies=REMEDIES)


def check_form(record: Any, *, name: str) -> None:
    """What `check_record` says of a record's form: everything but its boxes.

    Raises:
        UserError: the roles do not alternate, an answer is empty, `<image>` marks and `images` differ in number, or
            there are other media.
    """
    if not isinstance(record, dict):
        raise UserError(f"{name}: expected a JSON object, got {type(record).__name__}")
    messages, images = record.get("messages"), record.get("images", [])
    if not isinstance(messages, list) or not messages:
        raise UserError(f"{name}: 'messages' is {_short(messages)}, expected a list of user and assistant messages")
    if not isinstance(images, list) or not all(isinstance(path, str) and path for path in images):
        raise UserError(f"{name}: 'images' is {_short(images)}, expected a list of file names")
    _check_roles(messages, name)
    other = next((mark for mark in _OTHER_MEDIA for message in messages if mark in message["content"]), None)
    if other:
        raise UserError(
            f"{name}: {other} in the messages, expected images only; leave the record out or write it otherwise"
        )
    marks = sum(message["content"].count(IMAGE_PLACEHOLDER) for message in messages)
    if marks != len(images):
        raise UserError(
            f"{name}: {marks} {IMAGE_PLACEHOLDER} in the messages but {len(images)} in 'images'; "
            f"write one {IMAGE_PLACEHOLDER} for each image"
        )


def check_box(
    box: Any,
    *,
    name: str,
    size: tuple[int, int] | None = None,
    image: str = "the image",
    remedies: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Refuse a box that is not `[x1, y1, x2, y2]` with `0 <= x1 < x2 <= width` and the same for y.

    One without any number above 1 is refused too: its numbers are shares of the sides. That costs the box of the one
    pixel in the upper left corner, `[0, 0, 1, 1]`, which would be read as the whole image elsewhere.

    Args:
        box: what stands there.
        name, image: of the record and the image, for messages.
        size: (width, height) of the image in pixels; without it the extent is not checked.
        remedies: `REMEDIES` where the box stands in a data file.

    Raises:
        UserError: naming the box and what is wrong with it.
    """
    numbers = isinstance(box, (list, tuple)) and len(box) == 4 and all(_is_number(value) for value in box)
    if not numbers:
        raise UserError(f"{name}: box {_short(box)} is not four numbers, expected [x1, y1, x2, y2]")
    x1, y1, x2, y2 = box
    check_shares(box, name=name, remedies=remedies)
    if x1 >= x2 or y1 >= y2:
        kind = "empty" if x1 == x2 or y1 == y2 else "inverted"
        raise UserError(f"{name}: box {list(box)} is {kind}, expected x1 < x2 and y1 < y2")
    if min(x1, y1) < 0 or (size is not None and (x2 > size[0] or y2 > size[1])):
        extent = "" if size is None else f" ({size[0]}×{size[1]} pixels)"
        hint = remedies.get("thousand", "") if min(x1, y1) >= 0 and max(x2, y2) <= 1000 else ""
        raise UserError(f"{name}: box {list(box)} is outside {image}{extent}; {_PIXELS}{hint}")


def check_shares(box: Sequence[float], *, name: str, remedies: Mapping[str, str] = MappingProxyType({})) -> None:
    """The part of `check_box` about boxes without any number above 1.

    Raises:
        UserError: it is one.
    """
    if max(map(abs, box)) <= SHARE_LIMIT:
        if set(box) <= {0, 1}:
            what = "is one pixel, or the whole image in shares of its sides, and nobody can tell which"
        else:
            what = "has no number above 1, so its numbers look like shares of the image's sides"
        kind = "relative" if box[0] < box[2] and box[1] < box[3] else "relative-xywh"
        raise UserError(f"{name}: box {list(box)} {what}; {_PIXELS}{remedies.get(kind, '')}")


def check_notations(record: dict[str, Any], *, name: str) -> None:
    """Refuse boxes and points that training would leave as they are, because they are not `"bbox_2d"` lists.

    Texts before the first image and records without one are not looked at: there they are about nothing.

    Raises:
        UserError: naming each notation, how many boxes it has, and what can be done.
    """
    faults = [
        f"{count} {'box' if count == 1 else 'boxes'} written as {_short(example)} ({about(syntax)}), which training "
        f"does not map; {remedy(syntax)}"
        for syntax, (count, example) in foreign_boxes(record).items()
    ]
    if faults:
        raise UserError(f"{name}: {'; '.join(faults)}")


def foreign_boxes(record: dict[str, Any]) -> dict[str, tuple[int, str]]:
    """Syntax of `boxes.notations` → (number of boxes or points, the first as it is written) of a record's messages,
    but for those of the record's own notation."""
    found: dict[str, tuple[int, str]] = {}
    text = _text(record)
    start = text.find(IMAGE_PLACEHOLDER)
    for expression in scan_boxes(text) if start >= 0 else ():
        if expression.syntax != "bbox_2d" and expression.start > start and expression.places:
            count, example = found.get(expression.syntax, (0, text[expression.start : expression.stop]))
            found[expression.syntax] = (count + expression.places, example)
    return found


def unnamed_boxes(record: dict[str, Any]) -> int:
    """How many lists of four numbers behind a record's first image look like corners in pixels, but stand under no key
    and in no tag: training leaves them as they are. Shares of the sides stay right, whatever size the image has."""
    text = _text(record)
    start = text.find(IMAGE_PLACEHOLDER)
    if start < 0:
        return 0
    named = [(expression.start, expression.stop) for expression in scan_boxes(text)]
    count = 0
    for found in bare_lists(text):
        if found.start > start and not any(low <= found.start < high for low, high in named):
            boxes = ([number.value for number in box] for box in found.boxes)
            count += sum(a < c and b < d and max(c, d) > SHARE_LIMIT for a, b, c, d in boxes)
    return count


def record_boxes(record: dict[str, Any], *, name: str) -> Iterator[tuple[int, list[int | float]]]:
    """Yield `(index of the image it refers to, [x1, y1, x2, y2])` for each `"bbox_2d"` in a record's messages.

    The index is that of the last `<image>` before the box, -1 when there is none. Numbers keep their kind; that there
    are four of them is for `check_box` to say.

    Raises:
        UserError: the brackets hold something other than numbers, or than the x1, y1, x2, y2 of a prompt.
    """
    text = _text(record)
    marks = [match.start() for match in re.finditer(re.escape(IMAGE_PLACEHOLDER), text)]
    for expression in scan_boxes(text):
        if expression.syntax != "bbox_2d":
            continue
        image = bisect(marks, expression.start) - 1
        if expression.closed and not _is_plain(text, expression):
            raise UserError(
                f"{name}: box {_short(text[slice(*expression.value)])} is not four numbers in brackets, expected "
                f"[x1, y1, x2, y2]{REMEDIES['pixels']}"
            )
        if expression.closed:
            for item in expression.items:
                yield image, [number.value for number in item]
        else:
            inside = _what_is_no_number(text, expression)
            if inside is not None and not _FORMAT_EXAMPLE.fullmatch(inside):
                raise UserError(f"{name}: box [{_short(inside)}] is not four numbers, expected [x1, y1, x2, y2]")


def _text(record: dict[str, Any]) -> str:
    return "\n".join(message["content"] for message in record["messages"])


def _is_plain(text: str, expression: Expression) -> bool:
    """Whether a value is a list of numbers, or of such lists, with commas between them."""
    pairs = [pair for item in expression.items for pair in pairwise(item)]
    return (expression.plain or all(len(item) == 2 for item in expression.items)) and all(
        _COMMA.fullmatch(text, one.stop, other.start) for one, other in pairs
    )


def _what_is_no_number(text: str, expression: Expression) -> str | None:
    """What stands in the brackets in which reading stopped; None where they are not closed, or there are none."""
    start, stop = expression.value
    if text.startswith("{", start):
        return text[start : start + _LONGEST]
    opening, closing = text.rfind("[", start, stop), text.find("]", stop, stop + _LONGEST)
    if opening < 0 or closing < 0 or "[" in text[stop:closing]:
        return None
    return text[opening + 1 : closing]


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
    for index, message in enumerate(messages):
        if message["role"] == "assistant" and not message["content"].strip():
            raise UserError(
                f"{name}: message {index}, an answer, is empty, which would teach to say nothing; write it"
            )


def _is_number(value: Any) -> bool:
    # compared and not converted: JSON may hold an integer of any length, which no float holds
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -math.inf < value < math.inf


def _short(value: Any) -> str:
    return shortened(value if isinstance(value, str) else repr(value))
