"""The gallery's cards: a seeded choice of right and wrong answers with their images and boxes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adcopilot.answering.choices import official_answer, stated_answer, strict_answer
from adcopilot.answering.families import split_thinking
from adcopilot.errors import UserError
from adcopilot.images import image_size
from adcopilot.pages.gallery import Box, Gallery, Picture
from adcopilot.pages.sampling import Draw
from adcopilot.pages.text import clean, shorten

from ..box_scores import BoxRule, read_mask
from ..mmad.dataset import mask_places
from ..mmad.scoring import sub_task
from ..unipcb.answers import letter_answer
from ..unipcb.results import read_boxes_of
from .sources import Source

__all__ = ["RIGHT_IOU", "Answer", "make_answers"]

#: An image's boxes are called right from this IoU on.
RIGHT_IOU = 0.5

MOST_PICTURES = 4
MOST_BOXES = 40
MOST_TEXT = 2_500
# Colours of the style sheet: bluish green for what is true, red for what was predicted.
_TRUE, _PREDICTED = 3, 0


@dataclass(kw_only=True)
class Answer:
    """A question with its answer.

    Attributes:
        run, dataset, task, label: what the gallery is filtered by; `label` is `right`, `wrong`, `unread` (a text that
            states no answer, such as a refusal), `no answer` (an error, or nothing), or `not judged`.
        title: of the card.
        where: the image.
        pictures: templates, then the query with its boxes.
        legend: (colour, broken line, what, how many) of the boxes.
        question, options, text, thoughts: what was asked and what the model wrote.
        correct, read: letters of the right option and of the answer.
        guessed: the letter that MMAD's rule counts though the answer does not state it.
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
    read: str = ""
    guessed: str = ""
    wanted: list[str] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def make_answers(
    sources: Sequence[Source], *, samples: int, seed: int, budget: int, data_roots: Sequence[Path]
) -> tuple[list[Answer], int]:
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
    scored = [{_place(line): line for line in source.each} for source in sources]
    for number, (source, each) in enumerate(zip(sources, scored, strict=True)):
        for index, record in enumerate(source.records):
            found = _judge(source, record, each)
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
        line = scored[number].get(record["meta"]["image"] if source.benchmark == "mmad-bbox" else record["item"])
        card = _card(source, record, line, dataset=dataset, task=task, label=label)
        # One budget for all folders.
        _show(card, source, record, line, gallery=gallery, root=root, data_roots=data_roots,
              room=budget - used)  # fmt: skip
        used += sum(len(picture.url) for picture in card.pictures)
        cards.append(card)
    return cards, sum(not picture.url for card in cards for picture in card.pictures)


def _place(line: Mapping[str, Any]) -> str:
    """What joins a line of the run with what it scored: MMAD-BBox's lines have the image, others the item."""
    return str(line.get("item") or line.get("image"))


def _judge(
    source: Source, record: Mapping[str, Any], each: Mapping[str, Mapping[str, Any]]
) -> tuple[str, str, str] | None:
    """(dataset, task, label) of an answer; None of what the gallery does not show."""
    meta, text = record["meta"], split_thinking(record["reply"]["text"])[1]
    missing = record["reply"].get("error") is not None or not text
    if source.benchmark == "mmad":
        place = meta["dataset"], sub_task(meta["type"]).replace("Detection", "Discrimination")
        read = stated_answer(text, record["options"]).letter
        return *place, _label(None if read is None else read == record["reference"], missing)
    if source.benchmark == "mmad-bbox":
        line = each.get(meta["image"])
        if meta["role"] != "boxes" or (line is None and not missing):
            return None
        if missing or not (line["predicted"] or _says_none(text)):
            return meta["dataset"], "Boxes", _label(None, missing)
        right = not line["predicted"] if meta["normal"] else line["iou"] >= RIGHT_IOU
        return meta["dataset"], "Boxes", _label(right, missing)
    if source.benchmark == "caption":
        return meta["category"] or "captions", "Caption", "no answer" if missing else "not judged"
    line = each.get(record["item"], {})
    label = "no answer" if missing else "not judged"
    if "right" in line:
        label = _label(None if line.get("read") == "none" else line["right"], missing)
    elif "hits" in line:
        stated = line["hits"] or line["false"] or _says_none(text)
        label = _label(not line["false"] and not line["missed"] if stated else None, missing)
    return meta["dataset"], meta["type"], label


