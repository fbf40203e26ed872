"""The table of "Many parts": as HTML, and as a file for spreadsheets. Names and words from outside are escaped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..inspect.spreadsheet import write_rows
from ..verdict import Verdict
from .fragments import VERDICTS, chip, escaped, in_both_languages
from .words import bilingual

__all__ = ["PartRow", "counts", "enlarged", "in_order", "progress", "table", "told", "write_csv"]

COLUMNS = ("file", "good part", "verdict", "reason", "score", "boxes", "places", "answer", "error")
#: The verdict of a part that could not be inspected, for the filter.
NONE = "error"
WORDS = {**VERDICTS, NONE: "Not inspected"}


@dataclass(frozen=True, kw_only=True)
class PartRow:
    """A part.

    Attributes:
        name: its path below what was brought.
        template: the file name of the good part, "" without one.
        verdict: None after an error.
        score: None where no verdict rests on it.
        boxes: as `Result.boxes`.
        answer: the model's words, "" without a model.
        error: why it could not be inspected, or "".
        small, large: files of the two pictures side by side, and of all that was found; None where there are none.
    """

    name: str
    template: str = ""
    verdict: Verdict | None = None
    score: float | None = None
    boxes: Sequence[dict[str, Any]] = ()
    answer: str = ""
    error: str = ""
    small: Path | None = None
    large: Path | None = None


def in_order(rows: Sequence[PartRow]) -> list[PartRow]:
    """Defects first, then what is undecided, then parts without defects, and within each the highest score; what
    could not be inspected comes last."""

    def place(row: PartRow) -> tuple:
        verdict, score = row.verdict, row.score
        rank = len(VERDICTS) if verdict is None else list(VERDICTS).index(verdict.word)
        if score is None:
            score = float(verdict is not None and verdict.word == "anomalous")
        return rank, -score, row.name

    return sorted(rows, key=place)


def counts(rows: Sequence[PartRow]) -> dict[str, int]:
    """How many of each verdict, and how many could not be inspected, if any."""
    found = Counter(NONE if row.verdict is None else row.verdict.word for row in rows)
    return {word: found[word] for word in WORDS if found[word] or word != NONE}


def told(rows: Sequence[PartRow]) -> str:
    """The same in words."""
    return ", ".join(f"{bilingual(WORDS[word])}: {number}" for word, number in counts(rows).items()) + "."


def progress(done: int, total: int, *, seconds: float, runs: bool, told: str = "") -> str:
    """How far a folder has come.

    Args:
        seconds: since it began.
        runs: whether the time goes on (`looking.js` counts it between two of these).
        told: what else there is to say, as HTML.
    """
    share = 100 * done / total if total else 100
    words = bilingual("{done} of {total} pictures inspected.", done=done, total=total)
    return (
        f'<p><span role="status">{words} {told}</span> '
        f'<span class="adc-time" data-seconds="{seconds:.0f}"{" data-runs" if runs else ""}>'
        f"{int(seconds) // 60}:{int(seconds) % 60:02d}</span></p>"
        f'<progress class="adc-progress" max="100" value="{share:.1f}">{share:.0f} %</progress>'
    )


def table(rows: Sequence[PartRow], *, most: int) -> str:
    """Counts, which are the filter, and the rows, the worst first (`looking.js` filters and sorts them).

    Args:
        rows: in order.
        most: so many are shown.
    """
    body = "".join(_line(row, place) for place, row in enumerate(rows[:most]))
    more = bilingual("The first {shown} of {total}; the file has all.", shown=most, total=len(rows))
    more = f'<p class="adc-small">{more}</p>' if len(rows) > most else ""
    heads = (
        f"<th>{bilingual('Part and good part')}</th>{_head('File', 'name')}{_head('Verdict', 'worst')}"
        f"{_head('Score', 'score')}<th>{bilingual('Answer')}</th>"
    )
    return (
        f'{_filter(rows)}<div class="adc-scroll" tabindex="0"><table class="adc-table"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>{more}"
    )


def _filter(rows: Sequence[PartRow]) -> str:
    buttons = "".join(
        f'<button type="button" data-only="{word}" aria-pressed="{str(not word).lower()}">'
        f"{bilingual(WORDS.get(word, 'All'))} <b>{number}</b></button>"
        for word, number in {"": len(rows), **counts(rows)}.items()
    )
    return f'<div class="adc-tools" role="group">{buttons}</div>'


def _head(words: str, key: str) -> str:
    order = "descending" if key == "worst" else "none"
    return f'<th aria-sort="{order}"><button type="button" data-sort="{key}">{bilingual(words)}</button></th>'


def _line(row: PartRow, place: int) -> str:
    word = NONE if row.verdict is None else row.verdict.word
    score = "" if row.score is None else f"{row.score:.3f}"
    pictures = ""
    if row.small and row.large:
        pictures = (
            f'<button type="button" data-enlarge="{address(row.large)}" aria-label="{escaped(row.name)}">'
            f'<img src="{address(row.small)}" alt="" loading="lazy"></button>'
        )
    if row.error:
        words = bilingual("Could not be inspected: {reason}", reason=escaped(row.error))
        told = f'<td colspan="3" class="adc-problem">{words}</td>'
    else:
        reason = row.verdict.reason
        why = (
            f'<p class="adc-small">{bilingual("No verdict: {reason}.", reason=escaped(reason))}</p>' if reason else ""
        )
        places = f'<p class="adc-small">{bilingual("Places")}: {len(row.boxes)}</p>' if row.boxes else ""
        words = f"{in_both_languages(row.answer)}{places}{why}"
        told = f'<td>{chip(row.verdict)}</td><td class="adc-score">{score}</td><td>{words}</td>'
    return (
        f'<tr data-place="{place}" data-verdict="{word}" data-score="{score}" data-name="{escaped(row.name)}">'
        f'<td class="adc-pictures">{pictures}</td><th scope="row" class="adc-name">{escaped(row.name)}</th>{told}</tr>'
    )


def address(path: Path) -> str:
    """Where the browser finds a file of the visitor's."""
    return escaped(f"gradio_api/file={quote(str(path))}")


def enlarged() -> str:
    """The view of a part's large picture, closed: `looking.js` fills and opens it. Escape closes it, and the keyboard
    stays within."""
    steps = "".join(
        f'<button type="button" data-step="{step}"{" autofocus" if not step else ""}>{bilingual(words)}</button> '
        for step, words in ((-1, "Before"), (1, "Next"), (0, "Close"))
    )
    return (
        '<dialog id="adc-enlarged"><p class="adc-top"><b class="adc-name"></b> <span class="adc-of"></span>'
        f'<span class="adc-steps">{steps}</span></p><div class="adc-whole" tabindex="0"><img alt=""></div></dialog>'
    )


def write_csv(path: Path, rows: Sequence[PartRow]) -> None:
    """The table for a spreadsheet; a place is its label and left, top, right and bottom in pixels."""
    cells = []
    for row in rows:
        verdict, score = row.verdict, "" if row.score is None else row.score
        words, reason = ("", "") if verdict is None else (VERDICTS[verdict.word].lower(), verdict.reason or "")
        places = "; ".join(f"{box['label'] or 'defect'}: {', '.join(map(str, box['bbox_2d']))}" for box in row.boxes)
        cells.append([row.name, row.template, words, reason, score, len(row.boxes), places, row.answer, row.error])
    write_rows(path, [COLUMNS, *cells])
