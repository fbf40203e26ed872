"""Pieces of the page as HTML. Whatever comes from a visitor, a file's name or a model is escaped here."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from typing import Any

from PIL import Image

from ..drawing import BOX_COLOURS
from ..endpoint.images import data_url
from ..line.thresholds import Threshold
from ..verdict import Verdict
from .colours import HEAT_SCALE, map_scale
from .engines.answer import Answer
from .words import CHINESE, bilingual

__all__ = [
    "VERDICTS",
    "about",
    "bold",
    "chip",
    "chosen",
    "conversation",
    "escaped",
    "heat_about",
    "history_list",
    "in_both_languages",
    "map_about",
    "name",
    "notice",
    "of",
    "pair_strip",
    "places",
    "threshold",
    "thumbnail",
    "verdict",
    "waiting",
    "words",
]

#: The three verdicts as visitors read them, in the order of a table.
VERDICTS = {"anomalous": "Defect found", "undecided": "Undecided", "normal": "No defect found"}
#: The chips' colours in the page's style, by verdict.
CHIPS = {"anomalous": "bad", "normal": "good", "undecided": "unsure"}
MAPS_SCORE = "Map's score"
MORE_GOOD_PARTS = (
    "No threshold is known. Add more pictures of good parts, five or more are best: one is found from two on."
)
#: Longer side of a thumbnail in pixels.
THUMBNAIL = 88


def escaped(value: Any) -> str:
    """A text that is nothing but text, within an element or an attribute."""
    return html.escape(str(value))


def bold(value: Any) -> str:
    """The same in bold letters."""
    return f"<b>{escaped(value)}</b>"


def thumbnail(image: Image.Image) -> str:
    """A small JPEG as a data address."""
    small = image.convert("RGB")
    if max(small.size) < THUMBNAIL:  # few large pixels stay visible as such
        scale = THUMBNAIL / max(small.size)
        small = small.resize((round(small.width * scale), round(small.height * scale)), Image.Resampling.NEAREST)
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return data_url("JPEG", buffer.getvalue())


def notice(message: str) -> str:
    """What went wrong, or nothing. The page's own words are said in both languages, others as they are."""
    return f'<p class="adc-notice" role="alert">{in_both_languages(message)}</p>' if message else ""


def in_both_languages(message: str) -> str:
    """Words that may be the page's own, which then stand in both languages."""
    return bilingual(message) if message in CHINESE else escaped(message)


def words(answer: Answer) -> str:
    """The answer for people, without lists of boxes; the page's own words in both languages."""
    if answer.own_words is None:
        return escaped(answer.words)
    return bilingual(answer.own_words, number=len(answer.result.boxes))


def of(about: str, shown: str) -> str:
    """Something that is about pictures, with their mark (`belonging.mark`)."""
    return f'<div data-about="{escaped(about)}">{shown}</div>'


def chosen(*slots: str) -> str:
    """Where `looking.js` writes the names of the files in upload components, given by their ids."""
    return f'<p class="adc-names">{"".join(f"""<span data-names-of="{slot}"></span>""" for slot in slots)}</p>'


def waiting(*, has_good_parts: bool) -> str:
    """What stands where the verdict will be, and while it is under way (page.css shows one of the two, and looking.js
    writes the time and the place in the queue into the second)."""
    empty = "The verdict comes here. Add a good part and a part to inspect, then ask."
    if has_good_parts:
        empty = "The verdict comes here. Add a part to inspect, then ask."
    return (
        f'<p class="adc-empty">{bilingual(empty)}</p><p class="adc-looking">{bilingual("Looking at the pictures")} … '
        f'<span class="adc-time" id="adc-elapsed">0:00</span></p>'
        f'<p class="adc-looking adc-queued" hidden>{bilingual("Place in the queue")}: <b id="adc-place"></b></p>'
    )


def chip(verdict: Verdict | None) -> str:
    """The verdict in a coloured box, "Answer" where none was asked for; colour never says it alone."""
    if verdict is None:
        return f'<span class="adc-chip neutral">{bilingual("Answer")}</span>'
    return f'<span class="adc-chip {CHIPS[verdict.word]}">{bilingual(VERDICTS[verdict.word])}</span>'


def about(answer: Answer) -> str:
    """Which pictures an answer is about, by their files' names."""
    good = ", ".join(map(bold, answer.templates))
    return f'<p class="adc-small adc-about">{_compared(bold(answer.result.query), good)}</p>'


def _compared(query: str, good: str) -> str:
    return bilingual("About {query}, compared with {good}." if good else "About {query}.", query=query, good=good)


def name(file: str) -> str:
    """A file's name below its picture."""
    return f'<p class="adc-name adc-small">{escaped(file)}</p>'


