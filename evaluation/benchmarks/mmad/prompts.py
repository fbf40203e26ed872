"""What MMAD's questions are asked with, and the items that result.

The order is MMAD's: role and form of the answer, domain knowledge if wanted, templates, query image, then one question
with its options, each question on its own. The words are this package's, and scores depend on words: a run records
them, `--protocol CHECKOUT` reads MMAD's own (`protocol`), and `--prompts FILE` takes any others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from adcopilot.answering.families import Family
from adcopilot.answering.items import Item, Part
from adcopilot.errors import UserError
from adcopilot.files import read_json
from adcopilot.jsonl import content_key

from ...image_digests import image_digests
from ...wording import OWN, Wording
from .dataset import MmadSample, templates
from .words import PromptWords

__all__ = ["CONVERSATIONS", "PROMPTS", "items", "own_wording", "own_words", "read_prompts"]

#: What of an image's other questions is in view: nothing; the earlier ones; these, and what the model answered them.
CONVERSATIONS = ("alone", "earlier-questions", "earlier-answers")

#: The pieces of a prompt. `{text}`, `{count}`, `{question}` and `{options}` are filled in; nothing else is.
PROMPTS = {
    "role": (
        "You inspect industrial products by their pictures. Decide whether the product in the query image has a "
        "defect, and answer the question about it.\n"
    ),
    "form": "Answer with the letter of the right option.\n",
    "knowledge": "What is known about the product, its normal state and its possible defects:\n{text}\n",
    "template": "This is an image of a normal sample, a template to compare the query image with:\n",
    "templates": "These are {count} images of normal samples, templates to compare the query image with:\n",
    "query": "\nThis is the query image:\n",
    "question": "\nQuestion: {question}\n{options}",
}


def read_prompts(file: Path | None) -> dict[str, str]:
    """`PROMPTS` with the pieces that a JSON file gives in their place.

    Raises:
        UserError: the file is not a JSON object of these texts, or a question has no place for its words.
    """
    if file is None:
        return dict(PROMPTS)
    given = read_json(file, check="check --prompts", again="expected a JSON object of texts")
    if not isinstance(given, dict) or not all(isinstance(text, str) for text in given.values()):
        raise UserError(f"{file}: expected a JSON object of texts: {', '.join(PROMPTS)}")
    unknown = [name for name in given if name not in PROMPTS]
    if unknown:
        raise UserError(f"{file}: {unknown[0]!r} is none of {', '.join(PROMPTS)}")
    prompts = {**PROMPTS, **given}
    for place in ("{question}", "{options}"):
        if place not in prompts["question"]:
            raise UserError(f"{file}: 'question' is {prompts['question'][:60]!r}, expected {place} in it")
    return prompts


def own_words(prompts: Mapping[str, str], *, shots: int) -> PromptWords:
    """The words of a prompt with so many templates, from the pieces that `read_prompts` gives."""
    role, knowledge = (prompts["role"] + prompts["form"],), (prompts["knowledge"],)
    shown: tuple[Part, ...] = (prompts["query"], shots)
    if shots:
        before = prompts["template" if shots == 1 else "templates"].replace("{count}", str(shots))
        shown = (before, *range(shots), *shown)
    return PromptWords(untold=(*role, *shown), told=(*role, *knowledge, *shown), question=prompts["question"])


def own_wording(words: PromptWords, *, told: bool, file: Path | None) -> Wording:
    """Whose `own_words` are: this package's, or those of a file that was given for them."""
    return Wording(whose=OWN if file is None else f"wording of {file.name}", text=words.text(told=told))


def items(
    samples: Sequence[MmadSample],
    *,
    root: Path,
    shots: int,
    kind: str,
    words: PromptWords,
    conversation: str = "alone",
    knowledge: Mapping[tuple[str, str], str] | None = None,
    family: Family | None = None,
    thinking: bool = False,
    folder: Path | None = None,
) -> list[Item]:
    """One item a question; the questions of a sample are a group.

    Args:
        samples: with all images in place.
        root: MMAD's folder.
        shots, kind: so many `random` or `similar` templates, the first of the file.
        words: of the prompt with so many templates.
        conversation: of `CONVERSATIONS`; `earlier-answers` asks like `alone`, and `conversation.Conversation` does the
            rest.
        knowledge: `dataset.domain_knowledge`, if it is to be told.
        family: how the model is asked to reason; needed with `thinking`.
        thinking: ask for reasoning before the answer.
        folder: of the run, where `image_digests` keeps what it has read.

    Raises:
        UserError: a sample has too few templates, or an image cannot be read.
    """
    shown = [(*templates(sample, shots=shots, kind=kind), sample.image) for sample in samples]
    digests = image_digests((root / name for names in shown for name in names), folder=folder)
    found = []
    for sample, names in zip(samples, shown, strict=True):
        paths = tuple(root / name for name in names)
        told = (knowledge or {}).get((sample.dataset, sample.category))
        parts = words.prefix(told)
        # An image that was exchanged (MMAD once corrected 22) is another question.
        group = content_key("mmad", names, [digests[path] for path in paths], parts)
        for place, question in enumerate(sample.questions):
            earlier = sample.questions[:place] if conversation == "earlier-questions" else ()
            asked = words.asked(question, earlier)
            if thinking and family is not None:
                asked = family.question(asked, thinking=True)
            found.append(
                Item(
                    key=content_key(group, question.index, asked, question.options, question.answer),
                    group=group,
                    images=paths,
                    prefix=parts,
                    question=asked,
                    options=question.options,
                    reference=question.answer,
                    meta={
                        **sample.meta(names[:-1]),
                        "mask": sample.mask_path,
                        "type": question.type,
                        "question": question.text,
                    },
                )
            )
    return found
