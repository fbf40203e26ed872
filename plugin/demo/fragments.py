"""Pieces of the page as HTML. Whatever comes from a visitor, a file's name or a model is escaped here."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw

from ..anomaly_map.picture import scale_in_words
from ..drawing import BOX_COLOURS
from ..endpoint.images import data_url
from ..verdict import Verdict
from .answer import Answer

__all__ = [
    "VERDICTS",
    "about",
    "conversation",
    "history_list",
    "map_about",
    "notice",
    "of",
    "pair_strip",
    "plain",
    "progress",
    "table",
    "thumbnail",
    "verdict",
]

#: The three verdicts as visitors read them, in the order of a table.
VERDICTS = {"anomalous": "Defect found", "undecided": "Undecided", "normal": "No defect found"}
#: Longer side of a thumbnail in pixels.
THUMBNAIL = 88
#: Rows of the table on the page; the CSV has all.
MOST_ROWS = 200


def plain(value: Any) -> str:
    """A text that is nothing but text, within an element or an attribute."""
    return html.escape(str(value))


def thumbnail(image: Image.Image, *, boxes: Sequence[dict[str, Any]] = ()) -> str:
    """A small JPEG as a data address, with boxes (in pixels of the image) drawn on it."""
    small = image.convert("RGB")
    if max(small.size) < THUMBNAIL:  # few large pixels stay visible as such
        scale = THUMBNAIL / max(small.size)
        small = small.resize((round(small.width * scale), round(small.height * scale)), Image.Resampling.NEAREST)
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    scale = small.width / image.width, small.height / image.height
    for box in boxes:
        x1, y1, x2, y2 = (value * scale[index % 2] for index, value in enumerate(box["bbox_2d"]))
        ImageDraw.Draw(small).rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=BOX_COLOURS[0], width=2)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return data_url("JPEG", buffer.getvalue())


def notice(message: str) -> str:
    """What went wrong, or nothing."""
    return f'<p class="adc-notice" role="alert">{plain(message)}</p>' if message else ""


def of(about: str, shown: str) -> str:
    """Something that is about pictures, with their mark (`belonging.mark`)."""
    return f'<div data-about="{plain(about)}">{shown}</div>'


def chip(verdict: Verdict | None) -> str:
    """The verdict in a coloured box, "Answer" where none was asked for; colour never says it alone."""
    if verdict is None:
        return '<span class="adc-chip neutral">Answer</span>'
    colour = {"anomalous": "bad", "normal": "good", "undecided": "unsure"}[verdict.word]
    return f'<span class="adc-chip {colour}">{VERDICTS[verdict.word]}</span>'


def about(answer: Answer) -> str:
    """Which pictures an answer is about, by their files' names."""
    good = ", ".join(f"<b>{plain(name)}</b>" for name in answer.templates)
    compared = f", compared with {good}" if good else ""
    return f'<p class="adc-small adc-about">About <b>{plain(answer.result.query)}</b>{compared}.</p>'


def verdict(answer: Answer) -> str:
    """Verdict, what it is about, score or why there is none, and the boxes in words."""
    parts = [f'<p class="adc-verdict">{chip(answer.verdict)}']
    judge, of_map = answer.judge, answer.by_map or answer.judge.source == "map"
    if answer.score is not None:
        words = "Map's score" if of_map else "Score"
        parts.append(f'<span class="adc-score">{words} <b>{answer.score:.3f}</b></span>')
    parts.append(f"</p>{about(answer)}")
    if answer.verdict is not None and answer.verdict.reason:
        parts.append(
            f'<p class="adc-reason">No verdict: {plain(answer.verdict.reason)}. Look at the part yourself.</p>'
        )
    elif answer.score is not None and of_map:
        parts.append(
            f'<p class="adc-small">0 is no difference from the good part. From {judge.map_threshold:.3g} on a part '
            "counts as defective.</p>"
        )
    elif answer.score is not None:
        percent = round(answer.score * 100)
        parts.append(
            f'<div class="adc-bar" role="img" aria-label="{percent} out of 100">'
            f'<i style="left:{percent}%"></i><b style="left:{judge.model_threshold * 100:g}%"></b></div>'
            f'<p class="adc-small">0 is like the good part, 1 is surely defective. '
            f"From {judge.model_threshold:g} on a part counts as defective{_or_by_map(answer)}.</p>"
        )
    elif answer.verdict is not None:
        why = "the model reasoned first" if answer.reasoning else "the model's server told no usable probabilities"
        parts.append(f'<p class="adc-small">No score: {why}. The verdict is the first word of the answer.</p>')
    if answer.yes_or_no and judge.disagree(answer.result):
        parts.append('<p class="adc-reason">Model and map disagree. Look at the part yourself.</p>')
    if boxes := answer.result.boxes:
        rows = "".join(
            "<li>{}: from {}, {} to {}, {}</li>".format(plain(box["label"] or "defect"), *box["bbox_2d"])
            for box in boxes
        )
        parts.append(
            f'<p class="adc-small">Marked places (pixels from the left and from the top of the picture):</p>'
            f'<ol class="adc-boxes">{rows}</ol>'
        )
    return "".join(parts)


def _or_by_map(answer: Answer) -> str:
    """What else makes a part defective, where either score may."""
    if answer.judge.source != "either" or answer.judge.map_threshold is None or answer.result.map_score is None:
        return ""
    return f", as it does from {answer.judge.map_threshold:.3g} of the map's score on ({answer.result.map_score:.3f})"


