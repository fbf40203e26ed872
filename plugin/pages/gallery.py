"""Pictures of a page, as data URLs within a budget, with boxes in pixels of the originals."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from PIL import Image

from ..endpoint.images import data_url
from ..errors import UserError
from ..images import open_image
from .text import shorten

__all__ = ["COLOURS", "MAX_SIDE", "Box", "Gallery", "Picture", "filters", "picture_of"]

#: Longer side of an embedded picture in pixels; what is smaller stays as it is.
MAX_SIDE = 560

# Up to this side PNG is about as small as JPEG, and keeps what the model sees.
_LOSSLESS_SIDE = 160
_PIXELATED_SIDE = 200

#: Colours of the style sheet that boxes take in turn, one a label.
COLOURS = 6


@dataclass(frozen=True, kw_only=True)
class Box:
    """A box on a picture: left, top, width and height in pixels of the original, and its colour of `COLOURS`.

    `told` boxes stand in the conversation alone, not among the record's annotated ones.
    """

    x: float
    y: float
    width: float
    height: float
    label: str
    colour: int
    told: bool

    @classmethod
    def of(cls, corners: Sequence[float], *, label: str, colour: int, told: bool) -> Box:
        """A box by x1, y1, x2, y2."""
        x1, y1, x2, y2 = map(float, corners)
        return cls(x=x1, y=y1, width=max(x2 - x1, 0), height=max(y2 - y1, 0), label=label, colour=colour, told=told)


@dataclass(kw_only=True)
class Picture:
    """An image of a record.

    Attributes:
        role: what it is called.
        path: as the record has it.
        url: a data URL, "" when `problem` says why there is none.
        width, height: of the upright original in pixels.
        boxes: on it.
    """

    role: str
    path: str
    url: str = ""
    problem: str = ""
    width: int = 0
    height: int = 0
    boxes: list[Box] = field(default_factory=list)

    @property
    def pixelated(self) -> bool:
        """Whether it is so small that it is shown with its pixels."""
        return max(self.width, self.height) <= _PIXELATED_SIDE


def filters(cards: Sequence[object], kinds: Iterable[str]) -> dict[str, dict[str, int]]:
    """Kind of filter → its options, each with its number: the page's script sees the numbers alone.

    Args:
        cards: of the gallery.
        kinds: attributes of the cards, strings, that they are filtered by.
    """
    return {
        kind: {name: number for number, name in enumerate(sorted({getattr(card, kind) for card in cards}))}
        for kind in kinds
    }


def picture_of(image: Image.Image, *, role: str, path: str = "") -> Picture:
    """An upright RGB image as a page holds it, at most `MAX_SIDE` pixels a side."""
    found = Picture(role=role, path=path, width=image.width, height=image.height)
    if max(image.size) > MAX_SIDE:
        image = image.copy()
        image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    found.url = _data_url(image)
    return found


class Gallery:
    """Makes pictures, and keeps their bytes within a budget.

    Args:
        media_dirs: where images are looked for, in order. A name that leads out of them is refused: the page would
            hold a picture that its data should know nothing of.
        budget: bytes of all data URLs together.
        option: of the command, by which further folders are named.

    Attributes:
        missing: images that could not be shown.
        left_out: images that there was no room for.
    """

    def __init__(self, *, media_dirs: Sequence[Path], budget: int, option: str = "--media-dir") -> None:
        self._dirs = [folder.resolve() for folder in media_dirs]
        self._left = budget
        self._option = option
        # Templates come again and again; what is kept is no more than what the page holds.
        self._known: dict[str, Picture] = {}
        self.missing = self.left_out = 0

    def picture(self, name: str, role: str) -> Picture:
        """An image without boxes; one that cannot be shown says why.

        Args:
            name: its path inside a media folder.
            role: what it is called.
        """
        if name not in self._known:
            self._known[name] = self._encode(name)
        known = self._known[name]
        picture = Picture(role=role, path=shorten(name, 200), width=known.width, height=known.height)
        if known.problem:
            self.missing += 1
            picture.problem = known.problem
        elif len(known.url) > self._left:
            self.left_out += 1
            picture.problem = "no room for it: --max-mib limits the page"
        else:
            self._left -= len(known.url)
            picture.url = known.url
        return picture

    def _encode(self, name: str) -> Picture:
        found = Picture(role="", path=name)
        try:
            image = open_image(self._find(name), name=shorten(name))
        except UserError as error:
            found.problem = shorten(error, 200)
            return found
        return picture_of(image, role="", path=name)

    def _find(self, name: str) -> Path:
        path = PurePosixPath(name.replace("\\", "/"))
        if "\x00" in name or path.is_absolute() or ".." in path.parts:
            raise UserError(f"{shorten(name)}: expected a name inside the media folder")
        outside = False
        for folder in self._dirs:
            for inside in _names_inside(path, folder):
                try:
                    target = (folder / inside).resolve()
                    there = target.is_file()
                except (OSError, RuntimeError, ValueError):  # a name too long, or a circle of links
                    continue
                if there and any(target.is_relative_to(one) for one in self._dirs):
                    return target
                outside = outside or there
        if outside:
            raise UserError(f"{shorten(name)}: a link out of the media folder; name where it leads by {self._option}")
        raise UserError(f"{shorten(name)}: no such image; name the folder it is in by {self._option}")


def _names_inside(path: PurePosixPath, folder: Path) -> Iterator[PurePosixPath]:
    """A record's path, then what is left of it below the folder when media_dir was one above.

    `chat_ad/images/1.png`, written for the media_dir `data`, is `images/1.png` in `data/built`.
    """
    yield path
    for count in range(1, min(len(path.parts), len(folder.parts))):
        if path.parts[:count] == folder.parts[-count:]:
            yield PurePosixPath(*path.parts[count:])


def _data_url(image: Image.Image) -> str:
    """The picture as PNG where that is small, as drawings are, or the picture is; else as JPEG."""
    files = {"PNG": io.BytesIO(), "JPEG": io.BytesIO()}
    image.save(files["PNG"], "PNG", optimize=True)
    image.save(files["JPEG"], "JPEG", quality=85)
    sizes = {kind: len(file.getvalue()) for kind, file in files.items()}
    kind = "PNG" if max(image.size) <= _LOSSLESS_SIDE or sizes["PNG"] <= sizes["JPEG"] else "JPEG"
    return data_url(kind, files[kind].getvalue())
