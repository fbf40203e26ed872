"""Which training images are also in an evaluation set, by content and by look.

    bytes    the same file
    pixels   the same pixels in another file (PNG → BMP)
    near     the same photograph, re-encoded or resized (`duplicates`)
    similar  perceptual hashes (64 bits) at most `similar` apart: another exposure or cut of it, or merely another
             part of the same kind; to be looked at, and off when None

Turned or mirrored copies and small cuts out of a picture are not found.

The evaluation set's fingerprints (some 1.2 KiB an image) are in memory; the table is looked at a shard at a time, so
shards can be compared anywhere and in any order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import faiss
import numpy as np
import pyarrow as pa
from pydantic import Field

from ..recipe.model import Count, choices
from .duplicates import SameSpec, agreement, near_candidates, same_shape
from .fingerprints import Fingerprints

__all__ = ["KINDS", "LeakOptions", "Suspect", "leak_report", "leaks_shard"]

#: From certain to uncertain.
KINDS = ("bytes", "pixels", "near", "similar")


class LeakOptions(SameSpec):
    """What counts as a leak, and what is done about it: a recipe's `leaks`.

    Attributes:
        similar: bits in which two perceptual hashes may differ to be reported as `similar`; None for no such report.
        most: images of the evaluation set named for each image; all of them are counted.
        drop: the kinds that keep an image out; the last of `KINDS` is a suspicion only.
        skip_problems: go on where an image of an evaluation set cannot be read.
    """

    similar: Annotated[int, Field(ge=0, le=64)] | None = None
    most: Count = 5
    drop: choices(*KINDS) = KINDS[:3]
    skip_problems: bool = False


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """A set that must not have been trained on.

    Attributes:
        name: as the report calls it.
        images: references, in the order of `prints`.
        prints: the measures of its images.
    """

    name: str
    images: list[str]
    prints: Fingerprints


def leaks_shard(
    rows: pa.Table, measures: pa.Table, suspects: Iterable[Suspect], *, options: LeakOptions | None = None
) -> list[dict]:
    """The images of a shard that are in any of the sets.

    Args:
        rows: the shard, with the columns `image`, `category`, `label`, `split`, `source`.
        measures: `fingerprints.measure_table` of it.
        suspects: the evaluation sets.
        options: what counts.

    Returns:
        For each such image, in order: the columns above, `sets` (name → the most certain kind of match), `matches` (a
        list of `{"set", "image", "kind", "distance", "difference"}`: bits of the hash, largest difference of the
        thumbnails in grey levels; the most certain first) and `count` (of all matches).
    """
    options = options or LeakOptions()
    prints = Fingerprints([measures])
    readable = np.array([row for row in range(len(prints)) if row not in prints.problems], np.int64)
    found: dict[int, list[tuple]] = {}
    for suspect in suspects:
        for row, other, kind in _matches(prints, readable, suspect.prints, options):
            distance = int(np.unpackbits(prints.phash[row] ^ suspect.prints.phash[other]).sum())
            largest = int(agreement(prints.thumbs[row], suspect.prints.thumbs[other : other + 1])[0][0])
            match = (KINDS.index(kind), largest, distance, suspect.name, suspect.images[other])
            found.setdefault(row, []).append(match)
    names = ("image", "category", "label", "split", "source")
    leaks = []
    for row in sorted(found):
        matches = [
            {"set": name, "image": image, "kind": KINDS[kind], "distance": distance, "difference": largest}
            for kind, largest, distance, name, image in sorted(found[row])
        ]
        entry = {name: rows[name][row].as_py() for name in names}
        sets = {match["set"]: match["kind"] for match in reversed(matches)}
        entry["sets"] = {name: sets[name] for name in sorted(sets)}
        leaks.append({**entry, "matches": matches[: options.most], "count": len(matches)})
    return leaks


def leak_report(leaks: Iterable[dict], *, table: str, images: int, suspects: list[dict], limits: dict) -> dict:
    """What `leaks.json` holds: counts by set, kind, source and category, then every leak.

    Args:
        leaks: of all shards, in order.
        table: the training table.
        images: that it holds.
        suspects: `{"name", "images", …}` of each set.
        limits: that were used.
    """
    leaks = list(leaks)
    by_set = {one["name"]: dict.fromkeys(KINDS, 0) for one in suspects}
    categories: Counter = Counter()
    for leak in leaks:
        for name, kind in leak["sets"].items():
            by_set[name][kind] += 1
        categories[leak["source"], leak["category"], leak["matches"][0]["kind"]] += 1
    return {
        "table": table,
        "images": images,
        "against": suspects,
        "limits": limits,
        "leaking_images": len(leaks),
        "by_set": by_set,
        "by_category": [
            {"source": source, "category": category, "kind": kind, "images": count}
            for (source, category, kind), count in sorted(categories.items())
        ],
        "leaks": leaks,
    }


def _matches(prints: Fingerprints, rows: np.ndarray, others: Fingerprints, options: LeakOptions):
    """(row, other, kind), each pair once, by its most certain kind."""
    seen: set[tuple[int, int]] = set()
    usable = np.array([row for row in range(len(others)) if row not in others.problems], np.int64)

    def new(row, other) -> bool:
        pair = (int(row), int(other))
        return pair not in seen and not seen.add(pair)

    for kind in ("bytes", "pixels"):
        name = {"bytes": "sha256"}.get(kind, kind)
        where: dict[bytes, list[int]] = {}
        for other in usable:
            where.setdefault(getattr(others, name)[other].tobytes(), []).append(int(other))
        for row in rows:
            for other in where.get(getattr(prints, name)[row].tobytes(), ()):
                if new(row, other):
                    yield int(row), other, kind
    for query, candidates in near_candidates(prints.coarse[rows], others.coarse[usable], limits=options.same):
        row, candidates = rows[query], usable[candidates]
        candidates = candidates[same_shape(prints, row, others, candidates)]
        largest, mean = agreement(prints.thumbs[row], others.thumbs[candidates])
        for other in candidates[(largest <= options.same.largest) & (mean <= options.same.mean)]:
            if new(row, other):
                yield int(row), int(other), "near"
    if options.similar is not None and len(rows) and len(usable):
        index = faiss.IndexBinaryFlat(64)
        index.add(np.ascontiguousarray(others.phash[usable]))
        for start in range(0, len(rows), 256):
            block = rows[start : start + 256]
            # FAISS's radius is exclusive.
            ends, _, found = index.range_search(np.ascontiguousarray(prints.phash[block]), options.similar + 1)
            for place, row in enumerate(block):
                for other in np.sort(usable[found[ends[place] : ends[place + 1]]]):
                    if new(row, other):
                        yield int(row), int(other), "similar"
