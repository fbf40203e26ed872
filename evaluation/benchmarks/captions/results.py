"""From the lines of a run to the paper's Table V."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from adcopilot.answering.families import split_thinking

from ...bootstrap import interval, ratio_draws
from .scorers import METRICS, score_captions

__all__ = ["results_of_records", "show"]


def results_of_records(
    records: Sequence[Mapping[str, Any]], *, tokenizer: str = "auto"
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """All scores of a run, and those of each pair.

    Args:
        records: its lines.
        tokenizer: of `TOKENIZERS`.

    Returns:
        `columns`: of Table V, × 100, None where a metric was left out; `intervals`: the 95 % intervals of means over
        pairs; `more`: BLEU-1 to BLEU-3; `skipped`: metric →
        why; `scorer`: tokenizer and versions; `by_category`: means of the pairs' own scores; `empty`: answers without
        text; `unread`: why an answer says nothing → how many (they score 0); `words`: mean length of an answer.

    Raises:
        UserError: as `scorers.score_captions`.
    """
    answers = [split_thinking(record["reply"]["text"])[1] for record in records]
    scores = score_captions(answers, [record["reference"] for record in records], tokenizer=tokenizer)
    each = [
        {
            "item": record["item"],
            **record["meta"],
            **{name: round(values[index], 6) for name, values in scores.each.items()},
        }
        for index, record in enumerate(records)
    ]
    kinds: dict[str, list[int]] = {}
    for index, record in enumerate(records):
        kinds.setdefault(record["meta"]["category"], []).append(index)
    return {
        "columns": {name: scores.values[name] for name in METRICS},
        "intervals": {
            # BLEU of a set is no mean over its pairs.
            name: interval(ratio_draws([np.array([[[value, 1.0]] for value in values])])[:, 0])
            for name, values in scores.each.items()
            if not name.startswith("BLEU")
        },
        "more": {name: value for name, value in scores.values.items() if name not in METRICS},
        "skipped": scores.skipped,
        "scorer": scores.settings,
        "by_category": {
            kind: {
                "pairs": len(members),
                **{
                    name: sum(values[index] for index in members) / len(members)
                    for name, values in scores.each.items()
                },
            }
            for kind, members in sorted(kinds.items())
            if len(kinds) > 1
        },
        "empty": sum(not answer for answer in answers),
        "unread": _unread(records, answers),
        "truncated": sum(bool(record["reply"].get("truncated")) for record in records),
        "words": sum(len(answer.split()) for answer in answers) / len(answers),
    }, each


def _unread(records: Sequence[Mapping[str, Any]], answers: Sequence[str]) -> dict[str, int]:
    refused = sum(bool(record["reply"].get("refused")) for record in records)
    empty = sum(not answer for answer in answers) - refused
    return {why: count for why, count in (("were refused by the endpoint", refused), ("are empty", empty)) if count}


def show(found: Mapping[str, Any]) -> None:
    """Print Table V's row."""
    cells = ["–" if found["columns"][name] is None else f"{found['columns'][name]:.1f}" for name in METRICS]
    print("  ".join(f"{name:>8}" for name in METRICS))
    print("  ".join(f"{cell:>8}" for cell in cells))
    for name, reason in found["skipped"].items():
        print(f"no {name}: {reason}")
    if found["scorer"]["tokenizer"] == "plain":
        print("words were cut without Java's PTBTokenizer: the last digits may differ from published numbers")
    if found["empty"]:
        print(f"{found['empty']} answers are empty and score 0")
    if found["truncated"]:
        print(f"{found['truncated']} answers were cut off; see --max-new-tokens")
