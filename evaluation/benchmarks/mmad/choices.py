"""From what a model wrote to the letter of an option: as MMAD reads it, and strictly.

MMAD's rule always finds something: the last capital letter A to E that stands alone, be it the article of "A scratch",
and otherwise the option whose text is most similar. So a model that rambles is scored on letters it never meant. The
strict rule takes only what can be meant as an answer and returns nothing for the rest. Both are reported side by side.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

from adcopilot.answering.families import split_thinking
from adcopilot.tasks.choice import NO_LETTER, Parsed, strict_answer

__all__ = ["LETTERS", "logprob_answer", "official_answer", "stated_answer"]

#: The letters that MMAD's scoring knows.
LETTERS = "ABCDE"

_ALONE = re.compile(r"\b([A-E])\b")


def official_answer(text: str, options: Mapping[str, str] | None) -> Parsed:
    """MMAD's rule: the last letter A to E that stands alone; without any, the option with the most similar text.

    Reasoning is left out first, which MMAD's own scripts do not know of; for a text without `<think>` nothing changes.
    An empty answer has no letter (MMAD's rule would take an option by the alphabet).

    Args:
        text: the model's whole text.
        options: letter → text; None for no guessing.
    """
    answer = split_thinking(text)[1]
    letters = _ALONE.findall(answer)
    if letters:
        return Parsed(letter=letters[-1], how="letter")
    if not answer or not options:
        return NO_LETTER
    nearest = difflib.get_close_matches(answer, options.values(), n=1, cutoff=0.0)
    return Parsed(letter=next(letter for letter, option in options.items() if option == nearest[0]), how="nearest")


#: The article of "A scratch", which MMAD's rule takes for an option.
_ARTICLE = re.compile(r"\bA(?=\s+[a-z])")


def stated_answer(text: str, options: Mapping[str, str]) -> Parsed:
    """What an answer is shown as, beside the scores: the strict rule's letter, else a letter that stands alone in a
    longer text and is no article. A guess of MMAD's rule is none: a refusal states nothing.

    Args:
        text: the model's whole text; reasoning is left out.
        options: letter → text.
    """
    strict = strict_answer(text, options)
    if strict.letter is not None:
        return strict
    letters = [letter for letter in _ALONE.findall(_ARTICLE.sub("", split_thinking(text)[1])) if letter in options]
    return Parsed(letter=letters[-1], how="letter") if letters else NO_LETTER


def logprob_answer(logprobs: Mapping[str, float] | None, options: Mapping[str, str]) -> str | None:
    """The option whose letter is the most probable first word; the first of equals, None without probabilities."""
    known = [letter for letter in options if letter in (logprobs or {})]
    return max(known, key=lambda letter: logprobs[letter], default=None)
