"""What a build was given and did not use: in its manifest, and as the lines that its summary and report begin with.

    datasets.NAME.lost    {"given": {label: images}, "why": {label: {"dark": 12}}, "judged": ["dark"]}
    outputs.NAME.lost     {"anomalous": {"given": images asked about, "why": {"have no masks": 5}}, "normal": …}
    outputs.NAME.instead  {"loc": 5}    defective images that cannot have this task and got another

Labels are `normal`, `anomalous`, and "" where a problem leaves that open; `judged` are the reasons that
`filter.allow` can lift. What a recipe asks to leave out (by `ratio`, `against`, `least_similarity`, `splits`,
`queries`, a verdict too many) is not lost. Good and defective images of an output are counted apart: among many good
ones nobody would notice that all defective ones are missing, and a model would learn to say that nothing is ever
wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...damage import Damage

__all__ = ["MAX_LEFT_OUT", "OPTION", "Loss", "dataset_losses", "find_losses", "said"]

#: The largest share of images that may be lost without `max_left_out` in the recipe.
MAX_LEFT_OUT = 0.2

#: As it is typed.
OPTION = "--max-left-out"

#: What a recipe asks to leave out; and an unreadable template, which counts where it is to be compared with another.
_ASKED_FOR = frozenset({"leak", "rebalanced", "too_different", "unreadable_template"})

#: Reasons of single images in words that can stand behind their number.
_WORDS = {
    "missing-mask": "without a mask",
    "missing-image": "without an image file",
    "missing-label": "without a label file",
    "unreadable-image": "unreadable",
    "unread-format": "in a format that is not read",
    "unreadable-mask": "with an unreadable mask",
    "mask-size": "with a mask of another size",
    "empty-mask": "with a mask that marks nothing",
    "large-mask": "with a mask that marks most of the image",
    "shared-mask": "sharing a mask with another image",
    "conflict": "said to be good and marked as defective",
    "ambiguous-mask": "with two masks",
    "label": "with a faulty file of labels",
    "ambiguous-label": "with labels that are not theirs alone",
    "outside-root": "behind links that lead out of the root",
    "unlabelled": "in no folder that says good or which defect",
    "conflicting": "with contradicting labels",
    "duplicate": "duplicates",
    "near_duplicate": "near duplicates",
    "no_normal": "without a good part to compare with",
    "only_itself": "without another good part to compare with",
}

_UNITS = {"anomalous": "defective", "normal": "good"}


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A line about what is lost, and whether it is so much that the build must not end as if all were well."""

    line: str
    too_much: bool


