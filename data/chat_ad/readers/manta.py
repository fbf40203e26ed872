"""MANTA-Tiny: an MVTec-style tree whose images are horizontal strips of five views of one part.

    DOMAIN/CATEGORY/train/good/NAME.png, DOMAIN/CATEGORY/test/{good,DEFECT}/NAME.png     1280×256
    DOMAIN/CATEGORY/ground_truth/DEFECT/NAME.png                                         strips too

Each view becomes a row. A mask's pixels count when brighter than half. A view of a defective part whose fifth of the
mask is empty is normal, and says so in its notes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from ..sources.references import format_reference, parse_reference
from . import mvtec_tree
from .base import ListedImage, Option, Source
from .mvtec_tree import looks_like

__all__ = ["OPTIONS", "looks_like", "scan"]

OPTIONS: Mapping[str, Option] = {
    "views": Option(default="5", choices=[str(count) for count in range(1, 17)], help="views in a strip"),
}


def scan(source: Source) -> Iterator[ListedImage]:
    """All strips of all categories, in order.

    Raises:
        LayoutError: there is no category.
    """
    views = int(source.options["views"])
    for item in mvtec_tree.scan(source):
        image = parse_reference(item.image).path
        mask = format_reference(parse_reference(item.mask).path, over="half") if item.mask else ""
        stem = image.rpartition(".")[0]
        yield dataclasses.replace(item, views=views, mask=mask, group=stem)
