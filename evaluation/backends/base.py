"""What the backends that load a model into this process have in common."""

from __future__ import annotations

from functools import cached_property
from importlib import metadata
from typing import Any

from PIL import Image

from adcopilot.answering.families import Family, family_of
from adcopilot.answering.items import Item
from adcopilot.answering.sizing import Sizing
from adcopilot.errors import UserError
from adcopilot.images import open_image
from adcopilot.inspect.greedy import whole_tokens

__all__ = ["LocalBackend"]


class LocalBackend:
    """A model in this process; who loads it sets these attributes.

    Args:
        batch_size: questions that it works on together.
        family: name of its family (`families.FAMILIES`), None if its configuration is to decide.
        side: as `Sizing.side`.

    Raises:
        UserError: a value is out of its range, which is said before the model loads.

    Attributes:
        name, family: as `answering.base.Backend`.
        packages: whose versions answers depend on.
        model_name, digest: the model as it was given, and the hash of its files.
        processor: transformers'.
        dtype: that it computes in.
        sizing: the resizes before it.
    """

    name: str
    packages: tuple[str, ...]
    family: Family
    model_name: str
    digest: str
    processor: Any
    dtype: str
    sizing: Sizing

    def __init__(self, *, batch_size: int, family: str | None, side: int | None) -> None:
        if batch_size < 1:
            raise UserError(f"--batch-size is {batch_size}, expected 1 or more")
        if family is not None:
            family_of(family, model="")
        Sizing(side=side)
        self.batch_size = batch_size

    def describe(self) -> dict[str, Any]:
        """As `Backend.describe`. Batch size, reuse, device and an engine's options are left out: they do not change
        answers."""
        return {
            "backend": self.name,
            "model": self.model_name,
            "model_digest": self.digest,
            "family": self.family.name,
            "dtype": self.dtype,
            "images": self.sizing.describe(),
            "decoding": "greedy",
            "versions": {name: metadata.version(name) for name in self.packages},
        }

    def model_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """As `Backend.model_size`."""
        return self.sizing.model_size(size)

    def images(self, item: Item) -> list[Image.Image]:
        """An item's images as the processor gets them.

        Raises:
            UserError: a file cannot be read, or its image has no size for the model.
        """
        images = []
        for path in item.images:
            image = open_image(path)
            try:
                self.sizing.model_size(image.size)  # what the processor would refuse is one item's error
            except UserError as error:
                raise UserError(f"{path}: {error}") from None
            images.append(self.sizing.apply(image))
        return images

    def option_tokens(self, item: Item) -> dict[str, list[int]]:
        """For each letter of an item's options the ids of the tokens that an answer with it begins with; a letter that
        the vocabulary does not hold is left out."""
        for letter in item.options or ():
            if letter not in self._letters:
                self._letters[letter] = sorted(whole_tokens(self.processor.tokenizer, [letter]))
        return {letter: self._letters[letter] for letter in item.options or () if self._letters[letter]}

    @cached_property
    def _letters(self) -> dict[str, list[int]]:
        return {}
