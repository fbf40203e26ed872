"""Thinking data: a question with a checkable answer, and reasoning that leads to it from the caption."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ...prompts import thinking_answer, thinking_question
from .caption import Caption
from .choice import Choice
from .dialogue import box_problems
from .generator import Generator, write_checked
from .pair_view import PairView
from .verify import Verifier

__all__ = ["write_thinking"]

SHORTEST = 40

_CONCLUSION = re.compile(r"\b(?:answer|option|choice)\b(?:\s+(?:is|must be|should be|would be))?\s*:?\s*\(?([A-D])\b")
_TOLD = re.compile(
    r"\b(?:(?:given|provided|supplied|known|reference|expected) answer|answer (?:key|is given|was given|provided)|"
    r"according to the (?:caption|description|label)|the caption (?:says|states|mentions))",
    re.IGNORECASE,
)


async def write_thinking(
    pair: PairView,
    generator: Generator,
    *,
    verifier: Verifier,
    caption: Caption | None,
    question: str,
    answer: str,
    choice: Choice | None,
) -> tuple[str, str]:
    """(question, answer), the answer in the form `<think>…</think><answer>…</answer>`.

    Args:
        caption: of the pair, None for one whose boxes cannot be listed.
        question, answer: multiple choice or localisation, with its checkable answer.
        choice: the first of the two, None for localisation.

    Raises:
        Refused: problems remain, or the generator refuses.
    """

    async def check(reasoning: str, _: int) -> tuple[tuple[str, str], Sequence[str]]:
        turn = (thinking_question(question), thinking_answer(reasoning, answer))
        return turn, thinking_problems(pair, reasoning, verifier, choice)

    context: dict[str, Any] = {
        "caption": caption,
        "question": question,
        "answer": answer,
        "kind": choice.kind if choice else "",
        "options": choice.options if choice else None,
    }
    return await write_checked(pair, generator, "think", check, what="reasoning", context=context, clean=plain)


def plain(text: str) -> str:
    """The reasoning alone: a model may put it into the tags, add the answer, or think for itself before it writes."""
    text = re.sub(r"<answer>.*?(?:</answer>|$)", "", text, flags=re.DOTALL)
    inside = re.search(r"<think>(.*?)(?:</think>|$)(.*)", text, re.DOTALL)
    if inside:
        text = inside[2] if len(inside[2].strip()) >= SHORTEST else inside[1]
    return text.strip()


def thinking_problems(pair: PairView, reasoning: str, verifier: Verifier, choice: Choice | None) -> list[str]:
    """What is wrong with a reasoning; that it names the defect is asked where the answer depends on it."""
    # Wrong options name places and defects that are not there; going through them is what reasoning is for.
    weighs = choice is not None and choice.kind in ("place", "presence")
    problems = verifier.answer(pair, reasoning, name="the reasoning", sides=not weighs, claims=not weighs)
    problems += box_problems(pair, reasoning)
    if len(reasoning) < SHORTEST:
        problems.append(f"the reasoning has {len(reasoning)} characters, expected at least {SHORTEST}")
    if re.search(r"</?(?:think|answer)>", reasoning):
        problems.append("the reasoning holds tags of the answer's form")
    told = _TOLD.search(reasoning)
    if told:
        problems.append(f"the reasoning says “{told[0]}”, as if it had been told the answer")
    if choice is not None:
        concluded = _CONCLUSION.findall(reasoning)
        if concluded and concluded[-1] != choice.answer:
            problems.append(f"the reasoning concludes {concluded[-1]}, but the answer is {choice.answer}")
    if pair.anomalous and (choice is None or choice.kind in ("kind", "presence")):
        problems += verifier.named(pair, reasoning)
    return problems
