"""How far each pixel of a query is from what the templates show there.

The root mean square difference of small patches, the least over a few pixels of displacement and over the templates:
what registration leaves, and what differs between good parts, counts for little. Gain and offset are taken out first,
so that light does not count either.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from .registration import KEPT, place, quantile, register

__all__ = ["pixel_distances"]

#: Side of a patch in pixels.
PATCH = 7
#: Gains beyond are no matter of light.
GAINS = (0.5, 2.0)
#: Correlation from which on the contrast of two pictures is that of the same things.
LIKE = 0.5
#: Deviation of values from 0 to 1 below which a picture has no contrast to compare.
FLAT = 0.02


def pixel_distances(
    query: torch.Tensor, templates: Sequence[torch.Tensor], *, search: int
) -> tuple[torch.Tensor, float]:
    """Differences from the nearest template.

    Args:
        query: (1, 3, H, W), values 0 to 1.
        templates: the same, of the same size.
        search: pixels that a patch may be displaced by, each way.

    Returns:
        (H, W), 0 to 1 and more, 0 where no template has something under the query; and the share of the query where
        one has.
    """
    nearest, known = None, None
    for template in templates:
        template, seen = place(template, register(query, template))
        distances = _patch_distances(_same_light(query, template, seen), template, seen, search=search)
        distances = torch.where(seen, distances, torch.inf)
        nearest = distances if nearest is None else torch.minimum(nearest, distances)
        known = seen if known is None else known | seen
    return torch.where(known, nearest, torch.tensor(0.0)), float(known.float().mean())


def _same_light(query: torch.Tensor, template: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """The query with the template's contrast and brightness in each channel, the worst tenth of the pixels left out.

    By deviations, not by regression: a template without structure would flatten the defect.
    """
    channels = []
    for values, wanted in zip(query[0], template[0], strict=True):
        kept, gain, offset = seen, torch.tensor(1.0), torch.tensor(0.0)
        for _ in range(3):
            x, y = values[kept], wanted[kept]
            if len(x) > 1:
                of_x, of_y = x.std(), y.std()
                alike = ((x - x.mean()) * (y - y.mean())).mean() > LIKE * of_x * of_y
                flat = min(of_x, of_y) < FLAT
                gain = torch.tensor(1.0) if flat or not alike else (of_y / of_x).clamp(*GAINS)
                offset = y.mean() - gain * x.mean()
            rest = (gain * values + offset - wanted).abs()
            kept = seen & (rest <= quantile(rest[seen] if seen.any() else rest, KEPT))
        channels.append(gain * values + offset)
    return torch.stack(channels)[None]


def _patch_distances(query: torch.Tensor, template: torch.Tensor, seen: torch.Tensor, *, search: int) -> torch.Tensor:
    """Only pixels under which the template shows something count in a patch."""
    height, width = query.shape[-2:]
    weights = seen.float()[None, None]
    share = _patch_means(weights)
    padded = F.pad(template, (search,) * 4, mode="replicate")
    nearest = torch.full((1, 1, height, width), torch.inf)
    for y in range(2 * search + 1):
        for x in range(2 * search + 1):
            squares = ((query - padded[..., y : y + height, x : x + width]) ** 2).mean(1, keepdim=True)
            nearest = torch.minimum(nearest, _patch_means(squares * weights))
    return (nearest / share.clamp(min=1e-6)).sqrt()[0, 0]


def _patch_means(values: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(F.pad(values, (PATCH // 2,) * 4, mode="replicate"), PATCH, stride=1)
