"""Sources whose items already are conversations, in a LLaVA-style JSON list."""

from __future__ import annotations

import random
import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .json_stream import json_items
from .media import ImageFolder
from .source import GeneralSource, RawSample, Rejected
from .texts import checked_record, conversation_turns

__all__ = ["LlavaList"]

# Four numbers of 0 to 1 in brackets: boxes of another model's frame.
_RELATIVE_BOX = re.compile(r"\[\s*(?:(?:0?\.\d+|[01](?:\.0+)?)\s*,\s*){3}(?:0?\.\d+|[01](?:\.0+)?)\s*\]")


@dataclass(kw_only=True)
class LlavaList(GeneralSource):
    """A list of `{"image": path or [path, …], "conversations": [{"from", "value"}, …]}` as a `source.GeneralSource`.

    Args:
        name, licence: of the source.
        root: the folder that the user named.
        file: the list.
        images: the folder that its paths are relative to.
        media_dir: the YAML's.
        id_key: the items' name for themselves; it need not be unique.
        text_only: keep items without images.
        relative_boxes: keep conversations with boxes as shares of the image, which are not AD-Copilot's pixels.
        max_images: leave out items with more.

    Raises:
        UserError: the images' folder is not in `media_dir`.
    """

    name: str
    licence: str
    root: Path
    file: Path
    images: Path
    media_dir: Path
    id_key: str
    text_only: bool = False
    relative_boxes: bool = True
    max_images: int | None = None

    def __post_init__(self) -> None:
        self.files = [self.file]
        self.folder = ImageFolder(folder=self.images, media_dir=self.media_dir)
        told = {name: getattr(self, name) for name in ("text_only", "relative_boxes", "max_images")}
        self.options: dict[str, Any] = {"images": self.folder.prefix, **told}

    def items(self, chosen: Container[int] | None = None) -> Iterator[RawSample]:
        """As `GeneralSource.items`, in the list's order."""
        for number, data in json_items(self.file):
            if chosen is None or number - 1 in chosen:
                # The number makes it unique: names repeat in the published lists.
                key = f"{data.get(self.id_key)}#{number}"
                where = f"{self.file}: item {number} ({key[:80]})"
                yield RawSample(ordinal=number - 1, key=key, where=where, data=data)

    def check(self, item: RawSample) -> None:
        """The conversation is sound, fits its images, and these are there."""
        images = self._images(item.data)
        self._turns(item.data, images)
        for name in images:
            self.folder.path(name)

    def record(self, item: RawSample, *, rng: random.Random) -> dict[str, Any]:
        """The conversation as it is."""
        images = self._images(item.data)
        pictures = self.folder.opened(images)
        system, turns = self._turns(item.data, images)
        return checked_record(self.name, item.key, **pictures, turns=turns, system=system)

    def _images(self, data: dict[str, Any]) -> list[Any]:
        found = data.get("image")
        images = found if isinstance(found, list) else [] if found is None else [found]
        if not images and not self.text_only:
            raise Rejected("without an image", expected=True)
        if self.max_images is not None and len(images) > self.max_images:
            raise Rejected("more images than asked for", f"{len(images)}, at most {self.max_images}", expected=True)
        return images

    def _turns(self, data: dict[str, Any], images: list[Any]) -> tuple[str | None, list[tuple[str, str]]]:
        system, turns = conversation_turns(data.get("conversations"), role="from", content="value", images=len(images))
        if not self.relative_boxes:
            for turn in turns:
                found = next(filter(None, map(_RELATIVE_BOX.search, turn)), None)
                if found:
                    raise Rejected("boxes as shares of the image", found[0], expected=True)
        return system, turns
