"""What the masks of a dataset are, in counts, and which of them mark the very same pixels of two images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pyarrow as pa

__all__ = ["mask_lines"]

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


def mask_lines(tables: Iterable[pa.Table]) -> list[str]:
    """Lines for a person: `masks: 40 two-level; 3 inverted, two-level`, and which images share one.

    Args:
        tables: with the columns `image`, `mask_kind` and `mask_sha256`.
    """
    kinds: Counter[str] = Counter()
    same: dict[str, list[str]] = {}  # mask → the first images that have it
    for rows in tables:
        columns = (rows[name].to_pylist() for name in ("image", "mask_kind", "mask_sha256"))
        for image, kind, digest in zip(*columns, strict=True):
            if kind:
                kinds[kind] += 1
                images = same.setdefault(digest, [])
                if len(images) < _SHOWN:
                    images.append(image)
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
