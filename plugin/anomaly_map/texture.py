"""How far each patch of a query is from the nearest one anywhere in the templates.

For what is never twice the same: tiles, leather, castings. Nothing can be laid over anything there, but a good part is
made of patches that other good parts have as well. Patches are compared by their local contrast, so that neither the
light nor a slow shade counts. PatchCore's idea with the pictures themselves in the place of a network's features.

Shape legend: P patches, D values of a patch, H, W rows and columns of a picture.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.ndimage import gaussian_filter

from ..errors import UserError

__all__ = ["TEXTURE_TOP", "Texture", "local_contrast"]

#: Share of the patches whose mean is the score.
TEXTURE_TOP = 0.003
#: Side of a patch and pixels from one to the next, at full size; the picture is looked at at half its size as well.
PATCH, STRIDE = 11, 4
SCALES = (1, 2)
#: Pixels (deviation of a Gaussian) that grain is smoothed by, and around a place that its mean and contrast are of.
SMOOTH, AROUND = 1.5, 8.0
#: Contrast (of values from 0 to 1) below which there is nothing but noise.
NOISE = 0.03
#: Patches that the templates have together at each scale, and one has at most.
PATCHES, MOST_EACH = 8000, 1000
#: Patches that tell how far good ones are from those of other pictures.
PROBES = 512
#: How often as far, beyond that, makes a value of 1.
TIMES = 4.0
#: The highest value: beyond, all is as strange (`inspect.judging.MOST_MAP`).
MOST = 10.0
#: Pixels that a query has, at the templates' scale, as a multiple of `max_pixels`: time and memory grow with them.
MOST_LARGER = 8
#: Templates whose patches are kept for the next query.
KEPT = 64


class Texture:
    """Patches of good parts.

    Args:
        max_pixels: pictures are shrunk, all by one factor, so far that no template has more pixels.
    """

    def __init__(self, *, max_pixels: int) -> None:
        self.max_pixels = max_pixels
        self._kept: OrderedDict[tuple, list[torch.Tensor]] = OrderedDict()
        self._lock = threading.Lock()

    def distances(self, query: Image.Image, templates: Sequence[Image.Image]) -> torch.Tensor:
        """Distances beyond those that good patches have from each other.

        Args:
            query, templates: upright, RGB, of any sizes, taken at one scale.

        Returns:
            (rows, columns), one value for about 4×4 pixels of the compared size: 0 where the nearest patch is as
            near as good ones are to each other, 1 where it is five times as far.

        Raises:
            UserError: a picture is smaller than a patch, or the query far larger than the templates.
        """
        factor = min(1.0, (self.max_pixels / max(one.width * one.height for one in templates)) ** 0.5)
        if query.width * query.height * factor**2 > MOST_LARGER * self.max_pixels:
            largest = max(templates, key=lambda one: one.width * one.height)
            raise UserError(
                f"the query has {query.width}×{query.height} pixels and its largest template {largest.width}×"
                f"{largest.height}: they are not of one scale; give a part of it, or larger templates"
            )
        coloured = not all(_is_grey(one) for one in (query, *templates))
        share = max(1, min(MOST_EACH, PATCHES // len(templates)))
        known = [self._patches_of(one, factor, coloured) for one in templates]
        small = _values(query, factor, coloured)
        found = None
        for index, scale in enumerate(SCALES):
            parts = [one[index][:share] for one in known]
            if not all(len(part) for part in parts) or min(small.shape[:2]) < scale * PATCH:
                continue  # too small to be looked at at half its size
            patches, grid = _patches(small, scale)
            nearest = _nearest(patches, torch.cat(parts)).reshape(1, 1, *grid)
            # the outermost patches begin at the edge, so that their middles are half a patch from it
            margin = round(PATCH * scale / 2 / STRIDE)
            apart = ((nearest / _usual(parts) - 1) / TIMES).clamp(0, MOST)
            nearest = F.pad(apart, (margin,) * 4, mode="replicate")
            if found is None:
                found = nearest
                continue
            found = (found + F.interpolate(nearest, found.shape[2:], mode="bilinear", align_corners=False)) / 2
        if found is None:
            raise UserError(
                f"a picture of {query.width}×{query.height} pixels or its templates are smaller than the patches of "
                f"--map texture ({PATCH}×{PATCH}); give larger pictures, or --map pixels"
            )
        return found[0, 0]

    def _patches_of(self, template: Image.Image, factor: float, coloured: bool) -> list[torch.Tensor]:
        """Some patches (P, D) of a template at each scale, in an order drawn once."""
        key = (hashlib.blake2b(template.tobytes()).digest(), template.size, factor, coloured)
        with self._lock:  # others wait for a template that is looked at: they need it next
            return self._known(key, template, factor, coloured)

    def _known(self, key: tuple, template: Image.Image, factor: float, coloured: bool) -> list[torch.Tensor]:
        if key not in self._kept:
            values, found = _values(template, factor, coloured), []
            for scale in SCALES:
                if min(values.shape[:2]) < scale * PATCH:
                    found.append(torch.empty(0))
                    continue
                patches, _ = _patches(values, scale)
                order = torch.randperm(len(patches), generator=torch.Generator().manual_seed(0))
                found.append(patches[order[:MOST_EACH]].clone())
            self._kept[key] = found
        self._kept.move_to_end(key)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return self._kept[key]


def _is_grey(image: Image.Image) -> bool:
    bands = image.split()
    return all(band.tobytes() == bands[0].tobytes() for band in bands[1:])


def _values(image: Image.Image, factor: float, coloured: bool) -> np.ndarray:
    """(H, W, 3 or 1), 0 to 1."""
    if factor < 1:
        size = [max(1, round(side * factor)) for side in image.size]
        image = image.resize(size, Image.Resampling.BOX)
    values = np.asarray(image, dtype=np.float32) / 255
    return values if coloured else values[..., :1]


def _patches(values: np.ndarray, scale: int) -> tuple[torch.Tensor, tuple[int, int]]:
    """Patches (P, D) of the local contrast at a scale, and how many there are down and across."""
    if scale > 1:
        rows, columns = (side // scale for side in values.shape[:2])
        values = values[: rows * scale, : columns * scale].reshape(rows, scale, columns, scale, -1).mean((1, 3))
    contrast = local_contrast(values)
    stride = max(1, STRIDE // scale)
    found = F.unfold(torch.from_numpy(contrast).permute(2, 0, 1)[None].float(), PATCH, stride=stride)[0].T
    down, across = ((side - PATCH) // stride + 1 for side in contrast.shape[:2])
    return found.contiguous(), (down, across)


def local_contrast(values: np.ndarray) -> np.ndarray:
    """The structure at each place of a picture without the light around it.

    Args:
        values: (H, W, channels), 0 to 1.

    Returns:
        The same shape: what a place differs by from the mean around it, in deviations of its neighbourhood.
    """
    smooth = gaussian_filter(values, (SMOOTH, SMOOTH, 0))
    rest = smooth - gaussian_filter(smooth, (AROUND, AROUND, 0))
    power = gaussian_filter((rest**2).mean(-1), AROUND)
    return rest / (np.sqrt(power.clip(0)) + NOISE)[..., None]


def _nearest(patches: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """(P,): the distance of each patch from the nearest known one."""
    return torch.cat([torch.cdist(some, known).min(1).values for some in patches.split(4096)])


def _usual(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """How far a patch of one good picture is from the nearest of the others: the median of some. Of a single picture,
    of one half of its patches from the other."""
    if len(parts) == 1:
        parts = parts[0].chunk(2)
    each = max(1, PROBES // len(parts))
    found = []
    for index, part in enumerate(parts):
        others = [other for place, other in enumerate(parts) if place != index]
        if others:
            found.append(_nearest(part[:each], torch.cat(others)))
    return torch.cat(found).median().clamp(min=1e-3) if found else torch.tensor(1.0)
