"""The folder of a run as it stands: which of its lines count. Run, `--score` and report all read it here.

    RUN/manifest.json       what was asked of whom (`identity`), and which part of the benchmark (`selection`)
    RUN/questions.jsonl     one line a question of that part: its place in the benchmark, and the key of its answer
    RUN/answers*.jsonl      the answers in the order in which they came, a file for each process
    RUN/refused*.jsonl      questions that the endpoint declined to answer

Logs only grow. An image that is replaced makes another key, so the next start asks about it again; the line of the old
image stays in the log, but `questions.jsonl`, which each start writes, no longer names its key. Nor does it name what
a start with other options asked on the side. What changes without another answer (a mask, a reference) stands in
`questions.jsonl` too, as it is now.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adcopilot.answering.families import FAMILIES, Family
from adcopilot.answering.items import Item
from adcopilot.errors import UserError
from adcopilot.files import stored_object
from adcopilot.jsonl import content_key, read_jsonl, write_jsonl

from .line_checks import check_line

__all__ = [
    "LOGS",
    "MANIFEST",
    "REFUSED",
    "Answers",
    "RunQuestion",
    "answers_to",
    "asked_before",
    "asked_now",
    "family_of_run",
    "read_manifest",
    "read_records",
    "read_run",
    "stored_results",
    "write_asked",
]

MANIFEST = "manifest.json"
LOGS = "answers*.jsonl"
REFUSED = "refused*.jsonl"
_QUESTIONS = "questions.jsonl"

#: Of an item's `meta`, what says which question of the benchmark it is, whatever its images hold.
_NAMES = ("image", "role", "type", "question", "sample", "turn", "name")


@dataclass(frozen=True, kw_only=True)
class RunQuestion:
    """A question of a run.

    Attributes:
        place: which question of the benchmark it is: the same before and after an image of it was replaced.
        key: of its line in a log, once it has one.
        now: fields of the line that are others today than when it was logged.
        problem: why its line cannot be scored today, "" if it can.
    """

    place: str
    key: str
    now: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a run has to score.

    Attributes:
        records: the lines that count, in the order of the questions; what was refused has an empty text.
        asked: how many questions there are.
        replaced: lines that do not count because their question has another image, template or wording by now.
        outside: lines that do not count because their question is not of the run's selection.
        note: one line where it had to be guessed which lines count, else "".
    """

    records: list[dict[str, Any]]
    asked: int
    replaced: int = 0
    outside: int = 0
    note: str = ""

    @property
    def refused(self) -> int:
        """How many of the records have no answer because the endpoint declined."""
        return sum(bool(record["reply"].get("refused")) for record in self.records)

    def counts(self) -> dict[str, Any]:
        """For the results: how much of what was asked is there, and a hash of which lines these are."""
        return {
            "complete": len(self.records) == self.asked,
            "asked": self.asked,
            "answered": len(self.records),
            "refused": self.refused,
            "replaced": self.replaced,
            "answers_hash": content_key(sorted(record["key"] for record in self.records)),
        }


def read_manifest(folder: str | os.PathLike) -> dict[str, Any]:
    """The manifest of a run: `identity`, `selection`, `adcopilot` (the version).

    Raises:
        UserError: the folder holds no run, or its manifest is damaged.
    """
    file = Path(folder) / MANIFEST
    try:
        value = json.loads(file.read_bytes())
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error}); expected the folder of a run") from None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or not isinstance(value.get("identity"), dict):
        raise UserError(f"{file}: not a run's manifest; choose another folder")
    backend = value["identity"].get("backend", {})
    for name, found in (("selection", value.get("selection", {})), ("identity.backend", backend)):
        if not isinstance(found, dict):
            raise UserError(f"{file}: {name} is {found!r:.60}, expected an object; copy the run again")
    if not isinstance(backend.get("family", ""), str):
        raise UserError(f"{file}: identity.backend.family is {backend['family']!r:.60}, expected a text")
    return value


