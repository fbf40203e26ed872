"""A language model as judge of open answers: grades from 1 to 10, by an OpenAI-style endpoint.

The judge sees the question, the reference answer and the answer, no image, and grades five criteria and the whole; the
whole counts. Grades are logged like answers, in a folder of their own within the run, so that a second start asks only
what has no grade yet and another judge leaves the first one's grades alone.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from adcopilot.answering.base import Backend
from adcopilot.answering.families import split_thinking
from adcopilot.answering.items import Item
from adcopilot.jsonl import content_key

from ...running import Run, RunShard

__all__ = ["CRITERIA", "OpenAnswer", "grade_answers", "judge_prompt", "read_grade"]

CRITERIA = ("correctness", "completeness", "relevance", "clarity", "conciseness")

_PROMPT = """\
You grade an answer to a question about a circuit board. You do not see the board: go by the reference answer alone, \
which is right, and take nothing else for granted. Question and answers may be in English or Chinese.

Give whole numbers from 1 (worthless) to 10 (as good as the reference) for {criteria}, and one for the answer overall.
Write one JSON object and nothing else: {form}

Question:
{question}

Reference answer:
{reference}

Answer to be graded:
{answer}"""

_FORM = json.dumps({"scores": dict.fromkeys(CRITERIA, 7), "overall": 7})
#: Longest part of an answer that is shown: a model that repeats itself without end costs no more than this.
_LONGEST = 6000
_MAX_NEW_TOKENS = 256


class OpenAnswer(NamedTuple):
    """What is to be graded."""

    question: str
    reference: str
    answer: str


def judge_prompt(question: OpenAnswer) -> str:
    """What the judge reads."""
    values = {
        "criteria": ", ".join(CRITERIA),
        "form": _FORM,
        "question": question.question,
        "reference": question.reference,
        "answer": question.answer[:_LONGEST],
    }
    # Not str.format: answers may hold braces; one pass, so that an answer cannot name a field either.
    return re.sub(r"\{(\w+)\}", lambda found: values[found[1]], _PROMPT)


def grade_answers(
    questions: Sequence[OpenAnswer], *, backend: Backend, folder: Path
) -> tuple[list[float | None], dict[str, Any]]:
    """Grade answers; an empty answer is worth 1 without asking.

    Args:
        questions: in any order; equal ones are asked once.
        backend: the judge.
        folder: of the run that is judged; grades go to `judge-…` in it.

    Returns:
        The grades, one for each question, 1 to 10, None where there is none; and for the results who judged, by which
        prompt, how many of how many it judged, how many of its replies hold no grade (`unreadable`), were refused or
        `failed`, and why it ended early (`stopped`), if it did: it cannot be reached, for one.

    Raises:
        UserError: another process writes the same grades, or the disk is full.
    """
    settings = {"judge": backend.describe(), "prompt_hash": content_key(_PROMPT, _FORM, _LONGEST)}
    run = Run(
        folder=folder / f"judge-{content_key(settings)[:12]}",
        identity={"benchmark": "judge of open answers", **settings, "max_new_tokens": _MAX_NEW_TOKENS},
    )
    prompts = [judge_prompt(question) if question.answer.strip() else None for question in questions]
    items = {}
    for prompt in filter(None, prompts):
        key = content_key("judge", prompt)
        items[prompt] = Item(key=key, group=key, images=(), prefix=(), question=prompt)
    run.select(list(items.values()), selection={})
    outcome = run.ask(list(items.values()), backend, max_new_tokens=_MAX_NEW_TOKENS, shard=RunShard())
    graded = run.answers()
    replies = {
        record["item"]: record["reply"]["text"] for record in graded.records if not record["reply"].get("refused")
    }
    read = {prompt: read_grade(replies[item.key]) for prompt, item in items.items() if item.key in replies}
    grades = [1.0 if prompt is None else read.get(prompt) for prompt in prompts]
    return grades, {
        **settings,
        "judged": sum(grade is not None for grade in grades),
        "of": len(questions),
        "unreadable": sum(grade is None for grade in read.values()),
        "refused": graded.refused,
        "failed": len(outcome.failed),
        **({} if outcome.stopped is None else {"stopped": str(outcome.stopped)}),
    }


def read_grade(text: str) -> float | None:
    """The grade of a judge's reply, 1 to 10: `overall` of its JSON object, else the mean of its scores.

    A grade outside of 1 to 10 is no grade.
    """
    answer = split_thinking(text)[1]
    decoder = json.JSONDecoder()
    for opening in re.finditer("{", answer):
        try:
            value, _ = decoder.raw_decode(answer, opening.start())
        except (ValueError, RecursionError):
            continue
        scores = value.get("scores")
        parts = [_grade(score) for score in scores.values()] if isinstance(scores, dict) else []
        overall = _grade(value.get("overall"))
        if overall is not None:
            return overall
        if parts and None not in parts:
            return sum(parts) / len(parts)
    return None


def _grade(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and 1 <= number <= 10 and not isinstance(value, bool) else None
