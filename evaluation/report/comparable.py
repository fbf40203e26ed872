"""Which rows may be ranked with each other: those whose questions, words, settings and measures agree as far as known.

A row that may not stands in its table without rank, with the reason beside it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from adcopilot.jsonl import content_key
from adcopilot.pages.text import shorten

from ..mmad.prompts import PROMPTS
from ..wording import MMAD, OWN
from .sources import Published, Source

if TYPE_CHECKING:
    from .tables import Row

__all__ = ["differ", "marked", "traits", "wording_of"]

#: Setting → what must be equal; None or absence is not known, and then nothing is said against it.
Traits = Mapping[str, Any]

#: Why no run can be ranked with a published row of these, whatever it was asked.
_PUBLISHED = {
    "mmad-bbox": "the rule by which the paper's true boxes are made is not published",
    "unipcb": "the paper's F1 pools the boxes of all images, its S-BERT, BERTScore and judge are not named, and its "
    "prompts are not AD-Copilot's",
    "caption": "the paper's set, OmniDiff-Real, is not published: no run can be shown to be of it",
}
#: How a setting is called where two rows differ in it.
_CALLED = {
    "data": "another version of the benchmark's files",
    "prompts": "other prompts",
    "scorer": "other scorers",
    "references": "other references",
}


def wording_of(source: Source) -> str | None:
    """Whose words a run asked with; None where that is not known."""
    described = source.selection.get("wording") or source.results.get("wording")
    if isinstance(described, Mapping) and isinstance(described.get("whose"), str):
        return described["whose"]
    if source.benchmark == "mmad":  # runs of earlier versions know the hash of their words alone
        known = source.identity.get("prompts")
        return None if known is None else OWN if known == content_key(PROMPTS) else "wording of --prompts"
    return None


def traits(source: Source) -> Traits:
    """What a run's numbers depend on besides the model."""
    found, given = source.results, source.identity
    shots = found.get("shots")
    known: dict[str, Any] = {
        "data": given.get("data"),
        "wording": wording_of(source),
        "prompts": given.get("prompts"),
        "shots": None if shots is None else f"{shots}-shot",
        "template": f"{found['template']} templates" if shots and found.get("template") else None,
        "conversation": found.get("conversation", given.get("conversation")),
    }
    if source.benchmark == "mmad" and "answer_file" in given:
        known |= _named(source.path.name)
    elif source.benchmark == "mmad":
        known["knowledge"] = _KNOWLEDGE[bool(given.get("domain_knowledge"))]
    if source.benchmark == "mmad-bbox":
        known["rule"] = f"true boxes by {_words(found['rule'])}" if found.get("rule") else None
    if source.benchmark == "unipcb":
        known |= {name: f"{name.replace('_', ' ')} {found[name]}" for name in ("image_size_order", "box_frame")
                  if name in found}  # fmt: skip
        if isinstance(given.get("conversation"), bool):
            known["conversation"] = "conversations" if given["conversation"] else "each question alone"
    if source.benchmark == "caption":
        known |= {name: given.get(name, found.get(name)) for name in ("layout", "split", "references")}
        known |= {"scorer": found.get("scorer"), "prompts": given.get("prompt")}
    return known


def column_traits(source: Source) -> dict[str, Traits]:
    """Column → what it alone depends on."""
    if source.benchmark != "unipcb":
        return {}
    found = source.results
    own: dict[str, Traits] = {"F1": {"iou": f"IoU {found['iou']:g}" if found.get("iou") else None}}
    scorers = found.get("scorers") or {}
    for name, head in (("sbert", "S-BERT"), ("bertscore", "BERTScore")):
        for level in ("P1", "P2", "P3"):
            own[f"{head} {level}"] = {"scorer": scorers.get(name)}
    judge = found.get("judge")
    settings = {name: value for name, value in judge.items() if name not in _COUNTS} if judge else None
    own["LLM as Judge"] = {"scorer": settings}
    whole = {column: dict(one) for column, one in own.items()}
    own["average"] = {f"{column} {name}": value for column, one in whole.items() for name, value in one.items()}
    return own


