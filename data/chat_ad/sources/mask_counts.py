"""What the masks of a dataset are, in counts, and which of them mark the very same pixels of two images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import pyarrow as pa

__all__ = ["count_masks", "mask_lines"]

# A mask of so many images is listed with the first of them.
_SHOWN = 3

_WORDS = {
    "one-level": "of one level, marking everything",
    "two-level": "two-level",
    "classes": "of classes",
    "many-valued": "many-valued, cut at the middle of their range (mask.threshold)",
    "many-valued with faint regions": "many-valued with regions that are too faint to count (mask.threshold)",
    "annotated": "drawn from annotations",
}


def count_masks(rows: pa.RecordBatch | pa.Table, kinds: Counter, same: dict[str, list[str]]) -> None:
    """Add rows of the table (`image`, `mask_kind`, `mask_sha256`) to the counts.

    Args:
        rows: some of them.
        kinds: rows by the kind of their mask.
        same: of each mask the first images that have it.
    """
    columns = (rows.column(name).to_pylist() for name in ("image", "mask_kind", "mask_sha256"))
    for image, kind, digest in zip(*columns, strict=True):
        if kind:
            kinds[kind] += 1
            images = same.setdefault(digest, [])
            if len(images) < _SHOWN:
                images.append(image)


def mask_lines(kinds: Mapping[str, int], same: Mapping[str, Sequence[str]]) -> list[str]:
    """Lines for a person: `masks: 40 two-level; 3 inverted, two-level`, and which images share one."""
    if not kinds:
        return []
    parts = []
    for kind, count in sorted(kinds.items(), key=lambda one: (-one[1], one[0])):
        inverted = kind.startswith("inverted ")
        parts.append(f"{count:,} {'inverted, ' if inverted else ''}{_WORDS[kind.removeprefix('inverted ')]}")
    lines = [f"masks: {'; '.join(parts)}"]
    shared = [images for images in same.values() if len(images) > 1]
    if shared:
        shown = "; ".join(" and ".join(images[:2]) for images in shared[:_SHOWN])
        more = " …" if len(shared) > _SHOWN else ""
        lines.append(
            f"{len(shared):,} masks mark the same pixels of several images (look whose they are): {shown}{more}"
        )
    return lines
