"""From what a model wrote to a letter, or to boxes with class names."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from adcopilot.answering.families import Family, read_boxes, split_thinking
from adcopilot.boxes.notations import KEYS
from adcopilot.tasks.choice import Parsed, plain_width, strict_answer

__all__ = ["class_boxes", "letter_answer"]

# Not \b: between a Chinese character and a letter there is none.
_STATED = re.compile(
    r"(?:answer|option|choice|答案|选项|选择|选)\s*(?:is|为|是|应为|应该是|应选)?\s*[:：]?\s*"
    r"[\[(（\"'*]*([A-H])(?![A-Za-z0-9])",
    re.IGNORECASE,
)
# A capital that stands alone, but not the article of "A capacitor".
_ALONE = re.compile(r"(?<![A-Za-z0-9'])(A(?!\s+[a-z])|[B-H])(?![A-Za-z0-9'])")


def letter_answer(text: str, options: Mapping[str, str]) -> Parsed:
    """The letter of an answer: stated by itself, else after "answer" or 答案, else the first that stands alone.

    This is the benchmark's order, except that it takes small letters and articles ("a capacitor") for letters too.

    Args:
        text: the model's whole text; reasoning is left out.
        options: letter → text.

    Returns:
        `how` is `letter` or `text` where `strict_answer` found it, `found` where it was searched for in a
        longer text, `none` with letter None.
    """
    strict = strict_answer(text, options)
    if strict.letter is not None:
        return strict
    answer = plain_width(split_thinking(text)[1])
    for pattern in (_STATED, _ALONE):
        letters = [letter for letter in map(str.upper, pattern.findall(answer)) if letter in options]
        if letters:
            return Parsed(letter=letters[0], how="found")
    return strict


# `"class name": [` and what may stand in lists of numbers; the list may be cut off at its end.
_CLASS = re.compile(r"""(["'])((?:(?!\1)[^\\\n]|\\u[0-9a-fA-F]{4}){1,100})\1\s*:\s*(\[[-+.,\d\seE\[\]]*)""")
_FOUR_NUMBERS = re.compile(r"\[\s*([-+.\deE]+(?:\s*,\s*[-+.\deE]+){3})\s*,?\s*\]")
_KEYS = frozenset({*KEYS, "label", "coordinates"})


def class_boxes(
    text: str, *, family: Family, size: tuple[int, int], model_size: tuple[int, int] | None
) -> list[dict[str, Any]]:
    """The boxes of an answer, in pixels of the original image.

    Two notations: the benchmark's own, `{"class": [[x1, y1, x2, y2], …]}`, with numbers in the space that the family
    writes boxes in; and what `families.read_boxes` knows. Its rule for numbers from 0 to 1 is that of the benchmark's
    own evaluation: they are shares of the sides.

    Args:
        text: the model's whole text; reasoning is left out.
        family: whose boxes they are.
        size: (width, height) of the original in pixels.
        model_size: as for `read_boxes`.

    Returns:
        `{"bbox_2d": [x1, y1, x2, y2], "label": "…"}`, the label "" where the answer has none.
    """
    answer = split_thinking(text)[1]
    found = []
    for match in _CLASS.finditer(answer):
        if match[2].strip().casefold() not in _KEYS:
            label = json.loads(f'"{match[2]}"') if match[1] == '"' and "\\" in match[2] else match[2]
            found += [(four, label) for four in _numbers(match[3])]
    if found:
        # Corner to corner, whatever the family's own notation is.
        answer = json.dumps([{"bbox_2d": four, "label": label} for four, label in found])
    return read_boxes(answer, family=family, size=size, model_size=model_size)


def _numbers(text: str) -> list[list[float]]:
    fours = []
    for match in _FOUR_NUMBERS.findall(text):
        try:
            fours.append([float(number) for number in match.split(",")])
        except ValueError:  # `1.2.3`
            continue
    return fours