def dataset_losses(rows: Mapping[str, int], dropped: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The entry `lost` of a dataset.

    Args:
        rows: label → rows of its table.
        dropped: the lines of its `dropped.jsonl`.
    """
    given = Counter(dict(rows))
    why: dict[str, Counter[str]] = {}
    judged: set[str] = set()
    for one in dropped:
        reason = one["reason"]
        if not one.get("left_out", True) or reason in _ASKED_FOR:
            continue
        label, count = one.get("label") or _label_of(reason), one.get("count", 1)
        why.setdefault(label, Counter())[reason] += count
        if one["step"] == "index":  # before there was a row of it
            given[label] += count
        elif one["step"] == "filter" and reason != "unreadable":
            judged.add(reason)
    return {
        "given": dict(sorted(given.items())),
        "why": {label: dict(sorted(reasons.items())) for label, reasons in sorted(why.items())},
        "judged": sorted(judged),
    }


def _label_of(problem: str) -> str:
    """Only defective images have masks; what other problems are about is not known."""
    return "anomalous" if problem.endswith("-mask") or problem == "mask-size" else ""


def find_losses(manifest: Mapping[str, Any], recipe: str, *, command: str = "") -> list[Loss]:
    """What a recipe's build has lost; what ends it with an error comes first.

    Args:
        manifest: of the folder.
        recipe: the name of one of its `recipes`.
        command: what stands before the options that are advised, where the build itself does not print them.
    """
    own = manifest["recipes"][recipe]
    allowed = float(own["max_left_out"])
    found: list[Loss] = []
    for name, output in manifest["outputs"].items():
        if output["recipe"] == recipe:
            found += _of_output(name, output, allowed, command)
    for name in own["values"].get("datasets") or {}:
        if f"datasets.{name}" not in own["skipped"]:
            found += _of_dataset(name, manifest["datasets"][name], allowed, own["values"], command)
    return sorted(found, key=lambda loss: not loss.too_much)


def said(count: int, given: int, unit: str, lost: str, why: Mapping[str, int]) -> str:
    """`5 of 5 defective images gave no caption: they have no masks`."""
    if len(why) == 1:
        return f"{count:,} of {given:,} {unit} {lost}: they {next(iter(why))}"
    return f"{count:,} of {given:,} {unit} {lost}: " + ", ".join(f"{number:,} {text}" for text, number in why.items())


def _of_dataset(
    name: str, counts: Mapping[str, Any], allowed: float, values: Mapping[str, Any], command: str
) -> list[Loss]:
    """Of all images; where too many are lost, of all, the good or the defective ones: the largest share."""
    given, why = counts["lost"]["given"], counts["lost"]["why"]
    together = sum((Counter(reasons) for reasons in why.values()), Counter())
    whole = _damage(sum(given.values()), "images", together, allowed, command)
    labels = (label for label in _UNITS if label in why)
    parts = [_damage(given[label], f"{_UNITS[label]} images", why[label], allowed, command) for label in labels]
    worst = max([whole, *parts], key=lambda damage: damage.share)  # the first of equals
    one = worst if worst.is_too_much else whole
    judged = counts["lost"]["judged"]
    before = values["datasets"][name].get("filter") or (values.get("defaults") or {}).get("filter") or {}
    kept = before.get("allow", []) if isinstance(before, Mapping) else []
    both = ",".join(dict.fromkeys([*([kept] if isinstance(kept, str) else kept), *judged]))
    more = f"; or keep them with {command}--set 'datasets.{name}.filter.allow=[{both}]'" if judged else ""
    line = f"{name}: {one.line()}{more if one.is_too_much else ''}"
    return [Loss(line=line, too_much=one.is_too_much)] if one.count else []


def _damage(given: int, unit: str, why: Mapping[str, int], allowed: float, command: str) -> Damage:
    lost = {_WORDS.get(reason, reason.replace("-", " ")): count for reason, count in sorted(why.items())}
    return Damage(given=given, unit=unit, lost=lost, allowed=allowed, option=f"{command}{OPTION}")


def _of_output(name: str, output: Mapping[str, Any], allowed: float, command: str) -> list[Loss]:
    if "lost" not in output:  # of a converter, which stops at problems by itself
        return [] if output["records"] else [Loss(line=f"{name}: 0 records", too_much=True)]
    found = []
    tasks = _any_of(output["asked"])
    for label, lost in output["lost"].items():
        count = sum(lost["why"].values())
        unit = f"{_UNITS[label]} images"
        damage = Damage(
            given=lost["given"],
            unit=unit,
            lost=lost["why"],
            allowed=allowed,
            option=f"{command}{OPTION}",
            said=said(count, lost["given"], unit, f"gave no {tasks}", lost["why"]),
        )
        found.append(Loss(line=f"{name}: {damage.line()}", too_much=damage.is_too_much))
    for task, count in output["instead"].items():
        line = (
            f"{name}: {count:,} defective images can have no {task}, because they have no boxes; they got another task"
        )
        found.append(Loss(line=line, too_much=False))
    if not output["records"] and not any(loss.too_much for loss in found):
        found.insert(0, Loss(line=f"{name}: 0 records: no pair of images can have {tasks}", too_much=True))
    return found


def _any_of(tasks: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(tasks[:-1]), *tasks[-1:]]))
