"""The words of a prompt of MMAD with the places that are filled in, whoever's words they are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adcopilot.answering.items import Part

from .dataset import MmadQuestion

__all__ = ["PLACES", "PromptWords"]

#: What is filled in: domain knowledge; a question, its options and its number; an option's letter and text.
PLACES = ("{text}", "{question}", "{options}", "{number}", "{letter}", "{option}")


@dataclass(frozen=True, kw_only=True)
class PromptWords:
    """A prompt for one number of templates.

    Attributes:
        untold: what stands before the question where nothing is told: texts, and places of images, templates first.
        told: the same with domain knowledge, `{text}`; empty where a script has no words for it.
        question: `{question}`, `{options}`, `{number}` from 1.
        option: `{letter}`, `{option}`.
        option_separator: between options.
        between: from an earlier question to the next, where they are asked together.
        after: at the end.
    """

    untold: tuple[Part, ...]
    told: tuple[Part, ...]
    question: str
    option: str = "{letter}. {option}"
    option_separator: str = "\n"
    between: str = ""
    after: str = ""

    def prefix(self, knowledge: str | None = None) -> tuple[Part, ...]:
        """All of the prompt before the question."""
        if not knowledge:
            return self.untold
        return tuple(part.replace("{text}", knowledge) if isinstance(part, str) else part for part in self.told)

    def asked(self, question: MmadQuestion, earlier: Sequence[MmadQuestion] = ()) -> str:
        """A question with its options, after the earlier ones of its image."""
        return self.between.join(self._one(one) for one in (*earlier, question)) + self.after

    def _one(self, question: MmadQuestion) -> str:
        options = self.option_separator.join(
            _filled(self.option, {"letter": letter, "option": text}) for letter, text in question.options.items()
        )
        values = {"question": question.text, "options": options, "number": str(question.index + 1)}
        return _filled(self.question, values)

    def text(self, *, told: bool) -> dict[str, Any]:
        """The templates as JSON values, for the record of a run."""
        return {
            "prefix": list(self.told if told else self.untold),
            "question": self.question,
            "option": self.option,
            "option_separator": self.option_separator,
            "between": self.between,
            "after": self.after,
        }


def _filled(template: str, values: Mapping[str, str]) -> str:
    """What is filled in is not looked at again: a question may quote braces."""
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], match[0]), template)
