"""Conversations about a template and a query whose defects are annotated, without any model.

Questions are those of the sample set, so that one tiny tokenizer and one `adcopilot inspect` serve both. Answers come
from the boxes and labels alone; an order, a number or a place is said only where the annotation says it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..prompts import verdict_answer
from ..sample import wording

__all__ = ["STAGE_TASKS", "TASKS", "Finding", "View", "turns"]

TASKS = ("inspect", "question", "dialogue", "locate", "choice", "caption")

#: What each stage learns from, and how often each task is drawn: describing differences first, then knowing that they
#: are defects, then every task. A test set asks only what `adcopilot inspect` asks.
STAGE_TASKS: Mapping[str, Mapping[str, float]] = {
    "stage0": {"caption": 0.5, "question": 0.5},
    "stage1": {"caption": 0.5, "inspect": 0.25, "question": 0.25},
    "stage2": {"inspect": 0.35, "locate": 0.2, "dialogue": 0.15, "choice": 0.15, "caption": 0.1, "question": 0.05},
    "test": {"inspect": 1.0},
}

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A defect as the query shows it: box in the query's pixels, label in words."""

    box: tuple[int, int, int, int]
    label: str


@dataclass(frozen=True, kw_only=True)
class View:
    """What a conversation is about.

    Attributes:
        subject: what both images show, in words.
        size: (width, height) of the query in pixels.
        findings: its defects; none for a normal query.
    """

    subject: str
    size: tuple[int, int]
    findings: Sequence[Finding]


def turns(rng: random.Random, view: View, task: str, *, labels: Sequence[str]) -> list[tuple[str, str]]:
    """The (question, answer) pairs of one task.

    Args:
        rng: chooses among questions of the same meaning, and the options.
        view: what is asked about.
        task: one of `TASKS`.
        labels: every kind of defect there is, for the wrong options.
    """
    defective = bool(view.findings)
    found = wording.boxes_list([(list(finding.box), finding.label) for finding in view.findings])
    verdict = verdict_answer(defective)
    if task == "inspect":
        return [(rng.choice(wording.ASK_INSPECT), verdict_answer(defective, found))]
    if task == "question":
        if rng.random() < 0.25:
            return [(rng.choice(wording.ASK_SAME), "It is not." if defective else "It is.")]
        return [(rng.choice(wording.ASK_DEFECT), verdict)]
    if task == "dialogue":
        where = found if defective else wording.NOTHING
        what = counted(view.findings)
        return [
            (rng.choice(wording.ASK_DEFECT), verdict),
            (rng.choice(wording.ASK_WHERE), where),
            (rng.choice(wording.ASK_WHAT), what),
        ]
    if task == "locate":
        return [(rng.choice(wording.ASK_LOCATE), found)]
    if task == "choice":
        return [_choice(rng, view, labels)]
    if task == "caption":
        return [(rng.choice(wording.ASK_CAPTION), caption(view))]
    raise ValueError(f"task is {task!r}, expected one of {TASKS}")


def caption(view: View) -> str:
    """The contrastive caption of the paper's Figure 1, as JSON."""
    return json.dumps(
        {
            "description": f"Two images of {wording.article(view.subject)}.",
            "defect_details": [{"bbox_2d": list(finding.box), "label": finding.label} for finding in view.findings],
            "defect_description": placed(view),
        }
    )


def counted(findings: Sequence[Finding]) -> str:
    """`A spur.`, `Two spurs and an open circuit.`, in order of first appearance."""
    if not findings:
        return wording.NOTHING
    counts: dict[str, int] = {}
    for finding in findings:
        counts[finding.label] = counts.get(finding.label, 0) + 1
    return _sentence([_several(label, count) for label, count in counts.items()])


def placed(view: View) -> str:
    """`A spur at the top left and an open circuit in the middle.`"""
    if not view.findings:
        return wording.NOTHING
    return _sentence([f"{_noun(finding.label)} {_place(finding.box, view.size)}" for finding in view.findings])


def _choice(rng: random.Random, view: View, labels: Sequence[str]) -> tuple[str, str]:
    """Up to four options, "none" among them, exactly one of them true."""
    true = {finding.label for finding in view.findings}
    # With several kinds of defect in view only one may be offered, or two letters would be right.
    answer = rng.choice(sorted(true)) if true else "none"
    untrue = [label for label in labels if label not in true]
    wrong = rng.sample(untrue, min(len(untrue), 2 if true else 3))
    options = [answer, *wrong, *(["none"] if true else [])]
    rng.shuffle(options)
    lines = "".join(f"\n{letter}. {option}" for letter, option in zip("ABCD"[: len(options)], options, strict=True))
    return wording.ASK_CHOICE + lines, "ABCD"[options.index(answer)]


def _place(box: Sequence[int], size: tuple[int, int]) -> str:
    """The third of the image that holds the box's centre, in words."""
    column, row = (
        min(2, 3 * (low + high) // (2 * length)) for low, high, length in zip(box[:2], box[2:], size, strict=True)
    )
    words = [("top", "", "bottom")[row], ("left", "", "right")[column]]
    return "at the " + " ".join(filter(None, words)) if any(words) else "in the middle"


# Material, which has no plural.
_UNCOUNTED = ("spurious copper",)


def _noun(label: str) -> str:
    return label if label in _UNCOUNTED else wording.article(label)


def _several(label: str, count: int) -> str:
    if count == 1 or label in _UNCOUNTED:
        places = "" if count == 1 else f" in {_NUMBERS[count] if count < len(_NUMBERS) else count} places"
        return _noun(label) + places
    return f"{_NUMBERS[count] if count < len(_NUMBERS) else count} {label}s"


def _sentence(parts: list[str]) -> str:
    text = " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
    return text[0].upper() + text[1:] + "."
