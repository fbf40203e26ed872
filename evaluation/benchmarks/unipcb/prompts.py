"""What is asked, in the language of the sample: English or Chinese.

The benchmark's own script asks for `<think>` and `<answer>` from every model; here reasoning is asked only from models
that are to reason (`--thinking`). The wording is this package's own; what is asked is part of each answer's key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from adcopilot.answering.families import Family
from adcopilot.answering.items import Item, Part
from adcopilot.jsonl import content_key

from ...image_digests import image_digests
from ...wording import OWN, Wording
from .dataset import PcbQuestion

__all__ = ["FORMS", "items", "own_wording"]

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


def items(
    questions: Sequence[PcbQuestion],
    *,
    family: Family,
    thinking: bool = False,
    alone: bool = False,
    folder: Path | None = None,
) -> list[Item]:
    """Questions as a model of `family` is asked them; with `thinking`, reasoning first.

    The questions of a sample are a group, in the order of its conversation.

    Args:
        questions: of `Prepared`.
        family, thinking: how they are asked.
        alone: whether each is asked by itself; otherwise its key depends on the questions before it too.
        folder: of the run, where `image_digests` keeps what it has read.

    Raises:
        UserError: an image cannot be read.

    `meta` has `dataset`, `level`, `type`, `form`, `language`, `sample`, `turn`, `question` (the benchmark's own words)
    and, for boxes, `size` and `frame`.
    """
    digests = image_digests((path for one in questions for path in one.sample.images), folder=folder)
    found = []
    keys: Counter[str] = Counter()
    before: dict[int, list[str]] = {}
    for question in questions:
        sample, entry = question.sample, question.sample.turns[question.turn]
        kind = str(entry.get("type", ""))
        start = prefix(len(sample.images), language=sample.language)
        text = question_text(
            entry["question"],
            form=question.form,
            kind=kind,
            language=sample.language,
            options=question.options,
            family=family,
        )
        asked = family.question(text, thinking=thinking)
        options = dict(question.options) if question.options else None
        pictured = [sample.names, [digests[path] for path in sample.images]]
        earlier = before.setdefault(sample.number, [])
        key = content_key("unipcb", pictured, start, asked, options, *([] if alone else [earlier]))
        earlier.append(asked)
        # What the benchmark asks twice counts twice.
        keys[key] += 1
        meta = {
            "dataset": sample.dataset,
            "level": sample.level,
            "type": kind,
            "form": question.form,
            "language": sample.language,
            "sample": sample.number,
            "turn": question.turn,
            "question": entry["question"].strip(),
        }
        if question.form == "boxes":
            meta |= {"size": list(question.size), "frame": list(question.frame)}
        found.append(
            Item(
                key=key if keys[key] == 1 else content_key(key, keys[key]),
                group=content_key("unipcb", pictured, start, *([] if alone else [sample.number])),
                images=sample.images,
                prefix=start,
                question=asked,
                options=options,
                reference=question.reference,
                meta=meta,
            )
        )
    return found