def family_of_run(manifest: Mapping[str, Any]) -> Family:
    """How the model that a run asked writes boxes and reasons; `generic` where the manifest does not say."""
    return FAMILIES.get(manifest["identity"].get("backend", {}).get("family"), FAMILIES["generic"])


def stored_results(folder: str | os.PathLike) -> dict[str, Any]:
    """What `results.json` of a run holds; nothing where it is no such file: it is only asked for settings."""
    return stored_object(Path(folder) / "results.json")


def read_records(folder: str | os.PathLike, pattern: str = LOGS) -> Iterator[dict[str, Any]]:
    """All lines of the logs of a run, each key once, whether they count or not; without torn ones: other processes may
    be writing.

    Raises:
        UserError: a whole line is no JSON object with a key; it names the line.
    """
    for _, record in _lines(Path(folder), pattern):
        yield record


def _lines(folder: Path, pattern: str, *, latest_last: bool = False) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file:line, record) of each key's first line."""
    seen: set[str] = set()
    files = sorted(folder.glob(pattern))
    if latest_last:
        files.sort(key=lambda file: file.stat().st_mtime_ns)
    for file in files:
        try:
            with open(file, "rb") as lines:
                for number, line in enumerate(lines, 1):
                    if not line.endswith(b"\n") or not line.strip():
                        continue
                    record = _parsed(line, f"{file}:{number}")
                    if record["key"] not in seen:
                        seen.add(record["key"])
                        yield f"{file}:{number}", record
        except OSError as error:
            raise UserError(f"{file}: cannot be read ({error.strerror or error}); check the folder") from None


def _parsed(line: bytes, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict) or not isinstance(record.get("key"), str):
        raise UserError(f"{where}: not an answer of this command; remove or repair this line")
    return record


def place_of(fields: Mapping[str, Any]) -> str:
    """Which question a line, or an item as a line, is about."""
    meta = fields["meta"]
    known = {name: meta[name] for name in _NAMES if name in meta}
    # A role is asked with or without options to rank by; it is the same question about the image.
    return content_key(known or fields["item"], None if "role" in meta else fields["options"])


def asked_now(
    items: Sequence[Item], keys: Sequence[str], folder: Path, *, truth: Any = None
) -> tuple[list[RunQuestion], dict[str, str]]:
    """The questions of a start.

    Args:
        items: all items of the start.
        keys: of their lines.
        folder: of the run.
        truth: function of an item for the fields of its line that no answer changes.

    Returns:
        The questions, and key of an item → why its line cannot be scored.
    """
    logged = {record["key"]: record for _, record in [*_lines(folder, LOGS), *_lines(folder, REFUSED)]}
    twins: Counter[str] = Counter()
    found, problems = [], {}
    for item, key in zip(items, keys, strict=True):
        fields = _as_line(item)
        place = place_of(fields)
        twins[place] += 1
        now: dict[str, Any] = {}
        problem = ""
        line = logged.get(key)
        if line is not None:
            fresh = {name: fields[name] for name in ("reference", "meta")}
            now = {name: value for name, value in fresh.items() if line.get(name) != value}
            if now and truth is not None:
                try:
                    fresh = json.loads(json.dumps(truth(item)))
                    now |= {name: value for name, value in fresh.items() if line.get(name) != value}
                except UserError as error:
                    problem = problems[item.key] = str(error)
        found.append(RunQuestion(place=_numbered(place, twins[place]), key=key, now=now, problem=problem))
    return found, problems


def _as_line(item: Item) -> dict[str, Any]:
    fields = {
        "item": item.key,
        "options": None if item.options is None else dict(item.options),
        "reference": item.reference,
        "meta": dict(item.meta),
    }
    return json.loads(json.dumps(fields))


def _numbered(place: str, number: int) -> str:
    return place if number == 1 else f"{place}#{number}"


