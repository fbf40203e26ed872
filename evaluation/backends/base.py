"""What the backends that load a model into this process have in common."""

from __future__ import annotations

from functools import cached_property
from importlib import metadata
from typing import Any

from PIL import Image

from adcopilot.answering.families import Family, family_of
from adcopilot.answering.items import Item
from adcopilot.answering.sizing import Sizing, processor_sizing
from adcopilot.errors import UserError
from adcopilot.images import open_image
from adcopilot.inspect.greedy import whole_tokens

__all__ = ["LocalBackend"]


class LocalBackend:
    """A model in this process; who loads it sets these attributes.

    Args:
        batch_size: questions that it works on together.
        family: name of its family (`families.FAMILIES`), None if its configuration is to decide.
        image_side: shrink images to so many pixels on the longer side first.
        image_max_pixels, image_min_pixels: areas that images are brought between. AD-Copilot's default is what its
            folder says or LlamaFactory's (589824 and 1024), by training's resize; Qwen2.5-VL's is MMAD's (1003520 and
            50176), by its processor. Other models keep their processor's own.

    Raises:
        UserError: a value is out of its range, which is said before the model loads.

    Attributes:
        name, family: as `answering.base.Backend`.
        packages: whose versions answers depend on.
        model_name, digest: the model as it was given, and the hash of its files.
        dtype: that it computes in.
        processor, sizing: transformers', and the resizes before it; `take` sets them.
    """

    name: str
    packages: tuple[str, ...]
    family: Family
    model_name: str
    digest: str
    dtype: str
    processor: Any
    sizing: Sizing

    def __init__(
        self,
        *,
        batch_size: int = 16,
        family: str | None = None,
        image_side: int | None = None,
        image_max_pixels: int | None = None,
        image_min_pixels: int | None = None,
    ) -> None:
        if batch_size < 1:
            raise UserError(f"--batch-size is {batch_size}, expected 1 or more")
        if family is not None:
            family_of(family, model="")
        Sizing(side=image_side)
        self.batch_size = batch_size
        self._images = {"side": image_side, "smallest": image_min_pixels, "largest": image_max_pixels}

    def take(self, processor: Any, family: Family) -> None:
        """The processor and the family of the model that was loaded, and what follows for its images.

        Raises:
            UserError: the sizes asked for are none of this processor's.
        """
        self.processor, self.family = processor, family
        self.sizing = processor_sizing(processor, family=family.name, **self._images)

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
