"""An anomaly map as a picture that people read: colours, laid over the query, on a scale that is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:  # needs torch, which a page over an endpoint starts without
    from .comparing import AnomalyMap

__all__ = ["laid_over", "map_colours", "map_over", "map_top", "scale_in_words"]

#: From no difference over the threshold, where yellow is reached, to twice of it, as (red, green, blue).
_COLOURS = ((24, 28, 60), (250, 210, 60), (225, 30, 40))
#: Opacity of the colours where there is most, and the share of the query's own brightness that is left: on white, and
#: on black, the colours are told apart all the same.
_OPACITY, _BRIGHTNESS = 0.85, 0.55


def map_top(score: float, threshold: float | None) -> float:
    """The difference that is shown red: twice the threshold of scores, or without one the picture's own score, so that
    its highest differences are red whatever they are."""
    return 2 * threshold if threshold else score or 1.0


def scale_in_words(threshold: float | None) -> str:
    """What the colours mean, for people."""
    if threshold:
        return f"Yellow is the threshold {threshold:.3g}, red twice as much."
    return "No threshold is known: red is what differs most in this picture, however little that is."


def map_colours(values: np.ndarray, top: float) -> Image.Image:
    """The map (rows, columns) alone, a pixel for a value.

    Args:
        top: the difference that is red.
    """
    share = (values / top).clip(0, 1)
    colours = np.array(_COLOURS, float)
    pixels = [np.interp(share, np.linspace(0, 1, len(colours)), colours[:, channel]) for channel in range(3)]
    return Image.fromarray(np.rint(np.stack(pixels, axis=-1)).astype(np.uint8))


def map_over(image: Image.Image, anomaly_map: AnomalyMap, *, threshold: float | None) -> Image.Image:
    """The map over the query, which is darkened and grey, so that every colour is the map's.

    Args:
        image: the query, RGB, at the size to be drawn.
        threshold: of the map's score; None where none is known.

    Returns:
        A new picture of `image.size`.
    """
    return laid_over(image, anomaly_map.values, top=map_top(anomaly_map.pred_score, threshold))


def laid_over(image: Image.Image, values: np.ndarray, *, top: float) -> Image.Image:
    """Values over a picture, which is darkened and grey, so that every colour is theirs.

    Args:
        image: RGB, at the size to be drawn.
        values: (rows, columns) float32, 0 or more.
        top: the value that is red; half of it is yellow.

    Returns:
        A new picture of `image.size`.
    """
    values = Image.fromarray(values).resize(image.size, Image.Resampling.BILINEAR)
    values = np.asarray(values, dtype=np.float32)
    colours = np.asarray(map_colours(values, top), dtype=np.float32)
    weight = _OPACITY * np.sqrt((values / top).clip(0, 1))[..., None]
    ground = np.asarray(image.convert("L"), dtype=np.float32)[..., None] * _BRIGHTNESS
    return Image.fromarray(np.rint(ground * (1 - weight) + colours * weight).astype(np.uint8))
