"""The one place where a verdict is made: anomalous, normal, or undecided and why.

A verdict is given only where its ground is there. Whoever shows one (`inspect`, the demo page, evaluation's table)
asks `decide` and shows `Verdict.word`; what is undecided is never counted or coloured as normal.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .prompts import ANSWER_WORDS

__all__ = ["LEAST_MASS", "Verdict", "VerdictWord", "decide", "first_word_says", "word_of"]

VerdictWord = Literal["anomalous", "normal", "undecided"]

#: Why a map alone gives no verdict.
NO_THRESHOLD = (
    "no threshold is known for the map's score; `adcopilot calibrate none --good DIR` finds one from pictures of good "
    "parts, or give --threshold"
)
#: Below this much probability of "Yes" and "No" together the model was about to say something else, and what little it
#: gave to either word says nothing about the picture.
LEAST_MASS = 0.5
#: So often one word, and nothing else but the beginning of one more: no answer is like that, but a model that was
#: trained for a few steps goes on so until it is stopped.
_ONE_WORD = re.compile(r"\s*(\S{1,24}?)(?:\s*\1){7,}\s*(\S{0,23})\s*")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A verdict.

    Attributes:
        anomalous: True, False, or None where it is undecided.
        reason: one line that says why it is undecided; None otherwise.
    """

    anomalous: bool | None
    reason: str | None = None

    def __post_init__(self) -> None:
        if (self.anomalous is None) != bool(self.reason):
            raise ValueError(f"anomalous {self.anomalous} with the reason {self.reason!r}")

    @property
    def word(self) -> VerdictWord:
        """`anomalous`, `normal` or `undecided`."""
        return word_of(self.anomalous)


def word_of(anomalous: bool | None) -> VerdictWord:
    """A verdict as a word."""
    return "undecided" if anomalous is None else "anomalous" if anomalous else "normal"


def first_word_says(answer: str) -> bool | None:
    """Whether an answer (without its reasoning) begins with "Yes" (True) or "No" (False); None for any other word, and
    for both ("Yes or No", "No/Yes")."""
    word = re.match(r"\W*(\w+)(?:\W*?(?:/|\||\bor\b)\W*(\w+))?", answer)
    found, second = ((part or "").casefold() for part in word.groups()) if word else ("", "")
    says = {ANSWER_WORDS[0].casefold(): True, ANSWER_WORDS[1].casefold(): False}
    return None if second in says and second != found else says.get(found)


def repeated_word(answer: str) -> str | None:
    """The word of which an answer consists, eight times or more ("NoNoNo…", "No No No…"); None of any other answer."""
    found = _ONE_WORD.fullmatch(answer)
    return found[1] if found and found[1].startswith(found[2]) else None


def decide(
    *,
    score: float | None,
    yes_no_mass: float | None,
    threshold: float,
    answer: str,
    doubts: Sequence[str] = (),
) -> Verdict:
    """The verdict about a query.

    Args:
        score: probability of "Yes" rather than "No" as the first word, 0 to 1; None where it is not known: an endpoint
            that tells no probabilities, a model that reasons before it answers.
        yes_no_mass: probability of the two words together among all first words; None as `score`.
        threshold: a score from here on is anomalous.
        answer: what was said, without the reasoning; it decides where there is no score.
        doubts: reasons, known before, for which no answer about these pictures counts: a picture far outside the sizes
            of training, a template that is the query itself.
    """
    if doubts:
        return Verdict(anomalous=None, reason=doubts[0])
    if (word := repeated_word(answer)) is not None:
        reason = f"the answer repeats {word!r} and nothing else: the model has not learnt to answer; train it longer"
        return Verdict(anomalous=None, reason=reason)
    if score is None or yes_no_mass is None:
        said = first_word_says(answer)
        if said is None:
            return Verdict(anomalous=None, reason=_neither(answer))
        return Verdict(anomalous=said)
    if not (math.isfinite(score) and math.isfinite(yes_no_mass)):
        return Verdict(anomalous=None, reason="the model's logits are not finite, so its answer means nothing")
    if yes_no_mass < LEAST_MASS:
        return Verdict(
            anomalous=None,
            reason=f"{_neither(answer)} (the two words have a probability of {yes_no_mass:.3g} together, expected "
            f"{LEAST_MASS:g} or more)",
        )
    return Verdict(anomalous=score >= threshold)


def decide_by_map(score: float | None, threshold: float | None, *, doubts: Sequence[str] = ()) -> Verdict:
    """The verdict of an anomaly map.

    Args:
        score: `pred_score` of the map, None where there is no map; its size means nothing without a threshold.
        threshold: a score from here on is anomalous; None where nobody has found one for such parts.
        doubts: as in `decide`.
    """
    if doubts:
        return Verdict(anomalous=None, reason=doubts[0])
    if score is None:
        return Verdict(anomalous=None, reason="there is no anomaly map of it")
    if threshold is None:
        return Verdict(anomalous=None, reason=NO_THRESHOLD)
    return Verdict(anomalous=score >= threshold)


def either(model: Verdict, by_map: Verdict) -> Verdict:
    """What follows where a part is only good if model and map find nothing."""
    for one in (model, by_map):
        if one.anomalous:
            return one
    return by_map if model.anomalous is False else model


def _neither(answer: str) -> str:
    words = " ".join(answer.split())
    if first_word_says(answer) is not None:  # said all the same, of many words that were hardly less probable
        return f"the answer begins with {words[:24]!r}, but hardly was to"
    begins = f"begins with {words[:24]!r}, which is neither" if words else "is empty, neither"
    return f"the answer {begins} {ANSWER_WORDS[0]!r} nor {ANSWER_WORDS[1]!r}"