def verdict(answer: Answer) -> str:
    """Verdict, score or why there is none, what speaks against it, and what it is about."""
    judge, of_map = answer.judge, answer.by_map or answer.judge.source == "map"
    parts = [f'<p class="adc-verdict">{chip(answer.verdict)}']
    if answer.score is not None:
        words = bilingual(MAPS_SCORE if of_map else "Score")
        parts.append(f'<span class="adc-score">{words} <b>{answer.score:.3f}</b></span>')
    parts.append("</p>")
    if answer.verdict is not None and answer.verdict.reason:
        told = bilingual("No verdict: {reason}. Look at the part yourself.", reason=escaped(answer.verdict.reason))
        parts.append(f'<p class="adc-reason">{bilingual(MORE_GOOD_PARTS) if answer.lacks_threshold else told}</p>')
    for doubt in _doubts(answer):
        parts.append(f'<p class="adc-reason">{bilingual(doubt)}</p>')
    parts.append(about(answer))
    if answer.score is not None and of_map:
        words = "0 is no difference from the good part. From {threshold} on a part counts as defective."
        parts.append(f'<p class="adc-small">{bilingual(words, threshold=f"{judge.map_threshold:.3g}")}</p>')
    elif answer.score is not None:
        parts.append(_bar(answer))
    elif answer.verdict is not None and answer.verdict.reason is None:
        words = (
            "No score: the model's server told no usable probabilities. The verdict is the first word of the answer."
        )
        if answer.reasoning:
            words = "No score: the model reasoned first. The verdict is the first word of the answer."
        parts.append(f'<p class="adc-small">{bilingual(words)}</p>')
    if answer.threshold is not None:
        parts.append(f'<p class="adc-small">{threshold(answer.threshold)}</p>')
    return "".join(parts)


def threshold(found: Threshold) -> str:
    """A threshold that was found from good parts, how, and what has to be said with it."""
    words = "The threshold {threshold} is from the good parts that were brought: {chosen}."
    told = bilingual(words, threshold=f"{found.value:.3g}", chosen=escaped(found.chosen))
    return " ".join([told, *(bilingual("Take care: {warning}.", warning=escaped(one)) for one in found.warnings)])


def _doubts(answer: Answer) -> list[str]:
    """What contradicts the verdict."""
    if answer.yes_or_no and answer.judge.disagree(answer.result):
        return ["Model and map disagree. Look at the part yourself."]
    if answer.says_otherwise:
        return ["The model's own words say the opposite of this verdict. Look at the part yourself."]
    if answer.marks_otherwise:
        return ["The model marks places although no defect was found. Look at the part yourself."]
    return []


def _bar(answer: Answer) -> str:
    """A model's score between 0 and 1, and the threshold."""
    judge, percent = answer.judge, round(answer.score * 100)
    words = "0 is like the good part, 1 is surely defective. From {threshold} on a part counts as defective."
    told = bilingual(words, threshold=f"{judge.model_threshold:g}")
    if judge.source == "either" and judge.map_threshold is not None and answer.result.map_score is not None:
        limit, score = f"{judge.map_threshold:.3g}", f"{answer.result.map_score:.3f}"
        told += " " + bilingual("So does a map's score from {threshold} on ({score}).", threshold=limit, score=score)
    return (
        f'<div class="adc-bar" role="img" aria-label="{percent} %"><i style="left:{percent}%"></i>'
        f'<b style="left:{judge.model_threshold * 100:g}%"></b></div><p class="adc-small">{told}</p>'
    )


def places(answer: Answer) -> str:
    """The boxes by number: each number enlarges its place in all pictures (`looking.js`)."""
    boxes, size = answer.result.boxes, answer.result.size
    if not boxes:
        return ""
    labels = list(dict.fromkeys(box["label"] for box in boxes))
    rows = []
    for number, box in enumerate(boxes, 1):
        x1, y1, x2, y2 = box["bbox_2d"]
        colour = "#{:02x}{:02x}{:02x}".format(*BOX_COLOURS[labels.index(box["label"]) % len(BOX_COLOURS)])
        at = "" if not size else f' data-x="{50 * (x1 + x2) / size[0]:.1f}" data-y="{50 * (y1 + y2) / size[1]:.1f}"'
        name = f"<b>{in_both_languages(box['label'] or 'defect')}</b>"
        where = f"{bilingual('from {place}', place=f'{x1}, {y1}')} {bilingual('to {place}', place=f'{x2}, {y2}')}"
        rows.append(
            f'<li><button type="button" class="adc-number" style="border-color:{colour}"{at}>{number}</button> '
            f'<span>{name} <span class="adc-where">{where}</span></span></li>'
        )
    told = bilingual("In pixels from the left and from the top. A number enlarges its place.")
    return f'<ul class="adc-boxes">{"".join(rows)}</ul><p class="adc-small">{told}</p>'


