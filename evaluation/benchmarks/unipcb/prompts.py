"""What is asked, in the language of the sample: English or Chinese.

The benchmark's own script asks for `<think>` and `<answer>` from every model; here reasoning is asked only from models
that are to reason (`--thinking`). The wording is this package's own; what is asked is part of each answer's key.
"""

from __future__ import annotations

from collections.abc import Mapping

from adcopilot.answering.families import Family
from adcopilot.answering.items import Part

from ...wording import OWN, Wording

__all__ = ["FORMS", "own_wording", "prefix", "question_text"]

#: The three kinds of questions.
FORMS = ("choice", "boxes", "open")

_PAIR = {
    "en": "The first image shows a defect-free reference board, the second the board in question.\n",
    "zh": "第一张图是无缺陷的参考电路板，第二张图是待检电路板。\n",
}
_INSTRUCTIONS = {
    ("choice", "en"): "Answer with the letter of the right option only.",
    ("choice", "zh"): "只回答正确选项的字母。",
    ("open", "en"): "Answer directly, in one short paragraph of plain text.",
    ("open", "zh"): "请用一小段文字直接回答。",
}
_LABELS = {
    "en": "Write labels as the question names them.",
    "zh": "标签（label）使用中文。",
}


def own_wording(family: Family) -> Wording:
    """What stands around the benchmark's own questions."""
    text = {
        "pair": _PAIR,
        "labels": _LABELS,
        "boxes": family.box_request,
        **{f"{form}, {language}": words for (form, language), words in _INSTRUCTIONS.items()},
    }
    return Wording(whose=OWN, text=text, notes=("the questions are the benchmark's, what stands around them is not",))


def prefix(images: int, *, language: str) -> tuple[Part, ...]:
    """The beginning of the prompt: one image, or a reference and the image in question."""
    if images == 1:
        return (0, "\n")
    return (*range(images), "\n" + _PAIR[language])


def question_text(
    text: str, *, form: str, kind: str, language: str, options: Mapping[str, str] | None, family: Family
) -> str:
    """The question as it is put to a model of this family.

    Args:
        text: the benchmark's question.
        form: of `FORMS`.
        kind: the benchmark's `type`, such as `component coordinates`.
        language: `en` or `zh`.
        options: letter → text, for a choice.
        family: decides how boxes are asked for.
    """
    lines = [text.strip()]
    if form == "choice":
        lines += [f"{letter}. {option}" for letter, option in (options or {}).items()]
    if form == "boxes":
        # The families' words are about defects; the benchmark also asks for components.
        request = family.box_request if "defect" in kind else family.box_request.replace("defect", "component")
        lines += [request, _LABELS[language]]
    else:
        lines.append(_INSTRUCTIONS[form, language])
    return "\n".join(lines)
