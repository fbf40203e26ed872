"""Localisation: an answer of boxes that can be checked against the mask, and the exact turn of `adcopilot inspect`."""

from __future__ import annotations

import json
import random

from ...prompts import ANSWER_WORDS, INSPECT_QUESTION
from .caption import details
from .generator import Refused
from .pair_view import MAX_BOXES, TOO_MANY, PairView
from .prompt_files import PromptFiles
from .words import Words

__all__ = ["boxes_text", "inspect_turn", "locate"]


def boxes_text(pair: PairView, words: Words) -> str:
    """`[{"bbox_2d": [x1, y1, x2, y2], "label": "…"}]`, one for each region of the mask, in the annotation's order."""
    return json.dumps(details(pair, words), ensure_ascii=False)


def inspect_turn(pair: PairView, words: Words) -> tuple[str, str]:
    """The question of `adcopilot inspect` and its exact answer."""
    yes, no = ANSWER_WORDS
    return INSPECT_QUESTION, f"{yes}. {boxes_text(pair, words)}" if pair.anomalous else f"{no}."


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
