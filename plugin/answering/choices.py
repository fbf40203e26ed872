"""From what a model wrote to the letter of an option: as MMAD reads it, and strictly.

MMAD's rule always finds something: the last capital letter A to E that stands alone, be it the article of "A scratch",
and otherwise the option whose text is most similar. So a model that rambles is scored on letters it never meant. The
strict rule takes only what can be meant as an answer and returns nothing for the rest. Both are reported side by side.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from .families import split_thinking

__all__ = ["LETTERS", "Parsed", "anomaly_score", "logprob_answer", "official_answer", "stated_answer", "strict_answer"]

#: The letters that MMAD's scoring knows.
LETTERS = "ABCDE"


@dataclass(frozen=True, kw_only=True)
class Parsed:
    """The letter read from a text, and how: `letter`, `text` (an option's words), `nearest` (a guess), `none`.

    `letter` is None exactly where `how` is `none`.
    """

    letter: str | None
    how: str


_NOTHING = Parsed(letter=None, how="none")
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
        return _NOTHING
    nearest = difflib.get_close_matches(answer, options.values(), n=1, cutoff=0.0)
    return Parsed(letter=next(letter for letter, option in options.items() if option == nearest[0]), how="nearest")


_MARKUP = re.compile(r"[*_`#]+|\\boxed|[{}$]")
_LEAD = re.compile(
    r"^(?:(?:so|therefore|thus|hence)\W+)?(?:the\s+)?(?:(?:correct|best|right|final)\s+)?"
    r"(?:answer|option|choice)(?:\s+is)?\s*[::]?\s*(?:option\s+)?",
    re.IGNORECASE,
)
_LETTER = re.compile(r"^[\[(<\"']?\s*([A-Za-z])\s*[\])>\"']?\s*(?:[.:,;)、:-]+\s*(.*))?$", re.DOTALL)


def strict_answer(text: str, options: Mapping[str, str]) -> Parsed:
    """The answer that a text states and nothing else does.

    A letter of an option alone (`B`, `(B).`, `b`), after "Answer:" and the like, or before the option's own text (`B.
    Scratch`); or an option's text alone. Case, markup and punctuation around do not matter. Any further words, a
    second letter or a letter that is no option: no answer.

    Args:
        text: the model's whole text; reasoning is left out.
        options: letter → text.
    """
    answer = _MARKUP.sub("", split_thinking(text)[1]).strip()
    answer = _LEAD.sub("", answer, count=1).strip()
    match = _LETTER.match(answer)
    if match and match[1].upper() in options:
        letter, rest = match[1].upper(), _plain(match[2] or "")
        if not rest or rest == _plain(options[letter]):
            return Parsed(letter=letter, how="letter")
    same = [letter for letter, option in options.items() if _plain(option) == _plain(answer) != ""]
    return Parsed(letter=same[0], how="text") if len(same) == 1 else _NOTHING


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
    return Parsed(letter=letters[-1], how="letter") if letters else _NOTHING


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .,;:!\"'()")


def logprob_answer(logprobs: Mapping[str, float] | None, options: Mapping[str, str]) -> str | None:
    """The option whose letter is the most probable first word; the first of equals, None without probabilities."""
    known = [letter for letter in options if letter in (logprobs or {})]
    return max(known, key=lambda letter: logprobs[letter], default=None)


def anomaly_score(logprobs: Mapping[str, float] | None, options: Mapping[str, str], yes: str) -> float | None:
    """Probability of the option that says "defective" among all options, 0 to 1.

    Args:
        logprobs: letter → natural logarithm of its probability; letters that an endpoint left out count as 0.
        options: letter → text.
        yes: the letter that says that there is a defect.

    Returns:
        None where no option's probability is known.
    """
    known = {letter: logprobs[letter] for letter in options if letter in (logprobs or {})}
    if not known:
        return None
    highest = max(known.values())
    shares = {letter: math.exp(value - highest) for letter, value in known.items()}
    return shares.get(yes, 0.0) / sum(shares.values())
