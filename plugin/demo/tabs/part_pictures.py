"""The pictures of "Many parts": for each part a small one for the table and a large one of all that was found."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ...images import open_image
from ...inspect.pairs import Pair
from ..colours import map_scale
from ..engines.answer import Answer
from ..fragments import THUMBNAIL, VERDICTS
from ..service import Service
from ..table import PartRow

__all__ = ["PartPictures", "write_zip"]

#: Pixels of a large picture's width at most.
WIDEST = 2000
#: Pixels between two small ones.
GAP = 4


class PartPictures:
    """Writes a visitor's pictures, as long as there is room for them.

    Args:
        service: whose store they lie in.
        visitor: whose they are.

    Attributes:
        left_out: of how many parts there are none, for want of room.
    """

    def __init__(self, service: Service, *, visitor: str) -> None:
        self.service, self.visitor, self.left_out = service, visitor, 0
        self._room = service.limits.stored_bytes - service.store.size()

    def write(self, pair: Pair, answer: Answer) -> tuple[Path | None, Path | None]:
        """The files of the small and the large picture."""
        if self._room <= 0:
            self.left_out += 1
            return None, None
        template, query = open_image(pair.template), open_image(pair.query)
        stem, (middle, _) = Path(pair.name).stem[:60], map_scale(answer.judge.map_threshold)
        large = answer.drawn(template, query, name=pair.name, map_threshold=middle)
        large.thumbnail((WIDEST, WIDEST))
        return self._file(beside(query, template), f"{stem} small.jpg"), self._file(large, f"{stem} inspected.jpg")

    def _file(self, picture: Image.Image, name: str) -> Path:
        path = Path(self.service.store.save(picture, name, visitor=self.visitor, quality=88))
        self._room -= path.stat().st_size
        return path


def beside(*images: Image.Image) -> Image.Image:
    """Small ones of some pictures in a row; grey is what one lacks of the others' shape."""
    scales = [THUMBNAIL / max(image.size) for image in images]
    small = [
        image.resize([max(1, round(side * scale)) for side in image.size])
        for image, scale in zip(images, scales, strict=True)
    ]
    width, height = (max(sides) for sides in zip(*(image.size for image in small), strict=True))
    row = Image.new("RGB", (len(small) * (width + GAP) - GAP, height), "grey")
    for index, image in enumerate(small):
        row.paste(image, (index * (width + GAP) + (width - image.width) // 2, (height - image.height) // 2))
    return row


def write_zip(path: Path, rows: Sequence[PartRow]) -> None:
    """The large pictures, in a folder for each verdict, under the parts' own paths."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as opened:  # JPEG does not shrink further
        for row in rows:
            if row.large is not None and row.verdict is not None:
                opened.write(row.large, f"{VERDICTS[row.verdict.word].lower()}/{row.name}.jpg")