def map_about(answer: Answer) -> str:
    """What the picture of the map shows: the map's score, and what its colours are tied to; or why there is none."""
    found = answer.result.map
    if found is None:
        words = "No map: no good part to compare with."
        if answer.templates:
            words = "No map: it needs a good part of the same shape and view."
        return f'<p class="adc-small">{bilingual(words)}</p>'
    middle, top = map_scale(answer.judge.map_threshold)
    words = "No threshold is known: yellow is a difference of {middle}, red {top}, in every picture."
    if answer.judge.map_threshold:
        words = "Yellow is the threshold {threshold}, red twice as much, in every picture."
    scale = bilingual(words, threshold=f"{middle:.3g}", middle=f"{middle:g}", top=f"{top:g}")
    score = f"{bilingual(MAPS_SCORE)} <b>{found.pred_score:.3f}</b>."
    parts = [score, _legend(middle, top), scale]
    if answer.result.map_doubt:
        parts.append(bilingual("Take care: {warning}.", warning=escaped(answer.result.map_doubt)))
    return f'<p class="adc-small">{" ".join(parts)}</p>'


def heat_about(answer: Answer) -> str:
    """What the colours of the attention are tied to."""
    if answer.heat is None:
        return ""
    middle, top = HEAT_SCALE
    most = float(answer.heat.max() / answer.heat.mean())
    words = (
        "Where it looked, not where a defect is: yellow is {middle} times an even share of its attention, red {top} "
        "times, in every picture. Here at most {most} times."
    )
    told = bilingual(words, middle=f"{middle:g}", top=f"{top:g}", most=f"{most:.1f}")
    return f'<p class="adc-small">{_legend(middle, top)} {told}</p>'


def _legend(middle: float, top: float) -> str:
    """The colours of both maps, with their numbers."""
    numbers = f"<span>0</span><span>{middle:.3g}</span><span>{top:.3g}</span>"
    return f'<span class="adc-legend"><i></i><span class="adc-stops">{numbers}</span></span>'


def conversation(answers: Sequence[Answer]) -> str:
    """Questions and answers, the newest last, the reasoning folded away."""
    parts = ['<div class="adc-talk" role="log" tabindex="0">']
    for answer in answers:
        parts.append(
            f'<p class="adc-asked"><b>{bilingual("You")}:</b> {escaped(answer.question)}</p><div class="adc-said">'
        )
        if answer.reasoning:
            parts.append(
                f"<details><summary>{bilingual('How the model came to this (its reasoning)')}</summary>"
                f"<p>{escaped(answer.reasoning)}</p></details>"
            )
        if report := answer.report:
            lines = (
                f"<p><b>{escaped(name.replace('_', ' ').capitalize())}:</b> {escaped(text)}</p>"
                for name, text in report.items()
            )
            parts += lines
        else:
            parts.append(f"<p><b>{bilingual('Model')}:</b> {words(answer)}</p>")
        parts.append("</div>")
    return "".join([*parts, "</div>"])


def pair_strip(template: Image.Image, query: Image.Image) -> str:
    """Two thumbnails side by side; what they are stands on the button below."""
    return (
        f'<div class="adc-strip"><img src="{thumbnail(template)}" alt=""><img src="{thumbnail(query)}" alt=""></div>'
    )


def history_list(entries: Sequence[dict[str, Any]]) -> str:
    """Earlier answers, the newest first. They come from the visitor's own browser, so every field may be anything."""
    if not entries:
        words = bilingual("Nothing yet. Answers are kept in this browser only, not on the server.")
        return f'<p class="adc-small">{words}</p>'
    rows = []
    for entry in entries:
        image = str(entry.get("image", ""))
        picture = f'<img src="{escaped(image)}" alt="">' if image.startswith("data:image/jpeg;base64,") else ""
        score = entry.get("score")
        # In a browser 1.0 is 1, and a bool is no number.
        value = f"{score:.3f}" if isinstance(score, (int, float)) and not isinstance(score, bool) else ""
        reason = str(entry.get("reason") or "")
        anomalous = entry.get("anomalous")
        if not isinstance(anomalous, bool):
            anomalous = None
        found = Verdict(anomalous=anomalous, reason=reason or None) if (anomalous is None) == bool(reason) else None
        query = f'<span class="adc-name">{escaped(entry.get("query", ""))}</span>'
        compared = _compared(query, escaped(entry.get("templates") or ""))
        why = f"<p>{bilingual('No verdict: {reason}.', reason=escaped(reason))}</p>" if found and reason else ""
        rows.append(
            f"<li>{picture}<div>{chip(found)} <b>{value}</b> {compared} "
            f'<span class="adc-small">{escaped(entry.get("time", ""))}</span>{why}'
            f"<p>{escaped(entry.get('question', ''))}</p><p>{escaped(entry.get('answer', ''))}</p></div></li>"
        )
    return f'<ul class="adc-history">{"".join(rows)}</ul>'
