"""What a line of a run must hold so that it can be scored: checked once, where it is read.

Logs are edited, copied by halves and merged by hand. Whatever a line holds, it is scored by the rules of its benchmark
or named in one line of words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from adcopilot.errors import UserError, shortened
from adcopilot.images import MAX_PIXELS

from . import benchmarks

__all__ = ["Kind", "check_line", "one_of"]

#: What a value must be, in words, and whether it is.
Kind = tuple[str, Callable[[Any], bool]]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer of 400 digits
        return False


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_options(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and all(map(_is_text, value.values())))


def _is_size(value: Any) -> bool:
    sides = value if isinstance(value, list) and len(value) == 2 else [None]
    # More is no image that could be opened, and a mask of it would fill the memory.
    return all(_is_number(side) and side > 0 for side in sides) and math.prod(map(float, sides)) <= MAX_PIXELS


def _is_box(value: Any) -> bool:
    box = value.get("bbox_2d") if isinstance(value, dict) else None
    return (
        isinstance(box, list)
        and len(box) == 4
        and all(map(_is_number, box))
        and _is_text(value.get("label"))
        and _is_texts(value.get("names", []))
    )


TEXT: Kind = ("a text", _is_text)
TEXTS: Kind = ("a list of texts", _is_texts)
NAME: Kind = ("a text that is not empty", lambda value: _is_text(value) and bool(value))
WHOLE: Kind = ("a whole number", lambda value: type(value) is int and abs(value) < 1 << 53)
BOOL: Kind = ("true or false", lambda value: isinstance(value, bool))
PLACE: Kind = ("a path with folders", lambda value: _is_text(value) and len([p for p in value.split("/") if p]) > 1)
SIZE: Kind = (f"two sides of an image of at most {MAX_PIXELS:,} pixels", _is_size)
CHOICE: Kind = ("letters with their texts", lambda value: _is_options(value) and bool(value))
BOXES: Kind = ("a list of boxes with labels", lambda value: isinstance(value, list) and all(map(_is_box, value)))
MASK: Kind = (
    "run lengths of a mask",
    lambda value: isinstance(value, dict) and _is_size(value.get("size")) and _is_text(value.get("counts")),
)


def one_of(*names: str) -> Kind:
    """One of these texts."""
    return f"one of {', '.join(names)}", lambda value: isinstance(value, str) and value in names


#: Field, with a dot for a field within, → what it must be. A question mark: it may be missing. Of every line; a
#: benchmark has more, in `Benchmark.line` and `Benchmark.some`.
_ALL: Mapping[str, Kind] = {
    "key": NAME,
    "item": NAME,
    "group?": TEXT,
    "images?": ("a list of paths", _is_texts),
    "question": TEXT,
    "options": ("letters with their texts, or null", _is_options),
    "meta": ("an object", lambda value: isinstance(value, dict)),
    "reply": ("an object", lambda value: isinstance(value, dict)),
    "reply.text": TEXT,
    "reply.seconds?": ("a finite number", _is_number),
    "reply.truncated?": BOOL,
    "reply.refused?": BOOL,
    "reply.error?": TEXT,
    "reply.option_logprobs?": (
        "letters with finite logarithms of probabilities",
        lambda value: isinstance(value, dict) and all(_is_number(one) and one <= 1e-3 for one in value.values()),
    ),
}
_ABSENT = object()


def check_line(record: dict[str, Any], where: str, benchmark: str = "") -> dict[str, Any]:
    """A line of a run, if it can be scored; halves of characters in its answer are replaced.

    Args:
        record: the line.
        where: file and number of the line.
        benchmark: whose fields it must have; of none that is known, those that all lines have.

    Raises:
        UserError: a field is missing or holds something else; it names the line and the field.
    """
    _check(record, _ALL, where)
    known = benchmarks.benchmark(benchmark) if benchmark in benchmarks.NAMES else None
    fields = known.line if known else {}
    _check(record, fields, where)
    for (name, value), more in known.some.items() if known else ():
        if _at(record, name) == value:
            _check(record, more, where)
    if {"reference", "meta.form"} & fields.keys() and record["options"]:
        _check(record, {"reference": one_of(*record["options"])}, where)
    mask = record.get("mask")
    if mask is not None and [int(side) for side in mask["size"]] != [int(side) for side in record["size"][::-1]]:
        raise UserError(f"{where}: its mask is of another size than its image; remove or repair this line")
    text = record["reply"]["text"]
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()
    return {**record, "reply": {**record["reply"], "text": text}}


def _check(record: Mapping[str, Any], fields: Mapping[str, Kind], where: str) -> None:
    for name, (words, good) in fields.items():
        value = _at(record, name.rstrip("?"))
        if value is _ABSENT and name.endswith("?"):
            continue
        if not (value is not _ABSENT and good(value)):
            found = "is missing" if value is _ABSENT else f"is {_short(value)}"
            raise UserError(f"{where}: {name.rstrip('?')} {found}, expected {words}; remove or repair this line")


def _at(value: Any, name: str) -> Any:
    for part in name.split("."):
        value = value.get(part, _ABSENT) if isinstance(value, Mapping) else _ABSENT
    return value


def _short(value: Any) -> str:
    """A value in a few characters; any integer at all."""
    if type(value) is int and abs(value) >= 1 << 200:
        return "a number of very many digits"
    text = ascii(value) if not isinstance(value, (dict, list)) else f"a {type(value).__name__} of {len(value)}"
    return shortened(text)
