"""What the steps before left beside the records: drops and problems, leak reports, manifests."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...pages.text import clean, shorten
from ..pipeline.losses import Loss, find_losses
from .scan import Faults, read_lines

__all__ = ["Leaks", "Listing", "Reason", "manifest_settings", "read_leaks", "read_listing", "read_losses"]

#: Reasons that this package's steps give, in words.
WORDS = {
    "unreadable": "the image cannot be opened",
    "dark": "nothing in the image is light enough",
    "bright": "nothing in the image is dark enough",
    "blurred": "the image is blurred",
    "conflicting": "the same picture again with another label or category",
    "duplicate": "the same picture again",
    "near_duplicate": "the same photograph again, re-encoded or resized",
    "leak": "the image is in an evaluation set",
    "rebalanced": "left out to reach the ratio of anomalous to normal",
    "not_applicable": "the task cannot be asked of this pair",
    "refused": "no text passed the checks",
    "no_normal": "there is no good part of its category to compare it with",
    "only_itself": "there is no other good part to compare it with",
    "too_different": "no good part is as alike as the recipe asks",
}

_MOST_REASONS = 1_000
_SHOWN_REASONS = 60
_MOST_BYTES = 64 << 20
_SHOWN_LEAKS = 200
_MOST_KINDS = 8
_SHOWN_SETTINGS = 80

_DUPLICATES = ("conflicting", "duplicate", "near_duplicate")


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Entries of a listing that share a reason.

    Attributes:
        name: as the file has it.
        words: what this package means by it, "" for a name it does not know.
        count: entries.
        example: the first of them, in one line.
    """

    name: str
    words: str
    count: int
    example: str


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A file of what was given and not used (`dropped.Dropped`).

    Attributes:
        name: of the file.
        total: entries.
        reasons: most entries first.
        more: reasons that are not among them.
        duplicates: entries that are duplicates of one kind or another.
    """

    name: str
    total: int
    reasons: list[Reason]
    more: int
    duplicates: int


@dataclass(frozen=True, kw_only=True)
class Leaks:
    """A report of leaks, as `adcopilot data build` writes it.

    Attributes:
        name: of the file.
        images, leaking: images looked at, and those that are in an evaluation set.
        kinds: of matches, the most certain first.
        sets: (evaluation set, its images, number of leaking images by each of `kinds`).
        categories: (source, category, kind, images), most images first.
        matches: (image, set, image of the set, kind) of the first leaks.
        more: leaks that are not among them.
    """

    name: str
    images: int
    leaking: int
    kinds: list[str]
    sets: list[tuple[str, int, list[int]]]
    categories: list[tuple[str, str, str, int]]
    matches: list[tuple[str, str, str, str]]
    more: int


def read_listing(path: Path, name: str, faults: Faults) -> Listing:
    """Count a file's entries by their reason.

    Raises:
        UserError: the file cannot be read.
    """
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for line in read_lines(path, name, faults):
        reason = _reason(line.value)
        if reason not in counts and len(counts) >= _MOST_REASONS:
            reason = "(others)"
        counts[reason] += 1
        examples.setdefault(reason, _example(line.value))
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    more = ranked[_SHOWN_REASONS:]
    reasons = [
        Reason(name=reason, words=WORDS.get(reason, ""), count=count, example=examples[reason])
        for reason, count in ranked[:_SHOWN_REASONS]
    ]
    duplicates = sum(counts[reason] for reason in _DUPLICATES)
    return Listing(name=name, total=counts.total(), reasons=reasons, more=len(more), duplicates=duplicates)


def read_leaks(path: Path, name: str, faults: Faults) -> Leaks | None:
    """A leak report; None, and a fault, when it is none."""
    report = _read_object(path, name, faults)
    if report is None:
        return None
    try:
        sizes = {one["name"]: int(one["images"]) for one in report["against"]}
        # As the report has them: `leaks.KINDS`, whose module needs FAISS.
        kinds = list(dict.fromkeys(kind for counts in report["by_set"].values() for kind in counts))[:_MOST_KINDS]
        sets = [
            (shorten(suspect), sizes[suspect], [int(counts.get(kind, 0)) for kind in kinds])
            for suspect, counts in list(report["by_set"].items())[:_SHOWN_LEAKS]
        ]
        categories = [
            (shorten(one["source"]), shorten(one["category"]), shorten(one["kind"]), int(one["images"]))
            for one in report["by_category"]
        ]
        matches = [
            tuple(shorten(text, 160) for text in (leak["image"], match["set"], match["image"], match["kind"]))
            for leak in report["leaks"][:_SHOWN_LEAKS]
            for match in leak["matches"][:1]
        ]
        return Leaks(
            name=name,
            images=int(report["images"]),
            leaking=int(report["leaking_images"]),
            kinds=[shorten(kind, 30) for kind in kinds],
            sets=sets,
            categories=sorted(categories, key=lambda one: (-one[3], one[:3]))[:_SHOWN_LEAKS],
            matches=matches,
            more=len(report["leaks"]) - len(matches),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        faults.add(name, "report", "not a report of leaks as `adcopilot data build` writes it; build again")
        return None


def manifest_settings(path: Path, name: str, faults: Faults) -> list[tuple[str, str]] | None:
    """The settings of a manifest as (dotted name, value) in its order; None, and a fault, when it cannot be read."""
    manifest = _read_object(path, name, faults)
    if manifest is None:
        return None
    settings = []
    for key, value in _leaves(manifest, "", 0):
        if len(settings) == _SHOWN_SETTINGS:
            settings.append(("…", "more in the file"))
            break
        settings.append((shorten(key, 80), shorten(value, 160)))
    return settings


def read_losses(path: Path, name: str, faults: Faults) -> list[Loss]:
    """What the builds that a manifest is of have lost; nothing of a manifest of something else."""
    manifest = _read_object(path, name, faults)
    recipes = (manifest or {}).get("recipes")
    found: list[Loss] = []
    for recipe, own in recipes.items() if isinstance(recipes, dict) else ():
        if not isinstance(own, dict) or "max_left_out" not in own:  # of an earlier version
            continue
        try:
            found += find_losses(manifest, recipe, command="adcopilot data build … ")
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            faults.add(name, "manifest", f"what {shorten(recipe, 60)} has lost cannot be read; build it again")
    # Recipes share datasets.
    return sorted(dict.fromkeys(found), key=lambda loss: not loss.too_much)


def _reason(entry: dict[str, Any]) -> str:
    """What an entry is counted by."""
    reason, task = entry.get("reason"), entry.get("task")
    words = [reason, f"({task})" if isinstance(task, str) else None]
    return shorten(" ".join(word for word in words if isinstance(word, str)), 80) or "(no reason)"


def _example(entry: dict[str, Any]) -> str:
    """The first of what names the entry, then what is known about it."""
    names = ("image", "where", "key")
    subject = next((entry[name] for name in names if isinstance(entry.get(name), str) and entry[name]), "")
    parts = []
    if isinstance(entry.get("of"), str):
        parts.append(f"same as {entry['of']}")
    if isinstance(entry.get("detail"), str):
        parts.append(entry["detail"])
    if entry.get("value") is not None:
        limit = entry.get("limit")
        parts.append(f"{entry['value']}" + (f", limit {limit}" if limit is not None else ""))
    return shorten(subject + (": " if subject and parts else "") + "; ".join(parts), 240)


def _leaves(value: Any, prefix: str, depth: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and depth < 4:
        for key, inner in value.items():
            yield from _leaves(inner, f"{prefix}.{key}" if prefix else str(key), depth + 1)
    elif isinstance(value, list) and all(isinstance(one, (str, int, float)) for one in value):
        yield prefix, ", ".join(map(str, value[:20])) + (", …" if len(value) > 20 else "")
    elif isinstance(value, (dict, list)):
        yield prefix, f"{len(value)} entries"
    else:
        yield prefix, value if isinstance(value, str) else json.dumps(value)


def _read_object(path: Path, name: str, faults: Faults) -> dict[str, Any] | None:
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            faults.add(name, "file", f"{size >> 20} MiB, of which at most {_MOST_BYTES >> 20} are read; look into it")
            return None
        found = json.loads(path.read_bytes())
    except OSError as error:
        faults.add(name, "file", f"cannot be read ({error.strerror})")
        return None
    except (ValueError, RecursionError) as error:
        faults.add(name, "not JSON", clean(str(error)))
        return None
    if not isinstance(found, dict):
        faults.add(name, "not JSON", f"a JSON {type(found).__name__}, expected an object")
        return None
    return found
