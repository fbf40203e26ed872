"""Multi-turn dialogues about a pair, checked turn by turn."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ...errors import shortened
from ...prompts import ANSWER_WORDS
from .caption import Caption, json_in_text
from .generator import Generator, write_checked
from .pair_view import PairView
from .verify import Verifier

__all__ = ["MOST_TURNS", "box_problems", "read_turns", "write_dialogue"]

MOST_TURNS = 8

_NUMBERS = r"-?\d+(?:\.\d+)?"
_BOX = re.compile(rf"[\[(]\s*({_NUMBERS}(?:\s*,\s*{_NUMBERS}){{3}})\s*[\])]")


def read_turns(text: str) -> list[tuple[str, str]]:
    """A generator's list of `{"question", "answer"}`.

    Raises:
        ValueError: it is something else, or has fewer than two or more than `MOST_TURNS` turns.
    """
    value: Any = json_in_text(text)
    if isinstance(value, dict) and len(value) == 1:  # {"dialogue": [...]}: JSON modes want an object
        value = next(iter(value.values()))
    if not isinstance(value, list) or not 2 <= len(value) <= MOST_TURNS:
        raise ValueError(f"the answer is {shortened(repr(value), 80)}, expected a list of 2 to {MOST_TURNS} turns")
    turns = []
    for item in value:
        pair = [item.get(key) for key in ("question", "answer")] if isinstance(item, dict) else [None]
        if not all(isinstance(part, str) and part.strip() for part in pair):
            raise ValueError(f"a turn is {shortened(repr(item), 80)}, expected question and answer")
        turns.append((pair[0].strip(), pair[1].strip()))
    return turns


async def write_dialogue(
    pair: PairView,
    generator: Generator,
    *,
    verifier: Verifier,
    caption: Caption | None,
    first: tuple[str, str] | None,
) -> list[tuple[str, str]]:
    """The (question, answer) turns of a dialogue.

    Args:
        caption: of the pair, None for one whose boxes cannot be listed.
        first: a turn to put in the place of the generator's verdict, for instance that of `adcopilot inspect`.

    Raises:
        Refused: problems remain, or the generator refuses.
    """

    async def check(text: str, _: int) -> tuple[list[tuple[str, str]], Sequence[str]]:
        try:
            turns = read_turns(text)
        except ValueError as error:
            return [], [str(error)]
        return [first, *turns[1:]] if first else turns, dialogue_problems(pair, turns, verifier)

    context = {"caption": caption, "boxes_given": first is not None}
    return await write_checked(pair, generator, "dialogue", check, what="dialogue", context=context)


def dialogue_problems(pair: PairView, turns: Sequence[tuple[str, str]], verifier: Verifier) -> list[str]:
    """What is wrong with a dialogue; the rules are those of `verify`."""
    yes, no = ANSWER_WORDS
    problems = []
    # "Is it normal?" is answered the other way round; what the verdict says is checked by the rules below.
    if not turns[0][1].startswith((yes, no)):
        problems.append(f"the first answer does not begin with {yes} or {no}")
    elif turns[0][1].startswith(yes) != pair.anomalous:
        problems.append(f"the first answer does not begin with {yes if pair.anomalous else no}, which is the verdict")
    for question, answer in turns:
        problems += verifier.answer(pair, answer)
        problems += verifier.wording(pair, question, name="a question", shortest=4)
        problems += box_problems(pair, answer)
    if pair.anomalous:
        problems += verifier.named(pair, " ".join(answer for _, answer in turns))
    return list(dict.fromkeys(problems))


def box_problems(pair: PairView, text: str) -> list[str]:
    """A problem for each box in a text that is not exactly one of the annotation's."""
    known = {tuple(float(value) for value in box) for box in pair.boxes}
    return [
        f"the text gives the box [{found[1]}], which is not one of the annotation's"
        for found in _BOX.finditer(text)
        if tuple(float(value) for value in found[1].split(",")) not in known
    ]
