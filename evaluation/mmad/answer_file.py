"""MMAD's answer file: a JSON list with one entry a question, which MMAD's own summary script reads.

{"image": "VisA/pcb1/test/bad/000.JPG", "question": {"type": "text", "text": "…", "options": {"A": "Yes.", …}},
 "question_type": "Anomaly Detection", "correct_answer": "A", "gpt_answer": "A"}
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from adcopilot.errors import UserError
from adcopilot.jsonl import atomic_write

__all__ = ["answer_file_name", "read_answer_file", "write_answer_file"]

_TEXT_FIELDS = ("image", "question_type", "correct_answer")


def answer_file_name(*, model: str, shots: int, similar: bool, domain_knowledge: bool) -> str:
    """The name that MMAD's scripts give: `answers_1_shot_MODEL_Similar_template_Domain_knowledge.json`."""
    model = re.sub(r"[^\w.+-]+", "_", Path(model.rstrip("/\\")).name) or "model"
    return (
        f"answers_{shots}_shot_{model}{'_Similar_template' if similar else ''}"
        f"{'_Domain_knowledge' if domain_knowledge else ''}.json"
    )


def write_answer_file(path: str | os.PathLike, answers: Iterable[Mapping[str, Any]]) -> None:
    """Write entries of `image`, `question`, `question_type`, `correct_answer`, `gpt_answer` atomically.

    Raises:
        UserError: the file cannot be written.
    """
    text = json.dumps(list(answers), ensure_ascii=False, indent=1)
    atomic_write(path, lambda file: file.write(text.encode(errors="backslashreplace")))


def read_answer_file(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Read and check an answer file. Fields beyond MMAD's are kept; `question` may be anything or absent.

    `gpt_answer` may be any text or null: what is no letter counts as unreadable when it is scored.

    Raises:
        UserError: no such file, not JSON, not a list, or an entry without one of the fields; it names the entry.
    """
    path = Path(path)
    try:
        entries = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check the path") from None
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: not JSON ({reason}); expected MMAD's answer file, a list of answers") from None
    if not isinstance(entries, list):
        raise UserError(f"{path}: holds a JSON {_kind(entries)}, expected MMAD's answer file, a list of answers")
    if not entries:
        raise UserError(f"{path}: holds no answers")
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise UserError(f"{path}: entry {number} is a {_kind(entry)}, expected an object with 'image' and others")
        for field in _TEXT_FIELDS:
            if not isinstance(entry.get(field), str) or not entry[field]:
                raise UserError(f"{path}: entry {number} has {field!r} {entry.get(field)!r:.60}, expected a text")
        if "gpt_answer" not in entry:
            raise UserError(f"{path}: entry {number} has no 'gpt_answer', expected the letter that was answered")
    return entries


def _kind(value: Any) -> str:
    names = {dict: "object", list: "list", str: "text", bool: "truth value", int: "number", float: "number"}
    return names.get(type(value), "null")
