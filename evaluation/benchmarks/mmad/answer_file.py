"""MMAD's answer file: a JSON list with one entry a question, which MMAD's own summary script reads.

{"image": "VisA/pcb1/test/bad/000.JPG", "question": {"type": "text", "text": "…", "options": {"A": "Yes.", …}},
 "question_type": "Anomaly Detection", "correct_answer": "A", "gpt_answer": "A"}

Other people's files name the same images in other ways: from the root of a disk, from another folder, with a
backslash. An image's dataset and whether it is normal are read off its name, so each name is brought to MMAD's own
where that can be told, and refused where it cannot.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from adcopilot.errors import UserError
from adcopilot.files import read_json
from adcopilot.jsonl import write_text

from .dataset import MmadSample
from .scoring import DATASETS, DISCRIMINATION, TYPES, plain_type

__all__ = [
    "MISSING",
    "answer_file_name",
    "compared",
    "distinct",
    "mmad_name",
    "read_answer_file",
    "write_answer_file",
]

#: Why an answer is lost that is not there.
MISSING = "have no entry"

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
    write_text(path, text, errors="backslashreplace")


def read_answer_file(path: str | os.PathLike, *, samples: Sequence[MmadSample] | None = None) -> list[dict[str, Any]]:
    """Read and check an answer file. Fields beyond MMAD's are kept; `question` may be anything or absent.

    `gpt_answer` may be any text or null: what is no letter counts as unreadable when it is scored. `image` and
    `question_type` become MMAD's own: see `mmad_name`; case, spaces and underscores of a type do not matter.

    Args:
        path: the file.
        samples: of `mmad.json`, where it is at hand: names are then brought to those in it, whatever their datasets.

    Raises:
        UserError: no such file, not JSON, not a list, or an entry without one of the fields or with an image or a
            type that cannot be told; it names the entry.
    """
    path = Path(path)
    entries = read_json(path, check="check the path", again="expected MMAD's answer file, a list of answers")
    if not isinstance(entries, list):
        raise UserError(f"{path}: holds a JSON {_kind(entries)}, expected MMAD's answer file, a list of answers")
    if not entries:
        raise UserError(f"{path}: holds no answers")
    known = None if samples is None else {sample.image.casefold(): sample.image for sample in samples}
    own = () if samples is None else (question.type for sample in samples for question in sample.questions)
    types = {plain_type(name): name for name in (*TYPES, *own)}
    names: dict[str, str | None] = {}
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise UserError(f"{path}: entry {number} is a {_kind(entry)}, expected an object with 'image' and others")
        for field in _TEXT_FIELDS:
            if not isinstance(entry.get(field), str) or not entry[field]:
                raise UserError(f"{path}: entry {number} has {field!r} {entry.get(field)!r:.60}, expected a text")
        if "gpt_answer" not in entry:
            raise UserError(f"{path}: entry {number} has no 'gpt_answer', expected the letter that was answered")
        image = entry["image"]
        if image not in names:
            names[image] = mmad_name(image, known=known)
        if names[image] is None:
            raise UserError(
                f"{path}: entry {number} has the image {_shown(image)}, expected a path below one of "
                f"{', '.join(DATASETS)} such as 'VisA/pcb1/test/bad/000.JPG'; write it so, or give the mmad.json that "
                "names it with --data-root"
            )
        entry["image"] = names[image]
        kind = types.get(plain_type(entry["question_type"]))
        if kind is None and samples is None:  # its own column would change every average
            raise UserError(
                f"{path}: entry {number} has the question_type {_shown(entry['question_type'])}, expected one of "
                f"{', '.join(TYPES)}; write it so, or give the mmad.json that has it with --data-root"
            )
        entry["question_type"] = kind or entry["question_type"]
    return entries


def mmad_name(text: str, *, known: Mapping[str, str] | None = None) -> str | None:
    """MMAD's own name of an image, from any path or address of it.

    `file://` and percent signs are resolved, backslashes turned, `.`, `..` and doubled slashes taken out, and what
    stands before the dataset's folder is left away. MMAD's folders are in small letters below the dataset, so they may
    come in any; names of files stay as they are.

    Args:
        text: a path.
        known: names in small letters → as `mmad.json` has them. The longest end of the path that is one of them counts
            then.

    Returns:
        None where the path leads out of itself, or to no place of MMAD's.
    """
    plain = re.sub(r"^[a-z][a-z0-9+.-]+://", "/", text.strip(), flags=re.IGNORECASE)
    for these in (_resolved(plain), _resolved(unquote(plain, errors="surrogateescape"))) if known is not None else ():
        ends = ("/".join(these[start:]).casefold() for start in range(len(these or ())))
        found = next((known[end] for end in ends if end in known), None)
        if found is not None:
            return found
    parts = _resolved(unquote(plain, errors="surrogateescape"))
    if parts is None:
        return None
    datasets = {name.casefold(): name for name in DATASETS}
    # The last one: a folder above may be called like a dataset, none within it is.
    start = next((at for at in range(len(parts) - 3, -1, -1) if parts[at].casefold() in datasets), None)
    if start is None:
        return None
    dataset, *folders, file = parts[start:]
    return str(PurePosixPath(datasets[dataset.casefold()], *map(str.lower, folders), file))


def _resolved(path: str) -> list[str] | None:
    """The folders and the file of a path, without steps back; None if it steps back out of itself."""
    parts: list[str] = []
    for part in path.replace("\\", "/").split("/"):
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return parts


def distinct(entries: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """The entries, each question once, the first of its entries.

    A question is known by its image, type, words and options. Without words only discrimination is: an image has one
    such question, and may have several of the other types.

    Returns:
        The entries, and why others are lost → how many.
    """
    seen: dict[str, Any] = {}
    kept, lost = [], Counter()
    for entry in entries:
        key = _identity(entry)
        if key is None or key not in seen:
            kept.append(entry)
            if key is not None:
                seen[key] = _letter(entry)
        elif seen[key] == _letter(entry):
            lost["stand there twice"] += 1
        else:
            lost["stand there again with another answer (the first counts)"] += 1
    return kept, dict(lost)


def _letter(entry: Mapping[str, Any]) -> str:
    given = entry["gpt_answer"]
    return given if isinstance(given, str) else _kind(given)


def _identity(entry: Mapping[str, Any]) -> str | None:
    words, options = _question(entry)
    if not words and entry["question_type"] != DISCRIMINATION:
        return None
    texts = sorted(f"{letter}. {text}" for letter, text in options.items() if isinstance(text, str))
    return repr((entry["image"].casefold(), entry["question_type"], words, texts))


def _question(entry: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """(words, options) of an entry's question as far as it has them."""
    question = entry.get("question")
    options: Any = None
    if isinstance(question, Mapping):
        question, options = question.get("text"), question.get("options")
    words = " ".join(question.split()) if isinstance(question, str) else ""
    return words, options if isinstance(options, Mapping) else {}


