"""Multiple choice: a letter of an option."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..answering.families import split_thinking
from .task import Task

__all__ = ["CHOICE", "NO_LETTER", "Parsed", "options_of", "plain_width", "strict_answer"]

_OPTION = re.compile(r"^\s*([A-Z])[.):]\s+(\S.*?)\s*$", re.MULTILINE)
_MARKUP = re.compile(r"[*_`#]+|\\boxed|[{}$]")
_LEAD = re.compile(
    r"^(?:(?:so|therefore|thus|hence)\W+)?(?:the\s+)?(?:(?:correct|best|right|final)\s+)?"
    r"(?:answer|option|choice)(?:\s+is)?\s*[::]?\s*(?:option\s+)?",
    re.IGNORECASE,
)
_LETTER = re.compile(r"^[\[(<\"']?\s*([A-Za-z])\s*[\])>\"']?\s*(?:[.:,;)、:-]+\s*(.*))?$", re.DOTALL)


def options_of(question: str) -> dict[str, str]:
    """Letter → text of the options that a question lists, each on a line of its own."""
    return dict(_OPTION.findall(question))


@dataclass(frozen=True, kw_only=True)
class Parsed:
    """The letter read from a text, and how: `letter`, `text` (an option's words), `nearest` (a guess), `none`.

    `letter` is None exactly where `how` is `none`.
    """

    letter: str | None
    how: str


#: Of a text that states no option.
NO_LETTER = Parsed(letter=None, how="none")


def strict_answer(text: str, options: Mapping[str, str]) -> Parsed:
    """The answer that a text states and nothing else does.

    A letter of an option alone (`B`, `(B).`, `b`), after "Answer:" and the like, or before the option's own text (`B.
    Scratch`); or an option's text alone. Case, markup, punctuation around and full-width letters do not matter. Any
    further words, a second letter or a letter that is no option: no answer.

    Args:
        text: the model's whole text; reasoning is left out.
        options: letter → text.
    """
    answer = _MARKUP.sub("", plain_width(split_thinking(text)[1])).strip()
    answer = _LEAD.sub("", answer, count=1).strip()
    match = _LETTER.match(answer)
    if match and match[1].upper() in options:
        letter, rest = match[1].upper(), _plain(match[2] or "")
        if not rest or rest == _plain(options[letter]):
            return Parsed(letter=letter, how="letter")
    same = [letter for letter, option in options.items() if _plain(option) == _plain(answer) != ""]
    return Parsed(letter=same[0], how="text") if len(same) == 1 else NO_LETTER


def plain_width(text: str) -> str:
    """A text with the full-width letters, brackets and colons of Chinese typing as plain ones."""
    return unicodedata.normalize("NFKC", text)


def _plain(text: str) -> str:
    return " ".join(plain_width(text).casefold().split()).strip(" .,;:!\"'()")


def stated(completion: str, record: Mapping[str, Any]) -> str | None:
    """The letter that a completion states and nothing else (`strict_answer`)."""
    questions = [message["content"] for message in record["messages"] if message["role"] == "user"]
    return strict_answer(completion, options_of(questions[-1])).letter


def reward(completion: str, record: Mapping[str, Any], media_dir: str | Path = ".") -> float:
    """1 where the answer states the right option."""
    return float(stated(completion, record) == record["answer"].strip())


CHOICE = Task(
    name="mc",
    title="choice",
    is_answer=lambda text: re.fullmatch(r"[A-Z]", text.strip()) is not None,
    states=lambda completion, record: stated(completion, record) is not None,
    reward=reward,
)
