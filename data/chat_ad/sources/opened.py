"""Images of a dataset that a step opens again: a template of many queries, a query with several templates."""

from __future__ import annotations

import os
from collections import OrderedDict

from PIL import Image

from .references import open_reference

__all__ = ["OpenedImages"]

#: Bytes of pixels that are kept: 85 images of 1 megapixel.
_MOST = 256 << 20


class OpenedImages:
    """Opens each image once, as long as those opened since fit into memory."""

    def __init__(self, *, most: int = _MOST) -> None:
        self._most, self._bytes = most, 0
        self._kept: OrderedDict[tuple[str, str], Image.Image] = OrderedDict()

    def __call__(self, root: str | os.PathLike, reference: str) -> Image.Image:
        """As `references.open_reference`; nobody may change the image."""
        key = (os.fspath(root), reference)
        if key not in self._kept:
            image = open_reference(root, reference)
            self._bytes += _size(image)
            self._kept[key] = image
            while self._bytes > self._most and len(self._kept) > 1:
                self._bytes -= _size(self._kept.popitem(last=False)[1])
        self._kept.move_to_end(key)
        return self._kept[key]


def _size(image: Image.Image) -> int:
    return image.width * image.height * len(image.getbands())
