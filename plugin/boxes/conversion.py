"""Boxes of training text in other notations, made `"bbox_2d": [x1, y1, x2, y2]` in pixels of the original image.

LlamaFactory reads a data file as it is, and only `bbox_2d` is mapped into the model's space, so what stands there in
another notation would be trained with the wrong numbers. `NOTATIONS` has what can be converted, by the names that
`adcopilot data register --boxes` knows. Only whoever made the file can say what its numbers are: nothing is guessed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from ..errors import UserError, shortened
from . import SHARE_LIMIT, Size, scale_box
from .notations import Expression, scan

__all__ = ["NOTATIONS", "Evenness", "Notation", "about", "convert_record", "notations_of", "remedy"]

_COMMAND = "`adcopilot data register NAME FILE --boxes {}`"


@dataclass(frozen=True, kw_only=True)
class Notation:
    """What the numbers of a syntax are.

    Attributes:
        syntaxes: of `boxes.notations`.
        order: what the four numbers are: "xyxy", "yxyx" or "xywh".
        unit: what the whole side of an image is in them; 0 for pixels.
        about: for people.
    """

    syntaxes: tuple[str, ...]
    order: str = "xyxy"
    unit: int = 0
    about: str


_LISTS = ("bbox_2d", "bbox")
NOTATIONS = {
    "qwen2-vl": Notation(syntaxes=("qwen2-vl",), unit=1000, about="Qwen2-VL's, 0 to 1000"),
    "internvl": Notation(syntaxes=("internvl",), unit=1000, about="InternVL's, 0 to 1000"),
    "seed": Notation(syntaxes=("seed",), unit=1000, about="Seed-VL's, 0 to 1000"),
    "deepseek-vl2": Notation(syntaxes=("deepseek",), unit=999, about="DeepSeek-VL2's, 0 to 999"),
    "gemini": Notation(syntaxes=("box_2d",), order="yxyx", unit=1000, about="Gemini's, y first, 0 to 1000"),
    "coco": Notation(syntaxes=("bbox",), order="xywh", about="COCO's, x, y, width, height in pixels"),
    "corners": Notation(syntaxes=("bbox",), about='"bbox" with x1, y1, x2, y2 in pixels'),
    "relative": Notation(syntaxes=_LISTS, unit=1, about="x1, y1, x2, y2 as shares of the sides, 0 to 1"),
    "relative-xywh": Notation(syntaxes=_LISTS, order="xywh", unit=1, about="x, y, width, height as shares, 0 to 1"),
    "thousand": Notation(syntaxes=_LISTS, unit=1000, about="x1, y1, x2, y2 from 0 to 1000"),
    "pixels": Notation(syntaxes=("bbox_2d",), about='"bbox_2d" is in pixels, in whatever brackets'),
}
_ABOUT = {
    "bbox": "COCO's x, y, width, height, or corners under COCO's key",
    "points": "points or an outline",
    "locations": "location tokens",
    "pairs": "corners or coordinates, of which nothing says what they are shares or pixels of",
}


def notations_of(names: str) -> tuple[Notation, ...]:
    """The notations that `--boxes` names, with commas between them.

    Raises:
        UserError: there is no such notation, or two say different things about the same boxes.
    """
    found: dict[str, Notation] = {}
    for name in filter(None, (part.strip().lower() for part in names.split(","))):
        if name not in NOTATIONS:
            near = get_close_matches(name, NOTATIONS, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UserError(f"--boxes {name}: expected one of {', '.join(NOTATIONS)}{hint}")
        for other, notation in found.items():
            if other != name and set(notation.syntaxes) & set(NOTATIONS[name].syntaxes):
                raise UserError(f"--boxes {names}: {other} and {name} are about the same boxes; name one")
        found[name] = NOTATIONS[name]
    if not found:
        raise UserError(f"--boxes {names!r}: expected one of {', '.join(NOTATIONS)}")
    return tuple(found.values())


def remedy(syntax: str) -> str:
    """What can be done about boxes of a syntax that training does not map."""
    names = [name for name, notation in NOTATIONS.items() if syntax in notation.syntaxes]
    if not names:
        return 'write their bounding boxes as "bbox_2d": [x1, y1, x2, y2] in pixels, or leave the record out'
    others = f" (or {', '.join(names[1:])}, whichever they are)" if len(names) > 1 else ""
    return f"convert them with {_COMMAND.format(names[0])}{others}"


def about(syntax: str) -> str:
    """Whose syntax it is, for a message."""
    if syntax in _ABOUT:
        return _ABOUT[syntax]
    return next(notation.about for notation in NOTATIONS.values() if syntax in notation.syntaxes)


def convert_record(
    record: dict[str, Any], sizes: Sequence[Size], notations: Iterable[Notation], *, name: str
) -> tuple[dict[str, Any], int]:
    """A Chat-AD record with its boxes converted: in its messages, and in what GRPO reads, `answer` and `boxes`.

    Args:
        record: of the form that `records.check_form` passes.
        sizes: (width, height) of its images in pixels, upright; a box belongs to the last `<image>` before it, and
            what GRPO reads to the last image.
        notations: what its boxes are; those of other syntaxes stay as they are.
        name: of the record, for messages.

    Returns:
        The record, all else in it kept, and the number of boxes of its messages that were rewritten.

    Raises:
        UserError: a box does not fit its notation, or stands before any image.
    """
    chosen = {syntax: notation for notation in notations for syntax in notation.syntaxes}
    texts, count = _converted([message["content"] for message in record["messages"]], sizes, chosen, name, -1)
    messages = [{**message, "content": text} for message, text in zip(record["messages"], texts, strict=True)]
    new = {**record, "messages": messages}
    if sizes and isinstance(record.get("answer"), str):
        [new["answer"]], _ = _converted([record["answer"]], sizes, chosen, name, len(sizes) - 1)
    plain = chosen.get("bbox_2d")
    if sizes and plain is not None and plain.unit and isinstance(record.get("boxes"), list) and record["boxes"]:
        [text], _ = _converted([json.dumps({"bbox_2d": record["boxes"]})], sizes, chosen, name, len(sizes) - 1)
        new["boxes"] = json.loads(text)["bbox_2d"]
    return new, count


def _converted(
    texts: Sequence[str], sizes: Sequence[Size], chosen: Mapping[str, Notation], name: str, image: int
) -> tuple[list[str], int]:
    """The texts, of which `image` is the last one before, and how many of their boxes were rewritten."""
    converted, total = [], 0
    for text in texts:
        pieces, at = [], 0
        marks = [match.start() for match in re.finditer("<image>", text)]
        seen = 0
        for found in scan(text):
            while seen < len(marks) and marks[seen] < found.start:
                seen += 1
            notation = chosen.get(found.syntax)
            if notation is None or not found.items:
                continue
            where = f"{name}: {shortened(text[found.start : found.stop], 80)}"
            if not 0 <= image + seen < len(sizes):
                raise UserError(f"{where} stands before any <image>; move it behind its image")
            new, count = _rewritten(text, found, notation, sizes[image + seen], where)
            total += count
            pieces += [text[at : found.start], new]
            at = found.stop
        image += len(marks)
        new = "".join([*pieces, text[at:]])
        if new != text and _is_json(text) and not _is_json(new):
            raise UserError(f"{name}: boxes within a text of JSON, which they would break; write them as JSON")
        converted.append(new)
    return converted, total


def _rewritten(text: str, found: Expression, notation: Notation, size: Size, where: str) -> tuple[str, int]:
    """(the expression with its boxes in pixels, how many of them changed)."""
    written = text[found.start : found.stop]
    if not found.closed:
        raise UserError(f"{where} is not closed, expected its end; repair the record")
    odd = next((item for item in found.items if len(item) != 4), None)
    if odd is not None:
        raise UserError(f"{where} holds {len(odd)} numbers, expected four for a box")
    boxes = [[number.value for number in item] for item in found.items]
    if notation.unit == 1 and found.syntax == "bbox_2d" and all(max(map(abs, box)) > SHARE_LIMIT for box in boxes):
        return written, 0  # pixels already: no share is that large
    if notation is NOTATIONS["pixels"] and found.plain:
        return written, 0
    new = [_pixels(box, notation, size, where) for box in boxes]
    if found.key is None:
        label = {"label": found.label} if found.label else {}
        objects = [json.dumps({"bbox_2d": box, **label}, ensure_ascii=False) for box in new]
        return objects[0] if len(objects) == 1 else f"[{', '.join(objects)}]", len(new)
    lists = ", ".join(map(str, new))
    value = lists if len(new) == 1 else f"[{lists}]"
    if found.plain:  # the numbers alone, so that spaces stay as they are
        value, at = "", found.value[0]
        for item, box in zip(found.items, new, strict=True):
            for number, pixel in zip(item, box, strict=True):
                value += text[at : number.start] + str(pixel)
                at = number.stop
        value += text[at : found.value[1]]
    start, stop = found.key
    return f"{text[found.start : start]}bbox_2d{text[stop : found.value[0]]}{value}", len(new)


def _pixels(numbers: Sequence[float], notation: Notation, size: Size, where: str) -> list[int]:
    a, b, c, d = numbers
    box = {"xyxy": (a, b, c, d), "yxyx": (b, a, d, c), "xywh": (a, b, a + c, b + d)}[notation.order]
    whole = (notation.unit, notation.unit) if notation.unit else size
    # Rounding leaves a hair beyond the border; more is another notation.
    slack = max(notation.unit * 0.005, 0 if notation.unit else 1)
    if min(box) < -slack or max(box[0::2]) > whole[0] + slack or max(box[1::2]) > whole[1] + slack:
        raise UserError(f"{where}: outside 0 to {whole[0]}×{whole[1]}, which is not {notation.about}")
    if box[0] >= box[2] or box[1] >= box[3]:
        hint = "; relative-xywh is for x, y, width, height" if notation is NOTATIONS["relative"] else ""
        raise UserError(f"{where}: empty or inverted, which is not {notation.about}{hint}")
    if notation.unit > 1 and max(box) <= SHARE_LIMIT:
        raise UserError(f"{where}: no number above 1, which is not {notation.about}; relative is for shares")
    return scale_box(box, whole, size)


class Evenness:
    """Whether the boxes of a file, said to be pixels, are more likely thousandths.

    Boxes of large images that never go beyond 1000 give themselves away by their number: were they spread over their
    images, some would. The chance that all keep below by accident is what is computed, different boxes taken once.
    """

    #: Below this chance they are thousandths.
    LEAST_CHANCE = 1e-3

    def __init__(self) -> None:
        self._boxes: set[tuple[Any, ...]] = set()
        self._log_chance, self._beyond = 0.0, False

    def add(self, box: Sequence[float], size: Size) -> None:
        """A box in an image of this (width, height)."""
        self._beyond = self._beyond or max(box) > 1000
        known = (*box, *size)
        if not self._beyond and max(size) > 1000 and known not in self._boxes:
            self._boxes.add(known)
            self._log_chance += sum(math.log(min(1.0, 1000 / side)) for side in size)

    @property
    def is_thousandths(self) -> bool:
        """Whether they are, as far as that can be told."""
        return not self._beyond and self._log_chance < math.log(self.LEAST_CHANCE)

    def __len__(self) -> int:
        return len(self._boxes)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
