"""How large the model sees an image, and what is done to the image before its processor gets it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ..boxes import model_image_size
from ..errors import UserError
from ..images import resize_for_training

__all__ = [
    "MMAD_PIXELS",
    "PROCESSOR_PIXELS",
    "SENT_PIXELS",
    "TRAINING_PIXELS",
    "PixelBudget",
    "Sizing",
    "processor_sizing",
    "trained_budget",
]

#: LlamaFactory's default areas in pixels, smallest and largest: what AD-Copilot sees unless its folder says otherwise.
TRAINING_PIXELS = (32 * 32, 768 * 768)
#: The areas MMAD's own evaluation allows Qwen2.5-VL.
MMAD_PIXELS = (64 * 28 * 28, 1280 * 28 * 28)
#: The areas that a Qwen2.5-VL processor allows if nobody tells it otherwise.
PROCESSOR_PIXELS = (56 * 56, 1280 * 28 * 28)
#: The area up to which images are sent to an endpoint whose model's own sizes are not known here.
SENT_PIXELS = 2 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class PixelBudget:
    """Least and largest area of an image in pixels.

    Raises:
        UserError: not 0 < smallest <= largest.
    """

    smallest: int
    largest: int

    def __post_init__(self) -> None:
        if not 0 < self.smallest <= self.largest:
            raise UserError(
                f"image_min_pixels {self.smallest} and image_max_pixels {self.largest}: expected 0 < min <= max"
            )


@dataclass(frozen=True, kw_only=True)
class Sizing:
    """The resizes between a file and the model, in this order; None leaves one out.

    Attributes:
        side: the longer side is shrunk to at most so many pixels.
        largest: the area is shrunk to at most so many pixels, for models that resize in a way of their own.
        largest_by_default: whether nobody asked for `largest`.
        training: LlamaFactory's resize to a budget, as in AD-Copilot's training.
        processor: the budget of Qwen2-VL's image processor, which rounds sides to multiples of `unit`.
        unit: pixels of a side that one token of the model spans.
        here: whether the processor's resize is done here already, so that a processor elsewhere finds nothing to do.
    """

    side: int | None = None
    largest: int | None = None
    largest_by_default: bool = False
    training: PixelBudget | None = None
    processor: PixelBudget | None = None
    unit: int = 28
    here: bool = False

    def __post_init__(self) -> None:
        if self.side is not None and self.side < 28:
            raise UserError(f"--image-side is {self.side}, expected 28 or more pixels")
        if self.largest is not None and self.largest < 28 * 28:
            raise UserError(f"--image-max-pixels is {self.largest}, expected {28 * 28} or more")

    def apply(self, image: Image.Image) -> Image.Image:
        """An upright RGB image as the processor gets it.

        Raises:
            UserError: the image is too long and thin to be resized.
        """
        shrunk = self._shrunk(image.size)
        if shrunk != image.size:
            image = image.resize(shrunk, Image.Resampling.BICUBIC)
        if self.training is not None:
            image = resize_for_training(
                image, image_max_pixels=self.training.largest, image_min_pixels=self.training.smallest
            )
        if self.here:
            target = self._processed(image.size)
            image = image if image.size == target else image.resize(target, Image.Resampling.BICUBIC)
        return image

    def sent_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The size of what `apply` makes of an upright image of `size`; at most, where training's resize comes in."""
        width, height = self._shrunk(size)
        if self.here:
            return self._processed((width, height))
        if self.training is not None and width * height > self.training.largest:
            factor = (self.training.largest / (width * height)) ** 0.5
            return int(width * factor), int(height * factor)
        return width, height

    def model_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(width, height) that the model sees an upright image of `size` in.

        Raises:
            UserError: as `apply`.
        """
        width, height = self._shrunk(size)
        if self.processor is None:
            return width, height
        return self._processed(
            (width, height),
            image_max_pixels=self.training.largest if self.training else None,
            image_min_pixels=self.training.smallest if self.training else None,
        )

    def describe(self) -> dict[str, Any]:
        """The settings, for `Backend.describe`."""
        budgets = {"training": self.training, "processor": self.processor}
        return {
            "side": self.side,
            **({"largest": self.largest} if self.largest else {}),
            **{name: [one.smallest, one.largest] if one else None for name, one in budgets.items()},
            "resized_before_sending": self.here,
        }

    def _shrunk(self, size: tuple[int, int]) -> tuple[int, int]:
        if self.side is not None and max(size) > self.side:
            scale = self.side / max(size)
            size = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
        if self.largest is not None and size[0] * size[1] > self.largest:
            scale = (self.largest / (size[0] * size[1])) ** 0.5
            size = max(1, int(size[0] * scale)), max(1, int(size[1] * scale))
        return size

    def _processed(self, size: tuple[int, int], **training: int | None) -> tuple[int, int]:
        return model_image_size(
            *size,
            patch_size=self.unit,
            merge_size=1,
            processor_min_pixels=self.processor.smallest,
            processor_max_pixels=self.processor.largest,
            **training,
        )


def trained_budget(processor: Any, *, smallest: int | None, largest: int | None) -> PixelBudget:
    """The areas that AD-Copilot's training brings images between: as given, else as the processor's folder says, else
    LlamaFactory's defaults.

    Raises:
        UserError: an area is no whole number above 0, or the least is above the largest.
    """
    areas = []
    for name, given, default in (
        ("image_min_pixels", smallest, TRAINING_PIXELS[0]),
        ("image_max_pixels", largest, TRAINING_PIXELS[1]),
    ):
        stored = None if given else getattr(processor, name, None)
        if stored is not None and (type(stored) is not int or stored < 1):
            raise UserError(
                f"{Path(processor.tokenizer.name_or_path, 'processor_config.json')}: {name} is {stored!r}, expected a "
                "whole number of pixels; correct it there, or give another for this run"
            )
        areas.append(given or stored or default)
    return PixelBudget(smallest=areas[0], largest=areas[1])


def processor_sizing(
    processor: Any, *, family: str, side: int | None = None, smallest: int | None, largest: int | None
) -> Sizing:
    """The resizes before a model on this machine; where its image processor's own budget decides, that is set too.

    Args:
        processor: of the model.
        family: name of its family.
        side: as `Sizing.side`.
        smallest, largest: areas in pixels that images are brought between, None for the family's default.

    Raises:
        UserError: a budget for a processor that has none, or a wrong one.
    """
    images = getattr(processor, "image_processor", None)
    size = getattr(images, "size", None)
    edges = [size.get(name) if hasattr(size, "get") else None for name in ("shortest_edge", "longest_edge")]
    if not (all(hasattr(images, name) for name in ("patch_size", "merge_size")) and all(edges)):
        if smallest or largest:
            raise UserError("--image-max-pixels: this model resizes images in a way of its own; use --image-side")
        return Sizing(side=side)
    unit = images.patch_size * images.merge_size
    if family == "adcopilot":
        training = trained_budget(processor, smallest=smallest, largest=largest)
        own = PixelBudget(smallest=edges[0], largest=edges[1])
        return Sizing(side=side, training=training, processor=own, unit=unit)
    defaults = MMAD_PIXELS if family == "qwen2.5-vl" else edges
    budget = PixelBudget(smallest=smallest or defaults[0], largest=largest or defaults[1])
    images.size = {"shortest_edge": budget.smallest, "longest_edge": budget.largest}
    for name, value in (("min_pixels", budget.smallest), ("max_pixels", budget.largest)):
        if hasattr(images, name):
            setattr(images, name, value)
    return Sizing(side=side, processor=budget, unit=unit)
