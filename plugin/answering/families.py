"""How each family of models is talked to: how it writes boxes, how it is asked for them, and how it reasons.

The formats are the families' own, from their model cards and cookbooks:

| family      | a box in an answer                                        | coordinates                               |
|-------------|-----------------------------------------------------------|-------------------------------------------|
| adcopilot   | `{"bbox_2d": [x1, y1, x2, y2], "label": "…"}`             | pixels of the image as the model sees it  |
| qwen2.5-vl  | the same                                                  | the same                                  |
| qwen3-vl    | the same                                                  | 0 to 1000 of each side                    |
| internvl    | `<ref>label</ref><box>[[x1, y1, x2, y2], …]</box>`        | 0 to 1000                                 |
| seed        | `<bbox>x1 y1 x2 y2</bbox>`                                | 0 to 1000                                 |
| gemini      | `{"box_2d": [y1, x1, y2, x2], "label": "…"}`              | 0 to 1000                                 |
| generic     | `{"bbox_2d": [x1, y1, x2, y2], "label": "…"}`, as asked   | 0 to 1000, as asked                       |

Answers are read forgivingly: a model that slips into another family's notation is still understood, its numbers in
the space of its own family. Nothing in an answer is ever evaluated.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ..boxes import boxes_that_count, parse_bare_boxes, parse_boxes
from ..errors import UserError, did_you_mean
from ..prompts import INSPECT_QUESTION, thinking_question

__all__ = [
    "FAMILIES",
    "Family",
    "box_question",
    "boxes_beyond",
    "family_of",
    "family_of_config",
    "read_boxes",
    "says_nothing_is_there",
    "split_thinking",
]

_JSON_REQUEST = (
    "Answer with a JSON list only, one entry for each defect: "
    '[{"bbox_2d": [x1, y1, x2, y2], "label": "kind of defect"}]'
)
_THOUSAND = "Coordinates are integers from 0 to 1000, relative to the width and the height of that image."


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of models.

    Attributes:
        name: the key in `FAMILIES`.
        title: as people write it.
        pixels: whether boxes are pixels of the image as the model sees it; otherwise thousandths of its sides.
        box_request: how to answer with boxes, in the family's own notation.
        y_first: whether a bare list of four numbers is y1, x1, y2, x2.
    """

    name: str
    title: str
    pixels: bool = False
    box_request: str = f"{_JSON_REQUEST}. {_THOUSAND} Answer [] if there is no defect."
    y_first: bool = False

    def question(self, text: str, *, thinking: bool) -> str:
        """A question as it is put to the model; with `thinking`, reasoning before the answer is asked for."""
        return thinking_question(text) if thinking else text


_PIXELS_REQUEST = f"{_JSON_REQUEST}, in pixels of that image. Answer [] if there is no defect."

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(name="adcopilot", title="AD-Copilot", pixels=True, box_request=_PIXELS_REQUEST),
        Family(name="qwen2.5-vl", title="Qwen2.5-VL", pixels=True, box_request=_PIXELS_REQUEST),
        Family(name="qwen3-vl", title="Qwen3-VL"),
        Family(
            name="internvl",
            title="InternVL",
            box_request=(
                "Answer with <ref>kind of defect</ref><box>[[x1, y1, x2, y2], …]</box> only. "
                f"{_THOUSAND} Answer <box>[]</box> if there is no defect."
            ),
        ),
        Family(
            name="seed",
            title="Seed-VL",
            box_request=(
                "Answer with one line for each defect: <bbox>x1 y1 x2 y2</bbox>. "
                f"{_THOUSAND} Answer “none” if there is no defect."
            ),
        ),
        Family(
            name="gemini",
            title="Gemini",
            y_first=True,
            box_request=(
                "Answer with a JSON list only, one entry for each defect: "
                '[{"box_2d": [y1, x1, y2, x2], "label": "kind of defect"}]. '
                f"{_THOUSAND} Answer [] if there is no defect."
            ),
        ),
        Family(name="generic", title="other models"),
    )
}

#: `model_type` of a configuration → family.
_MODEL_TYPES = {
    "adcopilot": "adcopilot",
    "qwen2_5_vl": "qwen2.5-vl",
    "qwen3_vl": "qwen3-vl",
    "qwen3_vl_moe": "qwen3-vl",
    "internvl": "internvl",
    "internvl_chat": "internvl",
}
#: What stands in the name that an endpoint knows a model by; the first that fits.
_NAMES = (
    (r"ad-?copilot", "adcopilot"),
    (r"qwen-?2[.-]?5-?vl", "qwen2.5-vl"),
    (r"qwen-?3(\.\d+)?-?vl", "qwen3-vl"),
    (r"intern-?vl", "internvl"),
    (r"doubao|seed-?\d\.\d", "seed"),
    (r"gemini", "gemini"),
)


def family_of_config(model_type: str) -> Family:
    """The family of a model folder by its configuration's `model_type`; `generic` for one that is not known."""
    return FAMILIES[_MODEL_TYPES.get(model_type, "generic")]


def family_of(name: str | None, *, model: str) -> Family:
    """A family by its name, or by the model's name at an endpoint where no name is given.

    Raises:
        UserError: there is no such family.
    """
    if name is None:
        words = model.lower().replace("_", "-")
        found = next((family for pattern, family in _NAMES if re.search(pattern, words)), "generic")
        return FAMILIES[found]
    if name.lower() not in FAMILIES:
        hint = did_you_mean(name.lower(), FAMILIES)
        raise UserError(f"--family is {name!r}, expected one of {', '.join(FAMILIES)}{hint}")
    return FAMILIES[name.lower()]


