"""Whether good parts can be laid over each other, and so which map a line's pictures support.

Registered pixels say most where each place of a part is in every picture. Tiles, leather and castings have no such
places: there a map of textures is what is left. The pictures themselves tell: how alike the structure of two good ones
is once one is laid over the other, and, where there are enough defective ones, which of the two maps ranks better.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..cli.saying import progress
from ..images import open_image, used_bits
from ..inspect.judging import Judge
from ..inspect.lines import results_of
from ..inspect.pairs import TemplatePool, find_pairs, spread
from .measures import LEAST_BAD, choose_source

if TYPE_CHECKING:
    import torch

    from ..anomaly_map.comparing import MapSettings
    from .pictures import LabelledPicture

__all__ = ["ALIGNED", "likeness", "suited_map"]

#: Correlation of local contrast from which on good parts are aligned. Found: 0.95 to 0.98 between circuit boards of
#: one design, 0.9 (the median) between drawn parts, 0.1 to 0.4 between pictures of stripes, grass and gravel, and
#: between boards of different designs.
ALIGNED = 0.5
#: Good pictures that are looked at for it, and others that each is laid over.
LOOKED_AT, OTHERS = 12, 4
#: Good and defective pictures, at most of each, that both maps rank.
RANKED = 30
#: Side in pixels that pictures are looked at with at most.
SIDE = 384


def suited_map(
    pictures: Sequence[LabelledPicture], settings: MapSettings, *, templates: Sequence[Path], each: int
) -> tuple[MapSettings, str]:
    """`pixels`, or `texture` where the pictures support that, and why, in words.

    Args:
        pictures: labelled.
        settings: of the map of pixels.
        templates: good pictures, with which others are compared.
        each: how many of them a map of pixels is made with.

    Raises:
        UserError: a picture cannot be opened.
    """
    from ..inspect.map_inspector import MapInspector

    alike = likeness(templates)
    default = "pixels" if alike is None or alike >= ALIGNED else "texture"
    told = ""
    if alike is not None:
        told = f"good pictures laid over each other are {alike:.2f} alike, aligned parts {ALIGNED} or more"
    bad = [one for one in pictures if one.bad and not one.marked]
    good = [one for one in pictures if not one.bad and not one.marked]
    if len(bad) < LEAST_BAD or len(good) < LEAST_BAD:
        return replace(settings, kind=default), told or "the default"
    ranked = [*spread(good, RANKED), *spread(bad, RANKED)]
    scores, bits = {}, used_bits(one.file for one in pictures)
    with progress(total=2 * len(ranked), desc="which map", unit="picture", hidden=None) as bar:
        for kind in ("pixels", "texture"):
            tried = replace(settings, kind=kind)
            pool = TemplatePool(folder=Path(), by_name=False, files=templates, bits=bits)
            pairs = find_pairs(
                [(one.file, one.file.name) for one in ranked], pool, templates=max(each, tried.templates)
            )
            scores[kind] = []
            # what cannot be compared has no score here; calibration says what is wrong with it
            inspector = MapInspector(map=tried, judge=Judge(source="map"), device="cpu")
            inspector.bits = bits
            for _, result in results_of(inspector, pairs):
                scores[kind].append(result.score)
                bar.update()
    kind, why = choose_source(scores, [one.bad for one in ranked], default=default)
    return replace(settings, kind=kind), f"{told}; {why}" if told else why


def likeness(files: Sequence[Path]) -> float | None:
    """How alike good pictures are once laid over each other: -1 to 1, the median of the best of a few; None of one
    picture.

    Raises:
        UserError: a picture cannot be opened.
    """
    import torch

    from ..anomaly_map.registration import place, register
    from ..threads import keep_to_one_core, workers

    some = spread(files, LOOKED_AT)
    if len(some) < 2:
        return None
    bits = used_bits(some)
    pictures = [open_image(file, bits=bits) for file in some]

    def nearest(index: int) -> float:
        query = pictures[index]
        scale = min(1.0, SIDE / max(query.size))
        size = tuple(max(1, round(side * scale)) for side in query.size)
        values = [
            torch.from_numpy(np.array(one.resize(size))).permute(2, 0, 1)[None].float() / 255
            for one in [query, *(pictures[(index + step) % len(pictures)] for step in range(1, OTHERS + 1))]
        ]
        placed = (place(other, register(values[0], other)) for other in values[1 : len(pictures)])
        return max(_correlation(values[0], one, seen.numpy()) for one, seen in placed)

    with ThreadPoolExecutor(workers(), initializer=keep_to_one_core) as pool:
        return float(np.median(list(pool.map(nearest, range(len(pictures))))))


def _correlation(query: torch.Tensor, template: torch.Tensor, seen: np.ndarray) -> float:
    from ..anomaly_map.texture import local_contrast

    first, second = (local_contrast(one[0].mean(0)[..., None].numpy())[seen] for one in (query, template))
    first, second = first - first.mean(), second - second.mean()
    power = float((first**2).mean() * (second**2).mean()) ** 0.5
    return float((first * second).mean()) / power if power > 1e-9 else 1.0  # two plain pictures are alike
