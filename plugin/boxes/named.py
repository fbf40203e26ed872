"""The notations of boxes that have a name: whose they are, and what makes them ours.

LlamaFactory reads a data file as it is, and only `bbox_2d` is mapped into the model's space, so what stands there in
another notation would be trained with the wrong numbers. `NOTATIONS` has what `adcopilot data register --boxes` can
convert. Only whoever made the file can say what its numbers are: nothing is guessed.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["NOTATIONS", "Notation", "about", "remedy"]

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