def box_question(family: Family, *, images: int) -> str:
    """The question for the defects of the last image.

    AD-Copilot is asked about a pair in the words of its training, and any other model in plain words with its family's
    notation.

    Args:
        images: how many images the prompt has, templates included.
    """
    if family.name == "adcopilot" and images == 2:
        return INSPECT_QUESTION
    which = "the image" if images == 1 else "the last image"
    return f"Locate every defect in {which}. {family.box_request}"


_ANSWER = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL | re.IGNORECASE)
_THINK_END = re.compile(r"</think>", re.IGNORECASE)
_THINK_START = re.compile(r"<think>", re.IGNORECASE)


def split_thinking(text: str) -> tuple[str, str]:
    """(reasoning, answer) of a model's text, both without their tags and without white space around them.

    The answer is the last `<answer>…</answer>` after the reasoning, unclosed at the end too, or all that follows
    `</think>`. A text with neither tag is all answer. `<think>` without an end was cut off while reasoning and has an
    empty answer. A `</think>` without a start is a template's that puts `<think>` into the prompt.
    """
    ends = list(_THINK_END.finditer(text))
    start = _THINK_START.search(text)
    if ends:
        begin = start.end() if start and start.end() <= ends[-1].start() else 0
        reasoning, rest = text[begin : ends[-1].start()], text[ends[-1].end() :]
    elif start:
        # Some models forget to close the reasoning and answer all the same.
        answer = re.search(r"<answer>", text[start.end() :], re.IGNORECASE)
        if answer is None:
            return text[start.end() :].strip(), ""
        cut = start.end() + answer.start()
        reasoning, rest = text[start.end() : cut], text[cut:]
    else:
        reasoning, rest = "", text
    answers = [match[1] for match in _ANSWER.finditer(rest)]
    return reasoning.strip(), (answers[-1] if answers else rest).strip()


def read_boxes(
    text: str, *, family: Family, size: tuple[int, int], model_size: tuple[int, int] | None = None
) -> list[dict[str, Any]]:
    """The boxes of an answer, in pixels of the original image and inside it.

    Reasoning is left out first. A family's own notation and the others' are read (`adcopilot.boxes.parse_boxes`), and
    where there is none, bare lists of four numbers or of two corners. A box with its corners in the wrong order is put
    right; one without any area inside the image is left out. What boxes between 0 and 1 are, whichever the family,
    says `adcopilot.boxes.boxes_that_count`.

    Args:
        text: the model's answer.
        size: (width, height) of the upright original in pixels.
        model_size: (width, height) the model saw it in, `Backend.model_size`; needed by families that write pixels.

    Returns:
        `{"bbox_2d": [x1, y1, x2, y2], "label": "…"}` in order of appearance, coordinates as floats.

    Raises:
        ValueError: `model_size` is missing.
    """
    if family.pixels and model_size is None:
        raise ValueError(f"boxes of {family.title} are pixels of the image as the model sees it: give model_size")
    found, space = _found(text, family, model_size)
    boxes = []
    for box in found:
        numbers = box["bbox_2d"]
        x1, x2 = (min(max(value / space[0], 0.0), 1.0) * size[0] for value in sorted(numbers[0::2]))
        y1, y2 = (min(max(value / space[1], 0.0), 1.0) * size[1] for value in sorted(numbers[1::2]))
        if x1 < x2 and y1 < y2:
            boxes.append({"bbox_2d": [round(value, 3) for value in (x1, y1, x2, y2)], "label": box["label"]})
    return boxes


def boxes_beyond(text: str, *, family: Family, model_size: tuple[int, int] | None) -> bool:
    """Whether boxes of an answer reach out of what a family writes them in by more than a twentieth: they are then
    hardly in its space, and what `read_boxes` makes of them is elsewhere. Arguments as there."""
    found, space = _found(text, family, model_size)
    return any(
        max(box["bbox_2d"][0::2]) > 1.05 * space[0] or max(box["bbox_2d"][1::2]) > 1.05 * space[1] for box in found
    )


def _found(text: str, family: Family, model_size: tuple[int, int] | None) -> tuple[list[dict[str, Any]], tuple]:
    answer = split_thinking(text)[1]
    found = parse_boxes(answer) or parse_bare_boxes(answer, y_first=family.y_first)
    return boxes_that_count(found, model_size if family.pixels else (1000, 1000))


#: An empty list, object or pair of tags, alone or as the one value of an object.
_EMPTY = re.compile(r"(?:\{\s*[\"'][^\"'{}]*[\"']\s*:\s*)?(?:\[[\[\]\s]*\]|\{\s*\}|null)\s*\}?")
_NONE = re.compile(
    r"^\W*no\s*(?:[.,;:!]|$)|\b(?:none|nothing|(?<!not )normal)\b|"
    r"\bno\b[\w\s,]{0,40}\b(?:defect|anomal|damage|flaw|box|fault|object|component)|"
    r"\b(?:free of|without)\b[\w\s]{0,20}\b(?:defect|anomal|damage|flaw)|"
    r"(?:没有|无|未)[^。]{0,12}(?:缺陷|异常|框)|^无\W*$",
    re.IGNORECASE,
)


def says_nothing_is_there(answer: str) -> bool:
    """Whether an answer without a box says that there is none: "No", "none", an empty list, "no visible defect".

    Args:
        answer: of `split_thinking`.
    """
    plain = re.sub(r"```\w*|</?(?:box|bbox|ref)>|[`*]", "", answer).strip()
    if not plain:
        return bool(answer.strip())
    return bool(_EMPTY.fullmatch(plain) or _NONE.search(plain[:2000]))