def asked_before(folder: Path) -> tuple[list[RunQuestion] | None, str]:
    """The questions of a run as its last start left them, and a note where they had to be guessed.

    A run of an earlier version has no such list. Of each question its latest line counts then.

    Returns:
        None for a run that has neither a list nor answers.

    Raises:
        UserError: the list, or a line of a log, is damaged; it names the line.
    """
    file = folder / _QUESTIONS
    if file.is_file():
        return [_asked(line, f"{file}:{number}") for number, line in read_jsonl(file)], ""
    by_key: dict[str, dict[str, Any]] = {}
    for pattern in (LOGS, REFUSED):
        for where, record in _lines(folder, pattern, latest_last=True):
            by_key.setdefault(record["key"], check_line(record, where))
    lines = list(by_key.values())
    if not lines:
        return None, ""
    places = [place_of(record) for record in lines]
    last = dict(zip(places, lines, strict=True))
    found: dict[str, list[RunQuestion]] = {place: [] for place in places}  # in the order of their first lines
    left_out = 0
    for place, record in zip(places, lines, strict=True):
        # Two questions with the same words about the same images are two; about other images, one of them is old.
        same = record is last[place] or ("role" not in record["meta"] and record.get("group") == last[place]["group"])
        if not same:
            left_out += 1
            continue
        found[place].append(RunQuestion(place=_numbered(place, len(found[place]) + 1), key=record["key"]))
    note = f"{folder}: has no {_QUESTIONS}, an earlier version's run; of each question the latest answer counts"
    return [
        one for these in found.values() for one in these
    ], f"{note}, {left_out} older ones do not" if left_out else ""


def _asked(line: Mapping[str, Any], where: str) -> RunQuestion:
    shape = {"place": str, "key": str, "now": dict, "problem": str}
    values = {name: line.get(name, kind()) for name, kind in shape.items()}
    if not all(isinstance(values[name], kind) for name, kind in shape.items()) or not values["key"]:
        raise UserError(f"{where}: not a question of a run; start the run again, which writes this file anew")
    return RunQuestion(**values)


def write_asked(folder: Path, asked: Iterable[RunQuestion]) -> None:
    """Write `questions.jsonl`.

    Raises:
        UserError: it cannot be written.
    """
    lines = (
        {
            "place": one.place,
            "key": one.key,
            **({"now": dict(one.now)} if one.now else {}),
            **({"problem": one.problem} if one.problem else {}),
        }
        for one in asked
    )
    write_jsonl(folder / _QUESTIONS, lines)


def answers_to(asked: Sequence[RunQuestion], folder: Path, *, benchmark: str = "", note: str = "") -> Answers:
    """The lines of a run that answer these questions, checked.

    Args:
        asked: the questions.
        folder: of the run.
        benchmark: whose fields the lines must have.
        note: as `Answers.note`.

    Raises:
        UserError: a line is damaged; it names the line.
    """
    wanted = {one.key: one for one in asked}
    places = {one.place.partition("#")[0] for one in asked}
    found: dict[str, dict[str, Any]] = {}
    replaced = outside = 0
    for pattern in (LOGS, REFUSED):  # an answer counts before a refusal
        for where, record in _lines(folder, pattern):
            one = wanted.get(record["key"])
            if one is None:
                known = pattern == LOGS and _is_about(record, places)
                replaced, outside = replaced + known, outside + (not known)
            elif record["key"] not in found and not one.problem:
                found[record["key"]] = check_line({**record, **one.now}, where, benchmark)
    records = [found[one.key] for one in asked if one.key in found]
    return Answers(records=records, asked=len(asked), replaced=replaced, outside=outside, note=note)


def _is_about(record: Mapping[str, Any], places: set[str]) -> bool:
    """Whether a line that does not count, and may be damaged, is about one of these questions."""
    good = isinstance(record.get("meta"), dict) and {"item", "options"} <= record.keys()
    return good and place_of(record) in places


def read_run(folder: str | os.PathLike) -> tuple[dict[str, Any], Answers]:
    """A run's manifest and the answers that count.

    Raises:
        UserError: the folder holds no run, or a file of it is damaged.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    asked, note = asked_before(folder)
    benchmark = manifest["identity"].get("benchmark")
    return manifest, answers_to(asked or [], folder, benchmark=str(benchmark), note=note)