def _label(right: bool | None, missing: bool) -> str:
    """`right` is None where the answer states nothing."""
    return "no answer" if missing else "unread" if right is None else "right" if right else "wrong"


#: An answer that there is no box: empty lists and tags, or words for it at its beginning.
_NONE = re.compile(
    r"\[\s*\]|\{\s*\}|^\W*(?:no|none|normal|good|nothing|there (?:is|are) no)\b|^\W*(?:无|没有|否|正常)", re.I
)


def _says_none(text: str) -> bool:
    return _NONE.search(text) is not None


def _card(
    source: Source, record: Mapping[str, Any], line: Mapping[str, Any] | None, *, dataset: str, task: str, label: str
) -> Answer:
    meta = record["meta"]
    thoughts, text = split_thinking(record["reply"]["text"])
    name = str(meta.get("image") or meta.get("name") or (Path(record["images"][-1]).name if record["images"] else ""))
    card = Answer(
        run=f"{source.name}, {source.benchmark}",
        dataset=shorten(dataset, 80),
        task=shorten(task, 60),
        label=label,
        title=shorten(meta.get("category") or meta.get("dataset") or "answer", 80),
        where=shorten(name, 160),
        question=_cut(meta.get("question") or record["question"].strip()),
        options={letter: shorten(words, 300) for letter, words in (record["options"] or {}).items()}
        if source.benchmark in ("mmad", "unipcb")
        else {},
        text=_cut(text or record["reply"]["text"]),
        thoughts=_cut(thoughts or ""),
    )
    error = record["reply"].get("error")
    if error:
        what = "refused by the endpoint" if record["reply"].get("refused") else "an error"
        card.notes.append(f"no answer, {what}: {shorten(str(error), 300)}")
    if record["reply"].get("truncated"):
        card.notes.append("the answer was cut off at the longest length allowed")
    if card.options:
        card.correct = str(record["reference"])
        _read(card, source, record)
        known = record["reply"].get("option_logprobs")
        if known:
            values = ", ".join(f"{letter} {value:.2f}" for letter, value in sorted(known.items()))
            card.facts.append(("log-probabilities", shorten(values, 200)))
    elif isinstance(record["reference"], list):
        card.wanted = [_cut(one) for one in record["reference"][:6] if isinstance(one, str)]
    elif isinstance(record["reference"], str):
        card.wanted = [_cut(record["reference"])]
    for key in ("iou", "mask_iou", "anomaly_score", "sbert", "bertscore", "grade", "METEOR", "ROUGE-L", "CIDEr"):
        if line is not None and isinstance(line.get(key), (int, float)):
            card.facts.append((key.replace("_", " "), f"{line[key]:.3f}"))
    card.facts.append(("prompt", shorten(record["question"], 600)))
    return card


def _read(card: Answer, source: Source, record: Mapping[str, Any]) -> None:
    """What the answer to a choice states, and what the benchmark's rule makes of it."""
    text, options = record["reply"]["text"], record["options"]
    if source.benchmark == "unipcb":
        card.read = letter_answer(text, options).letter or ""
        card.facts.append(("read as", card.read or "nothing"))
        return
    official, strict = official_answer(text, options), strict_answer(text, options)
    card.read = stated_answer(text, options).letter or ""
    card.guessed = (official.letter or "") if official.letter != (card.read or None) else ""
    if card.guessed:
        how = "the option with the most similar text" if official.how == "nearest" else "a letter in it"
        counts = "right" if card.guessed == card.correct else "wrong"
        card.notes.append(f"MMAD's rule takes {card.guessed}, {how}, and counts it as {counts}")
    read = f"{official.letter or 'nothing'} ({official.how}), by the strict rule {strict.letter or 'nothing'}"
    card.facts.append(("read as", read))


