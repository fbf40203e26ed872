"""From the lines of a run, or an answer file, to MMAD's tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from adcopilot.tasks.choice import strict_answer

from ...ranking import anomaly_score, by_dataset
from ...table import aligned
from ...wording import UNKNOWN, Wording
from .choices import LETTERS, logprob_answer, official_answer, stated_answer
from .intervals import intervals
from .scoring import DISCRIMINATION, score

__all__ = ["answer_entries", "asked_with", "results_of_entries", "results_of_records", "show", "table_text"]


def answer_entries(records: Iterable[Mapping[str, Any]], *, rule: str) -> tuple[list[dict[str, Any]], Counter]:
    """Entries of MMAD's answer file from the lines of a run.

    Args:
        records: lines of `adcopilot.evaluation.running`.
        rule: `official`, `strict` or `logprobs`; `gpt_answer` is "" where the rule finds no letter.

    Returns:
        The entries, and how often the answer was a `letter`, an option's `text`, the `nearest` option or `none`.
    """
    entries, how = [], Counter()
    for record in records:
        options, reply, meta = record["options"], record["reply"], record["meta"]
        if rule == "logprobs":
            letter = logprob_answer(reply.get("option_logprobs"), options)
            how["none" if letter is None else "letter"] += 1
        else:
            parsed = (official_answer if rule == "official" else strict_answer)(reply["text"], options)
            letter = parsed.letter
            how[parsed.how] += 1
        entries.append(
            {
                "image": meta["image"],
                "question": {"type": "text", "text": meta["question"], "options": options},
                "question_type": meta["type"],
                "correct_answer": record["reference"],
                "gpt_answer": letter or "",
            }
        )
    return entries, how


def results_of_records(records: Sequence[Mapping[str, Any]], *, samples: int = 1000) -> dict[str, Any]:
    """All scores of a run.

    Returns:
        What `results_of_entries` returns for the answers by MMAD's rule; `strict`, the same by `strict_answer`
        (answers that state no option count as wrong); `logprobs`, by option probabilities, where the backend gave
        them; `parsing`, how answers were read; and `discrimination`, AUROC and average precision (percent) of the
        probability that an image is called defective.

    Raises:
        UserError: there are no answers.
    """
    entries, how = answer_entries(records, rule="official")
    strict, strict_how = answer_entries(records, rule="strict")
    found = results_of_entries(entries, samples=samples)
    found["strict"] = {name: value for name, value in score(strict, invalid="wrong").items() if name != "counts"}
    found["unread"] = _unread(records)
    found["parsing"] = {"official": dict(how), "strict": dict(strict_how)}
    found["truncated"] = sum(bool(record["reply"].get("truncated")) for record in records)
    found["seconds"] = round(sum(record["reply"].get("seconds", 0.0) for record in records), 3)
    with_logprobs = [record for record in records if record["reply"].get("option_logprobs")]
    if with_logprobs:
        likely, _ = answer_entries(with_logprobs, rule="logprobs")
        found["logprobs"] = {name: value for name, value in score(likely).items() if name != "counts"}
        found["discrimination"] = by_dataset(_discrimination(with_logprobs))
    return found


def results_of_entries(entries: Sequence[Mapping[str, Any]], *, samples: int = 1000) -> dict[str, Any]:
    """MMAD's table for the entries of an answer file.

    Returns:
        `datasets`, `average`, `questions`, `invalid` as `scoring.score`; `unread_as_wrong`, where what is no letter is
        wrong rather than left out; `unread`: why an answer is none → how many; `categories`, the same by product
        (without its absent sub-tasks); `interval`: column → 95 % confidence interval of the last row.
    """
    found = score(entries)
    wrong = score(entries, invalid="wrong")
    products = score(entries, depth=2, empty=None)
    return {
        **found,
        "unread_as_wrong": {"datasets": wrong["datasets"], "average": wrong["average"]},
        "unread": _unread_entries(entries),
        "categories": products["datasets"],
        "category_counts": products["counts"],
        "interval": intervals(entries, samples=samples),
    }


def _unread(records: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Why an answer of a run states no option → how many. MMAD's rule guesses most of these."""
    lost: Counter[str] = Counter()
    for record in records:
        options, reply = record["options"], record["reply"]
        official = official_answer(reply["text"], options).letter
        if reply.get("refused"):
            lost["were refused by the endpoint"] += 1
        elif stated_answer(reply["text"], options).letter is None:
            other = official is not None and official not in options
            lost["name a letter that is no option" if other else "state no option (MMAD's rule guesses)"] += 1
    return dict(lost)