_COUNTS = ("judged", "of", "unreadable", "refused", "failed", "stopped")


def published_traits(benchmark: str, row: Published) -> Traits:
    """What is known of a published row of MMAD; others are said in `_PUBLISHED`."""
    if benchmark != "mmad":
        return {}
    return {"wording": MMAD, **(_named(row.source) or _TABLE_II)}


_KNOWLEDGE = ("no domain knowledge", "domain knowledge")
#: The benchmark's own setting, which the published tables have.
_TABLE_II = {"shots": "1-shot", "template": "random templates", "knowledge": _KNOWLEDGE[0]}


def _named(name: str) -> dict[str, Any]:
    """What the name of an answer file, or of its table, says of how it was made; nothing if it is none of MMAD's."""
    found = re.match(r"answers_(\d+)_shot_", name)
    if not found:
        return {}
    return {
        "shots": f"{int(found[1])}-shot",
        "template": f"{'similar' if '_Similar_template' in name else 'random'} templates" if int(found[1]) else None,
        "knowledge": _KNOWLEDGE["_Domain_knowledge" in name],
    }


def differ(one: Traits, other: Traits) -> str:
    """How `other` differs from `one`, in words; "" where all that is known agrees."""
    said = []
    for name in dict.fromkeys([*one, *other]):
        first, second = one.get(name), other.get(name)
        if first is None or second is None or first == second:
            continue
        if name == "prompts" and any(one.get(more) != other.get(more) for more in ("wording", "shots", "knowledge")):
            continue  # of other words, or for another number of templates, they differ anyway
        if name in _CALLED:
            said.append(_CALLED[name])
        elif isinstance(first, str) and isinstance(second, str):
            said.append(f"{shorten(second, 60)}, not {shorten(first, 60)}")
        else:
            said.append(f"another {name}")
    return "; ".join(said)


def marked(
    benchmark: str,
    own: Sequence[tuple[Row, Source]],
    published: Sequence[tuple[Row, Published]] = (),
    *,
    ignore: Sequence[str] = (),
) -> list[Row]:
    """The rows of a table with those set apart that cannot be ranked with the others.

    Ranked are the runs that most others agree with, before all those that published rows agree with; a published row
    stands beside them where it agrees too.

    Args:
        benchmark: of the table.
        own: runs, the first ones first.
        published: rows of others.
        ignore: settings that the table is about.
    """

    def known(one: Traits) -> Traits:
        return {name: value for name, value in one.items() if name not in ignore}

    runs = [known(traits(source)) for _, source in own]
    theirs = [known(published_traits(benchmark, row)) for _, row in published]
    never = _PUBLISHED.get(benchmark, "")
    whole = [place for place, (row, _) in enumerate(own) if not row.apart]

    def company(place: int) -> tuple[bool, int]:
        beside = not never and any(
            not differ(runs[place], one) for (row, _), one in zip(published, theirs, strict=True) if not row.apart
        )
        return beside, sum(not differ(runs[place], runs[other]) for other in whole)

    chosen = max(whole, key=company, default=None)
    rows = []
    for place, (row, source) in enumerate(own):
        if chosen is not None and not row.apart:
            why = differ(runs[chosen], runs[place])
            unlike = {
                column: reason
                for column, one in column_traits(source).items()
                if (reason := differ(column_traits(own[chosen][1]).get(column, {}), one))
            }
            row = replace(row, apart=bool(why), why=why and f"not ranked: {why}", unlike=unlike)
        rows.append(row)
    for (row, _), one in zip(published, theirs, strict=True):
        why = "" if chosen is None and not never else never or differ(runs[chosen], one)
        rows.append(replace(row, apart=row.apart or bool(why), why=why and f"not ranked: {why}"))
    return rows


def _words(rule: Any) -> str:
    return ", ".join(f"{name} {value}" for name, value in rule.items()) if isinstance(rule, Mapping) else str(rule)
