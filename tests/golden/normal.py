"""What varies from run to run by nature, taken out of an output before it is compared; each rule with its reason."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath

__all__ = ["as_text", "normalised"]


def _rounded(match: re.Match) -> str:
    return f"{float(match[0]):.10g}"


#: (what is found, what is put there, why).
RULES: list[tuple[re.Pattern[str], str | Callable[[re.Match], str], str]] = [
    (
        re.compile(r"127\.0\.0\.1:\d+"),
        "<endpoint>",
        "the stub server listens on whatever port is free",
    ),
    (
        re.compile(r'"versions": \{[^{}]*\}'),
        '"versions": "<versions>"',
        "a release, or a pin that moves, is no change of what is made",
    ),
    (
        re.compile(r'("adcopilot"|"version"): "\d[\w.+]*"'),
        r'\1: "<version>"',
        "the same",
    ),
    (
        re.compile(r"(adcopilot|AD-Copilot) \d+\.\d+[\w.+]*"),
        r"\1 <version>",
        "the same, in the foot of a page",
    ),
    (
        re.compile(r'"(seconds|time|started|finished|wall|hostname|pid)": [-+\d.e]+'),
        r'"\1": "<seconds>"',
        "durations and moments",
    ),
    (
        re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?"),
        "<date>",
        "when it was made",
    ),
    (
        re.compile(r"(?<![\w.])-?\d+\.\d{11,}(e-?\d+)?(?![\w.])"),
        _rounded,
        "the last digits of a mean are those of the order of its sum, which a CPU's vector width decides",
    ),
]

#: Files whose lines come in the order in which answers arrive, not in one that is promised.
_BY_ARRIVAL = ("answers.jsonl", "judge.jsonl")


def normalised(name: str, content: bytes, places: Mapping[str, str]) -> bytes:
    """An output as it is compared.

    Args:
        name: its path; the suffix says what it is.
        content: its bytes.
        places: text → what is put there: folders of this run, longest first.
    """
    if PurePosixPath(name).suffix == ".parquet":
        content = _table_text(content)  # the file holds pyarrow's version and, in its metadata, the dataset's folder
    text = as_text(content)
    if text is None:
        return content
    for found, instead in places.items():
        text = text.replace(found, instead)
    for pattern, instead, _ in RULES:
        text = pattern.sub(instead, text)
    if PurePosixPath(name).name in _BY_ARRIVAL:
        text = "".join(sorted(text.splitlines(keepends=True)))
    return text.encode()


def as_text(content: bytes) -> str | None:
    """The text of an output, None of a picture or another binary file."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def _table_text(content: bytes) -> bytes:
    """A Parquet file's schema, metadata and rows."""
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(content))
    about = {key.decode(): value.decode("utf-8", "replace") for key, value in (table.schema.metadata or {}).items()}
    lines = [str(table.schema.remove_metadata()), json.dumps(about, sort_keys=True)]
    lines += [json.dumps(row, ensure_ascii=False, default=bytes.hex) for row in table.to_pylist()]
    return ("\n".join(lines) + "\n").encode()
