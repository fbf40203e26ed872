"""Find pictures that are the same: equal bytes, equal pixels, or one photograph saved twice in different ways.

Photographs of different parts on one production line agree in nearly everything, and a perceptual hash of 64 bits is
often the same for a good part and for one with a scratch. So a hash is never enough here: two files are one photograph
when their 32×32 thumbnails agree everywhere within `largest` grey levels and on average within `mean`. JPEG at quality
20 and a halved size stay within 7 and 1.3; a part photographed twice does not.

The search leaves nothing out: if thumbnails agree so far, the means of their 64 blocks lie within a distance that
follows from the two limits, and FAISS finds all of those.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import faiss
import numpy as np

from ..recipe.model import Grey, Spec
from .fingerprints import COARSE, Fingerprints

__all__ = ["SameLimits", "SameSpec", "agreement", "equal_groups", "near_candidates", "same_shape"]

# Queries whose results FAISS holds at once.
_BLOCK = 256


@dataclass(frozen=True, kw_only=True)
class SameLimits:
    """How far two thumbnails of one photograph may differ, in grey levels: anywhere, and on average."""

    largest: float = 12
    mean: float = 2

    @property
    def radius(self) -> float:
        """Squared distance of the block means that no such pair exceeds.

        A block's means differ by at most `largest`, and all of them together by at most 64 times `mean`, so the sum of
        their squares is at most the product. Rounding the means to integers adds up to 1 to each.
        """
        blocks = COARSE * COARSE
        return (np.sqrt(self.largest * self.mean * blocks) + np.sqrt(blocks)) ** 2 + 1


class SameSpec(Spec):
    """`SameLimits` as keys of a recipe."""

    same_largest: Grey = SameLimits.largest
    same_mean: Grey = SameLimits.mean

    @property
    def same(self) -> SameLimits:
        """When two files are one photograph."""
        return SameLimits(largest=self.same_largest, mean=self.same_mean)


def equal_groups(digests: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
    """The rows that share a digest, for each digest that several of them have.

    Args:
        digests: (n, bytes) uint8 of all images.
        rows: those to look at.

    Yields:
        Arrays of two or more of `rows`, each ascending, ordered by their first.
    """
    if not len(rows):
        return
    keys = np.ascontiguousarray(digests[rows]).view(f"V{digests.shape[1]}").ravel()
    _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    shared = np.flatnonzero(counts[inverse] > 1)
    order = shared[np.lexsort((rows[shared], inverse[shared]))]
    groups = np.split(rows[order], np.flatnonzero(np.diff(inverse[order])) + 1) if len(order) else []
    yield from sorted(groups, key=lambda group: group[0])


def near_candidates(
    queries: np.ndarray, others: np.ndarray, *, limits: SameLimits
) -> Iterator[tuple[int, np.ndarray]]:
    """For each query the others that could be the same photograph by their block means; a superset of those that are.

    Args:
        queries, others: (n, 64) and (m, 64), `Fingerprints.coarse`.
        limits: what the same photograph means.

    Yields:
        `(query, others)`, indices into both, the others ascending; queries without any are left out.
    """
    if not len(queries) or not len(others):
        return
    index = faiss.IndexFlatL2(others.shape[1])
    index.add(np.ascontiguousarray(others, np.float32))
    for start in range(0, len(queries), _BLOCK):
        block = np.ascontiguousarray(queries[start : start + _BLOCK], np.float32)
        ends, _, found = index.range_search(block, float(limits.radius))
        for offset in range(len(block)):
            near = np.sort(found[ends[offset] : ends[offset + 1]])
            # The two limits themselves, on the block means (1 for their rounding): fewer thumbnails to fetch.
            difference = np.abs(others[near].astype(np.int16) - queries[start + offset].astype(np.int16))
            fits = (difference.max(axis=1) <= limits.largest + 1) & (difference.mean(axis=1) <= limits.mean + 1)
            if fits.any():
                yield start + offset, near[fits]


def agreement(thumb: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Largest and mean difference, in grey levels, of a thumbnail (1024,) from each of (n, 1024)."""
    difference = np.abs(others.astype(np.int16) - thumb.astype(np.int16))
    return difference.max(axis=1), difference.mean(axis=1)


def same_shape(prints: Fingerprints, row: int, others: Fingerprints, rows: np.ndarray) -> np.ndarray:
    """Whether the pictures' sides are in the same proportion within 2 % (a resized copy rounds its sides)."""
    ratio = prints.width[row] / prints.height[row] * others.height[rows] / others.width[rows]
    return np.abs(ratio - 1) <= 0.02