def _unread_entries(entries: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """The same of an answer file, whose answers should be letters."""
    lost: Counter[str] = Counter()
    for entry in entries:
        given, question = entry["gpt_answer"], entry.get("question")
        options = question.get("options") if isinstance(question, Mapping) else None
        if not (isinstance(given, str) and given in tuple(LETTERS)):
            lost["are no letter from A to E"] += 1
        elif entry["correct_answer"] not in tuple(LETTERS):
            lost["have a right answer that is no letter from A to E"] += 1
        elif isinstance(options, Mapping) and options and given not in options:
            lost["name a letter that is no option"] += 1
    return dict(lost)


def _discrimination(records: Iterable[Mapping[str, Any]]) -> Iterator[tuple[float, str, bool]]:
    """How defective each image is called: (score, dataset, whether it is anomalous)."""
    for record in records:
        meta, options = record["meta"], record["options"]
        if meta["type"] != DISCRIMINATION or len(options) != 2:
            continue
        # The right answer of an anomalous image is the letter for "defective", of a normal one the other.
        other = next(letter for letter in options if letter != record["reference"])
        yes = other if meta["normal"] else record["reference"]
        value = anomaly_score(record["reply"]["option_logprobs"], options, yes)
        if value is not None:
            yield value, meta["dataset"], not meta["normal"]


def table_text(found: Mapping[str, Any]) -> str:
    """The table for a terminal: datasets and their average, percent with two decimals; then what was asked with."""
    rows = {**found["datasets"], "Average": found["average"]}
    names = list(found["average"])
    heads = [name.title() if name.islower() and name != "f1" else name for name in names]
    heads = ["F1" if head == "f1" else head for head in heads]
    cells = {
        name: ["-" if row[column] is None else f"{row[column]:.2f}" for column in names] for name, row in rows.items()
    }
    lines = aligned(map(_abbreviate, heads), cells, width=9)
    average = found.get("interval", {}).get("average")
    if average:
        lines.append(f"average {found['average']['average']:.2f} (95 % interval {average[0]:.2f} to {average[1]:.2f})")
    lines.append(asked_with(found))
    return "\n".join(lines)


def asked_with(found: Mapping[str, Any]) -> str:
    """What scores depend on besides the model, in a line: whose words (with file and commit), templates, knowledge."""
    words = ["asked in " + line if (line := Wording.line(found.get("wording"))) != UNKNOWN else UNKNOWN]
    if isinstance(found.get("shots"), int):
        kind = f" ({found['template']})" if found["shots"] and found.get("template") else ""
        words.append(f"{found['shots']}-shot{kind}")
    if found.get("domain_knowledge"):
        words.append("with domain knowledge")
    if found.get("conversation", "alone") != "alone":
        words.append(f"with {str(found['conversation']).replace('-', ' ')} in view")
    return ", ".join(words)


def _abbreviate(head: str) -> str:
    words = head.split()
    return head if len(words) < 2 else f"{words[0][:3]}.{words[1][:5]}"


def show(found: Mapping[str, Any]) -> None:
    """Print the table and how answers were read."""
    print(table_text(found))
    if found["invalid"]:
        average = found["unread_as_wrong"]["average"]["average"]
        print(
            f"{found['invalid']} of {found['questions']} answers were no letter and are left out, as MMAD does; "
            f"counted as wrong: average {average:.2f}"
        )
    if "strict" in found:
        print(f"by the strict rule: average {found['strict']['average']['average']:.2f}")
    if "logprobs" in found:
        print(f"by option probabilities: average {found['logprobs']['average']['average']:.2f}")
    how = found.get("parsing", {}).get("official", {})
    if how.get("nearest"):
        print(f"{how['nearest']} answers had no letter; the option with the nearest text was taken, as MMAD does")