def compared(
    entries: Sequence[dict[str, Any]], samples: Sequence[MmadSample]
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """The entries that are `mmad.json`'s: its image, type and (where the entry has them) words, its right answer.

    Args:
        entries: distinct ones.
        samples: of `mmad.json`.

    Returns:
        Those that can be scored, and why others are lost → how many; questions without an entry are among these.
    """
    questions: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for sample in samples:
        for one in sample.questions:
            questions.setdefault((sample.image, one.type), []).append((" ".join(one.text.split()), one.answer))
    left = {key: Counter(these) for key, these in questions.items()}
    kept, lost = [], Counter()
    for entry in entries:
        words, correct = _question(entry)[0], entry["correct_answer"]
        these = left.get((entry["image"], entry["question_type"]), Counter())
        # Some files have the whole prompt for the question's words.
        same = [one for one in these if these[one] > 0 and (not words or one[0] in words)]
        right = next((one for one in same if one[1] == correct), None)
        if right is not None:
            kept.append(entry)
        elif same:
            lost["have another right answer than mmad.json"] += 1
        else:
            lost["are no question of mmad.json"] += 1
            continue
        these[right or same[0]] -= 1
    lost[MISSING] = sum(sum(these.values()) for these in left.values())
    return kept, {why: count for why, count in lost.items() if count}


def _shown(text: str) -> str:
    return ascii(text) if len(text) <= 80 else f"{text[:80]!a}…"


def _kind(value: Any) -> str:
    names = {dict: "object", list: "list", str: "text", bool: "truth value", int: "number", float: "number"}
    return names.get(type(value), "null")