def _cut(text: Any) -> str:
    text = clean(str(text))
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]} … ({len(text):,} characters)"


def _show(
    card: Answer,
    source: Source,
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
        role = "query" if number == len(shown) - 1 and count > 1 else "template" if count > 1 else "image"
        if source.benchmark == "caption":
            role = ("before", "after")[number % 2]
        elif source.benchmark == "unipcb":
            role = f"image {number + 1}" if count > 1 else "image"
        picture = gallery.picture((path.relative_to(root) if path.is_relative_to(root) else path).as_posix(), role)
        if len(picture.url) > room:
            picture.url, picture.problem = "", "no room for it: --max-mib limits the page"
            gallery.left_out += 1
        room -= len(picture.url)
        card.pictures.append(picture)
    if card.pictures:
        for boxes, colour, broken, what in _boxes(source, record, line, roots=[root, *data_roots]):
            _draw(card, boxes, colour=colour, broken=broken, what=what)


def _boxes(
    source: Source, record: Mapping[str, Any], line: Mapping[str, Any] | None, *, roots: Sequence[Path]
) -> Iterator[tuple[list[Mapping[str, Any]], int, bool, str]]:
    """(boxes, colour, broken line, what they are)."""
    if source.benchmark == "mmad" and record["meta"].get("mask"):
        boxes = _mask_boxes(record, roots)
        if boxes is not None:
            yield [{"bbox_2d": box, "label": ""} for box in boxes], _TRUE, False, "true"
    if source.benchmark == "mmad-bbox" and line is not None:
        labels = line.get("labels") or [""] * len(line["predicted"])
        yield [{"bbox_2d": box, "label": ""} for box in line["truth"]], _TRUE, False, "true"
        predicted = zip(line["predicted"], labels, strict=True)
        yield [{"bbox_2d": box, "label": label} for box, label in predicted], _PREDICTED, True, "predicted"
    elif source.benchmark == "unipcb" and record["meta"].get("form") == "boxes":
        yield record["reference"], _TRUE, False, "true"
        try:
            yield read_boxes_of(record), _PREDICTED, True, "predicted"
        except (KeyError, UserError):
            return


def _mask_boxes(record: Mapping[str, Any], roots: Sequence[Path]) -> list[list[int]] | None:
    """A box around each region of the image's mask; None where no mask is there that fits the image."""
    image, name = record["meta"]["image"], record["meta"]["mask"]
    for root in roots:
        inside = root.resolve()
        for path in mask_places(root, image, name):
            if path.exists() and path.resolve().is_relative_to(inside):
                try:
                    return BoxRule().boxes(read_mask(path, size=image_size(root / image)))
                except UserError:
                    return None
    return None


def _draw(card: Answer, boxes: Sequence[Mapping[str, Any]], *, colour: int, broken: bool, what: str) -> None:
    picture = card.pictures[-1]
    for box in boxes[:MOST_BOXES]:
        x1, y1, x2, y2 = (float(value) for value in box["bbox_2d"])
        label = shorten(f"{what} {box.get('label') or ''}".strip(), 60)
        picture.boxes.append(
            Box(x=x1, y=y1, width=max(x2 - x1, 0), height=max(y2 - y1, 0), label=label, colour=colour, told=broken)
        )
    if len(boxes) > MOST_BOXES:
        card.notes.append(f"only {MOST_BOXES} of {len(boxes)} {what} boxes are drawn")
    card.legend.append((colour, broken, what, len(boxes)))