def map_about(answer: Answer) -> str:
    """What the picture of the map shows: the map's score, and what its colours are tied to; or why there is none."""
    found = answer.result.map
    if found is None:
        why = (
            "no good part to compare with"
            if not answer.templates
            else "it needs a good part of the same shape and view"
        )
        return f'<p class="adc-small">No map: {why}.</p>'
    threshold = answer.judge.map_threshold
    parts = [f"Map's score <b>{found.pred_score:.3f}</b>. {plain(scale_in_words(threshold))}"]
    if answer.result.map_doubt:
        parts.append(f"Take care: {plain(answer.result.map_doubt)}.")
    return f'<p class="adc-small">{" ".join(parts)}</p>'


def conversation(answers: Sequence[Answer]) -> str:
    """Questions and answers, the newest last, the reasoning folded away."""
    parts = ['<div class="adc-talk" role="log" aria-label="Questions and answers">']
    for answer in answers:
        parts.append(f'<p class="adc-asked"><b>You:</b> {plain(answer.question)}</p><div class="adc-said">')
        if answer.reasoning:
            parts.append(
                "<details><summary>How the model came to this (its reasoning)</summary>"
                f"<p>{plain(answer.reasoning)}</p></details>"
            )
        if report := answer.report:
            lines = (
                f"<p><b>{plain(name.replace('_', ' ').capitalize())}:</b> {plain(text)}</p>"
                for name, text in report.items()
            )
            parts += lines
        else:
            parts.append(f"<p><b>Model:</b> {plain(answer.words)}</p>")
        parts.append("</div>")
    return "".join([*parts, "</div>"])


def pair_strip(template: Image.Image, query: Image.Image, *, title: str) -> str:
    """Two thumbnails side by side."""
    return (
        f'<div class="adc-strip"><img src="{thumbnail(template)}" alt="{plain(title)}: good part">'
        f'<img src="{thumbnail(query)}" alt="{plain(title)}: part to inspect"></div>'
    )


def history_list(entries: Sequence[dict[str, Any]]) -> str:
    """Earlier answers, the newest first. They come from the visitor's own browser, so every field may be anything."""
    if not entries:
        return '<p class="adc-small">Nothing yet. Answers are kept in this browser only, not on the server.</p>'
    rows = []
    for entry in entries:
        image = str(entry.get("image", ""))
        picture = f'<img src="{plain(image)}" alt="">' if image.startswith("data:image/jpeg;base64,") else ""
        score = entry.get("score")
        # In a browser 1.0 is 1, and a bool is no number.
        value = f"{score:.3f}" if isinstance(score, (int, float)) and not isinstance(score, bool) else ""
        reason = str(entry.get("reason") or "")
        anomalous = entry.get("anomalous")
        if not isinstance(anomalous, bool):
            anomalous = None
        found = Verdict(anomalous=anomalous, reason=reason or None) if (anomalous is None) == bool(reason) else None
        good = entry.get("templates") or ""
        compared = f" compared with {plain(good)}" if good else ""
        rows.append(
            f"<li>{picture}<div>{chip(found)} <b>{value}</b> "
            f'<span class="adc-name">{plain(entry.get("query", ""))}</span>{compared} '
            f'<span class="adc-small">{plain(entry.get("time", ""))}</span>'
            f"{f'<p>No verdict: {plain(reason)}.</p>' if found and reason else ''}"
            f"<p>{plain(entry.get('question', ''))}</p><p>{plain(entry.get('answer', ''))}</p></div></li>"
        )
    return f'<ul class="adc-history">{"".join(rows)}</ul>'


def progress(done: int, total: int, *, message: str = "") -> str:
    """How far a folder has come."""
    share = 100 * done / total if total else 100
    return (
        f'<p role="status">{done} of {total} pictures inspected. {plain(message)}</p>'
        f'<progress class="adc-progress" max="100" value="{share:.1f}">{share:.0f} %</progress>'
    )


def table(rows: Sequence[dict[str, Any]], *, total: int) -> str:
    """Results of a folder, the highest score first.

    Args:
        rows: `name`, `template`, `score`, `verdict` (None after an error), `boxes` (a number), `answer`, `error`, and
            the thumbnails `image` and `template_image` (data addresses or "").
        total: how many there are altogether.
    """
    body = []
    for row in rows[:MOST_ROWS]:
        pictures = "".join(
            f'<img src="{plain(row[key])}" alt="{alt}">' if row[key] else ""
            for key, alt in (("image", "part"), ("template_image", "good part it was compared with"))
        )
        if row["error"]:
            told = f'<td colspan="3" class="adc-problem">Could not be inspected: {plain(row["error"])}</td>'
        else:
            score = "" if row["score"] is None else f"{row['score']:.3f}"
            reason = row["verdict"].reason
            why = f"<p class='adc-small'>No verdict: {plain(reason)}.</p>" if reason else ""
            told = (
                f"<td>{chip(row['verdict'])}</td><td class='adc-number'>{score}</td>"
                f"<td>{plain(row['answer'])}{why}</td>"
            )
        body.append(
            f'<tr><td class="adc-pictures">{pictures}</td>'
            f'<th scope="row" class="adc-name">{plain(row["name"])}</th>{told}</tr>'
        )
    more = f"<p class='adc-small'>The first {MOST_ROWS} of {total}; the file has all.</p>" if total > MOST_ROWS else ""
    return (
        '<div class="adc-scroll" tabindex="0" role="region" aria-label="Results"><table class="adc-table"><thead><tr>'
        "<th>Part and good part</th><th>File</th><th>Verdict</th><th>Score</th><th>Answer</th></tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table></div>{more}"
    )
