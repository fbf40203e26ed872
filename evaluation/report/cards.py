"""The gallery's cards: a seeded choice of right and wrong answers with their images and boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adcopilot.answering.families import split_thinking
from adcopilot.pages.gallery import Box, Gallery, Picture
from adcopilot.pages.sampling import Draw
from adcopilot.pages.text import cut, shorten

from ..benchmark import Reading
from ..source import ReportSource

__all__ = ["AnswerCard", "make_answers"]

MOST_PICTURES = 4
MOST_BOXES = 40
# Colours of the style sheet: bluish green for what is true, red for what was predicted.
_TRUE, _PREDICTED = 3, 0


@dataclass(kw_only=True)
class AnswerCard:
    """A question with its answer.

    Attributes:
        run, dataset, task, label: what the gallery is filtered by; `label` is `right`, `wrong`, `unread` (a text that
            states no answer, such as a refusal), `no answer` (an error, or nothing), or `not judged`.
        title: of the card.
        where: the image.
        pictures: templates, then the query with its boxes.
        legend: (colour, broken line, what, how many) of the boxes.
        question, options, text, thoughts: what was asked and what the model wrote.
        correct: letter of the right option.
        reading: how the answer to a question with options was read.
        wanted: right answers of open questions.
        facts: further values.
        notes: what could not be shown.
    """

    run: str
    dataset: str
    task: str
    label: str
    title: str
    where: str
    pictures: list[Picture] = field(default_factory=list)
    legend: list[tuple[int, bool, str, int]] = field(default_factory=list)
    question: str = ""
    options: dict[str, str] = field(default_factory=dict)
    text: str = ""
    thoughts: str = ""
    correct: str = ""
    reading: Reading | None = None
    wanted: list[str] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def make_answers(
    sources: Sequence[ReportSource], *, samples: int, seed: int, budget: int, data_roots: Sequence[Path]
) -> tuple[list[AnswerCard], int]:
    """Choose and make the cards.

    The choice goes in turn through runs, datasets, sub-tasks, right and wrong, and depends on the questions and the
    seed alone: runs that were asked the same show the same questions where they can.

    Args:
        sources: the runs; answer files have no images and no texts, and give none.
        samples: cards, at most.
        seed: of the choice.
        budget: bytes of all pictures.
        data_roots: where images are looked for besides the folder that the run had them in.

    Returns:
        The cards, and how many pictures could not be shown.
    """
    draw = Draw(count=samples, seed=seed)
    scored = [{source.benchmark.place(line): line for line in source.each} for source in sources]
    for number, (source, each) in enumerate(zip(sources, scored, strict=True)):
        for index, record in enumerate(source.records):
            found = _filed(source, record, each)
            if found is not None:
                raw = f"{record['images'][-1:]} {record['meta'].get('question') or record['question']}"
                draw.offer((str(number), *found), raw.encode("utf-8", "replace"), (number, index))
    galleries: dict[Path, Gallery] = {}
    cards, used = [], 0
    for (_, dataset, task, label), (number, index) in draw.chosen():
        source = sources[number]
        record = source.records[index]
        root = Path(str(source.selection.get("data_root") or "."))
        gallery = galleries.setdefault(
            root, Gallery(media_dirs=[root, *data_roots], budget=budget, option="--data-root")
        )
        line = scored[number].get(source.benchmark.place(record))
        card = _card(source, record, line, dataset=dataset, task=task, label=label)
        # One budget for all folders.
        _show(card, source, record, line, gallery=gallery, root=root, data_roots=data_roots,
              room=budget - used)  # fmt: skip
        used += sum(len(picture.url) for picture in card.pictures)
        cards.append(card)
    return cards, sum(not picture.url for card in cards for picture in card.pictures)


def _filed(
    source: ReportSource, record: Mapping[str, Any], each: Mapping[str, Mapping[str, Any]]
) -> tuple[str, str, str] | None:
    """(dataset, task, label) of an answer; None of what the gallery does not show."""
    text = split_thinking(record["reply"]["text"])[1]
    missing = record["reply"].get("error") is not None or not text
    found = source.benchmark.judge(record, each.get(source.benchmark.place(record)), "" if missing else text)
    if found is None:
        return None
    if missing:
        label = "no answer"
    elif not found.judged:
        label = "not judged"
    else:
        label = "unread" if found.right is None else "right" if found.right else "wrong"
    return found.dataset, found.task, label


def _card(
    source: ReportSource,
    record: Mapping[str, Any],
    line: Mapping[str, Any] | None,
    *,
    dataset: str,
    task: str,
    label: str,
) -> AnswerCard:
    meta = record["meta"]
    thoughts, text = split_thinking(record["reply"]["text"])
    name = str(meta.get("image") or meta.get("name") or (Path(record["images"][-1]).name if record["images"] else ""))
    card = AnswerCard(
        run=f"{source.name}, {source.benchmark.name}",
        dataset=shorten(dataset, 80),
        task=shorten(task, 60),
        label=label,
        title=shorten(meta.get("category") or meta.get("dataset") or "answer", 80),
        where=shorten(name, 160),
        question=cut(meta.get("question") or record["question"].strip()),
        text=cut(text or record["reply"]["text"]),
        thoughts=cut(thoughts or ""),
    )
    error = record["reply"].get("error")
    if error:
        what = "refused by the endpoint" if record["reply"].get("refused") else "an error"
        card.notes.append(f"no answer, {what}: {shorten(str(error), 300)}")
    if record["reply"].get("truncated"):
        card.notes.append("the answer was cut off at the longest length allowed")
    read = source.benchmark.read(record)
    if read is not None:
        card.options = {letter: shorten(words, 300) for letter, words in record["options"].items()}
        card.correct = str(record["reference"])
        card.reading = read
        card.notes += read.notes
        card.facts += read.facts
        known = record["reply"].get("option_logprobs")
        if known:
            values = ", ".join(f"{letter} {value:.2f}" for letter, value in sorted(known.items()))
            card.facts.append(("log-probabilities", shorten(values, 200)))
    elif isinstance(record["reference"], list):
        card.wanted = [cut(one) for one in record["reference"][:6] if isinstance(one, str)]
    elif isinstance(record["reference"], str):
        card.wanted = [cut(record["reference"])]
    for key in source.benchmark.facts:
        if line is not None and isinstance(line.get(key), (int, float)):
            card.facts.append((key.replace("_", " "), f"{line[key]:.3f}"))
    card.facts.append(("prompt", shorten(record["question"], 600)))
    return card


def _show(
    card: AnswerCard,
    source: ReportSource,
    record: Mapping[str, Any],
    line: Mapping[str, Any] | None,
    *,
    gallery: Gallery,
    root: Path,
    data_roots: Sequence[Path],
    room: int,
) -> None:
    """Put the pictures into a card, and the boxes on the last of them."""
    images = [Path(path) for path in record["images"]]
    count = len(images)
    # The query, which comes last, always stays.
    shown = images if count <= MOST_PICTURES else [*images[: MOST_PICTURES - 1], images[-1]]
    if len(shown) < count:
        card.notes.append(f"{count - len(shown)} more templates are not shown")
    for number, path in enumerate(shown):
        role = source.benchmark.role(number, len(shown))
        # a run has its pictures as its data root was typed, or resolved
        name = next((path.relative_to(base) for base in (root, root.resolve()) if path.is_relative_to(base)), path)
        picture = gallery.picture(name.as_posix(), role)
        if len(picture.url) > room:
            picture.url, picture.problem = "", "no room for it: --max-mib limits the page"
            gallery.left_out += 1
        room -= len(picture.url)
        card.pictures.append(picture)
    for boxes in source.benchmark.boxes(record, line, [root, *data_roots]) if card.pictures else ():
        colour, what = (_PREDICTED, "predicted") if boxes.predicted else (_TRUE, "true")
        for box in boxes.boxes[:MOST_BOXES]:
            label = shorten(f"{what} {box.get('label') or ''}".strip(), 60)
            drawn = Box.of(box["bbox_2d"], label=label, colour=colour, told=boxes.predicted)
            card.pictures[-1].boxes.append(drawn)
        if len(boxes.boxes) > MOST_BOXES:
            card.notes.append(f"only {MOST_BOXES} of {len(boxes.boxes)} {what} boxes are drawn")
        card.legend.append((colour, boxes.predicted, what, len(boxes.boxes)))
