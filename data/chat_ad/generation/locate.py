"""Localisation: an answer of boxes that can be checked against the mask, and the exact turn of `adcopilot inspect`."""

from __future__ import annotations

import json
import random

from ...endpoint.client import Refused
from ...prompts import INSPECT_QUESTION, verdict_answer
from .caption import details
from .pair_view import MAX_BOXES, TOO_MANY, PairView
from .prompt_files import PromptFiles, several
from .words import Words

__all__ = ["boxes_text", "inspect_turn", "locate"]


def boxes_text(pair: PairView, words: Words) -> str:
    """`[{"bbox_2d": [x1, y1, x2, y2], "label": "…"}]`, one for each region of the mask, in the annotation's order."""
    return json.dumps(details(pair, words), ensure_ascii=False)


def inspect_turn(pair: PairView, words: Words) -> tuple[str, str]:
    """The question of `adcopilot inspect` and its exact answer.

    `Yes.` and the list of boxes; where there are none the kinds of defect, as far as they are named; or `No.`

    Raises:
        Refused: more boxes than a list should have.
    """
    if len(pair.boxes) > MAX_BOXES:
        raise Refused(TOO_MANY.format(len(pair.boxes)))
    return INSPECT_QUESTION, verdict_answer(
        pair.anomalous, boxes_text(pair, words) if pair.boxes else _kinds(pair, words)
    )


def _kinds(pair: PairView, words: Words) -> str:
    """`A scratch and a dent.` of an image without boxes, nothing where no kind is named."""
    named = [words.one(kind) for kind in pair.types if not words.vague(kind)]
    text = several(named) if named else ""
    return f"{text[0].upper()}{text[1:]}." if text else ""


def locate(pair: PairView, rng: random.Random, *, prompts: PromptFiles, words: Words) -> tuple[str, str]:
    """(question, answer) of a pair with boxes.

    Raises:
        Refused: it is normal, has no boxes, or too many.
    """
    if not pair.anomalous:
        raise Refused("normal: there is nothing to localise")
    if not pair.boxes:
        raise Refused("anomalous, but without boxes: give it a mask")
    if len(pair.boxes) > MAX_BOXES:
        raise Refused(TOO_MANY.format(len(pair.boxes)))
    return prompts.pick(rng, "questions.json", "locate"), boxes_text(pair, words)
