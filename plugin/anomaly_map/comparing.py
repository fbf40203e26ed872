"""Pictures in, an anomaly map out."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..errors import UserError
from ..images import is_like_shape
from ..threads import keep_to_one_core, workers
from . import MAP_KINDS, MOST_TEMPLATES
from .features import FEATURES_TOP, Backbone, feature_distances
from .marking import PIXELS_TOP, map_boxes, pred_mask, pred_score
from .pixels import pixel_distances
from .registration import place, register
from .texture import TEXTURE_TOP, Texture

__all__ = ["LEAST_COVERAGE", "AnomalyMap", "MapSettings", "Mapper", "map_of_features"]

#: A template that shows less of the query's view than this share says nothing of the rest.
LEAST_COVERAGE = 0.9
#: A query of fewer pixels than this share of its templates' shows no more what a threshold was found on.
LEAST_DETAIL = 1 / 4


@dataclass(frozen=True, kw_only=True)
class MapSettings:
    """How pictures are compared.

    Attributes:
        kind: `pixels`, `features` or `texture`.
        search: how far a place of the query may lie from the template's, each way: in pixels of the compared picture,
            or in patches for `features`. None for 2 pixels, 1 patch; a texture is looked for everywhere.
        max_pixels: pictures of more pixels are shrunk to so many before they are compared.
        growth: pixels of the query by which boxes are larger than what is marked.
        backbone: a folder or hub id of a vision model whose features are compared; None for the model's own tower.

    Raises:
        UserError: a value is out of its range.
    """

    kind: str = "pixels"
    search: int | None = None
    max_pixels: int = 768 * 768
    growth: int = 0
    backbone: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in MAP_KINDS:
            raise UserError(f"--map is {self.kind!r}, expected {', '.join(MAP_KINDS)} or off")
        for name in ("search", "max_pixels", "growth"):
            value = getattr(self, name)
            if type(value) is not int and not (name == "search" and value is None):
                raise UserError(f"{name} of the map is {value!r}, expected a whole number")
        if self.backbone is not None and not isinstance(self.backbone, str):
            raise UserError(f"backbone of the map is {self.backbone!r}, expected a folder or a hub id")
        if self.search is not None and self.kind == "texture":
            raise UserError(f"--map-search {self.search}: --map texture looks everywhere; leave it out")
        if self.search is not None and not 0 <= self.search <= 64:
            raise UserError(f"--map-search is {self.search}, expected 0 to 64")
        if self.max_pixels < 32 * 32:
            raise UserError(f"--image-max-pixels is {self.max_pixels}, expected 1024 or more for a map")
        if not 0 <= self.growth <= 1000:
            raise UserError(f"--box-growth is {self.growth}, expected 0 to 1000 pixels")
        if self.backbone and self.kind != "features":
            raise UserError(f"--map-backbone {self.backbone}: goes with --map features, not with --map {self.kind}")

    @property
    def reach(self) -> int:
        """`search` with its default."""
        return {"pixels": 2, "features": 1}[self.kind] if self.search is None else self.search

    @property
    def top(self) -> float:
        """Share of a map's values whose mean is its score."""
        return {"pixels": PIXELS_TOP, "features": FEATURES_TOP, "texture": TEXTURE_TOP}[self.kind]

    @property
    def templates(self) -> int:
        """Templates that a map is made with, if nobody says how many: one that shows the same places, or as many
        pictures of a texture as a line keeps."""
        return MOST_TEMPLATES if self.kind == "texture" else 1

    def to_dict(self) -> dict[str, Any]:
        """For a file: what differs from a default, and the kind."""
        plain = MapSettings()
        return {"kind": self.kind} | {
            name: value for name, value in asdict(self).items() if value != getattr(plain, name)
        }


@dataclass(frozen=True, kw_only=True)
class AnomalyMap:
    """Where a query differs from its templates.

    Attributes:
        values: (rows, columns) float32 of the compared picture, or of its patches; 0 is no difference.
        size: (width, height) of the query in pixels.
        pred_score: the mean of the highest values.
        coverage: the share of the query under which some template has something.
        detail: the query's number of pixels as a share of the largest template's.
        settings: how it was made.
    """

    values: np.ndarray
    size: tuple[int, int]
    pred_score: float
    coverage: float = 1.0
    detail: float = 1.0
    settings: MapSettings = field(default_factory=MapSettings)

    @property
    def doubt(self) -> str | None:
        """Why finding nothing means nothing; None where it does mean something."""
        if self.coverage < LEAST_COVERAGE:
            return (
                f"the templates show only {self.coverage:.0%} of the query's view, {LEAST_COVERAGE:.0%} are needed; "
                "give templates of the same view"
            )
        if self.detail < LEAST_DETAIL:
            return (
                f"the query has {self.size[0]}×{self.size[1]} pixels, {self.detail:.0%} of its template's, "
                f"{LEAST_DETAIL:.0%} are needed: what is small cannot be seen; give a larger picture"
            )
        return None

    @property
    def anomaly_map(self) -> np.ndarray:
        """(height, width) of the query, float32."""
        image = Image.fromarray(self.values)
        return np.asarray(image.resize(self.size, Image.Resampling.BILINEAR), dtype=np.float32)

    def boxes(self, threshold: float | None = None) -> list[list[int]]:
        """Where it differs, in pixels of the query: `marking.map_boxes` of `marking.pred_mask`.

        Args:
            threshold: of scores; None where none is known, for what differs most in this picture.
        """
        mask = pred_mask(self.values, self.pred_score / 2 if threshold is None else threshold)
        return map_boxes(mask, size=self.size, growth=self.settings.growth)

    def places(self, threshold: float | None) -> list[list[int]]:
        """`boxes`, but none where the score is below the threshold: single pixels above it are no finding."""
        return [] if threshold is not None and self.pred_score < threshold else self.boxes(threshold)


class Mapper:
    """Compares pictures.

    Args:
        settings: how.
        device: that a backbone runs on.

    Raises:
        UserError: the backbone cannot be loaded, or `features` are asked for without one.
    """

    def __init__(self, settings: MapSettings, *, device: str = "cpu") -> None:
        self.settings = settings
        self._backbone = None
        self._texture = Texture(max_pixels=settings.max_pixels)
        if settings.kind == "features":
            if settings.backbone is None:
                raise UserError(
                    "--map features: there is no model whose features to compare; give --map-backbone FOLDER_OR_ID "
                    "(such as facebook/dinov2-small), a model's folder as --model, or --map pixels"
                )
            self._backbone = Backbone(settings.backbone, device=device)

    @property
    def workers(self) -> int:
        """Threads that may compare at the same time. A backbone keeps all cores busy with one pair."""
        return 1 if self._backbone else workers()

    @torch.inference_mode()
    def compare(self, query: Image.Image, templates: Sequence[Image.Image]) -> AnomalyMap:
        """The map of a query; without a backbone on one core.

        Args:
            query: upright, RGB.
            templates: the same, at least one; others sizes are resized to the query's, and those of another shape than
                the query's are left out, but for a texture.

        Raises:
            UserError: no template is of the query's shape; or a picture is too small for a texture.
        """
        with nullcontext() if self._backbone else keep_to_one_core():
            return self._compare(query, templates)

    def _compare(self, query: Image.Image, templates: Sequence[Image.Image]) -> AnomalyMap:
        if self.settings.kind == "texture":
            found = _as_map(
                self._texture.distances(query, templates), size=query.size, coverage=1.0, settings=self.settings
            )
            return replace(found, detail=_detail(query, templates))
        like = [one for one in templates if is_like_shape(one.size, query.size)]
        if not like:
            template = templates[0]
            raise UserError(
                f"a template of {template.width}×{template.height} pixels has another shape than the query's "
                f"{query.width}×{query.height}, so places cannot be compared; give templates of the same view, or "
                "--map texture for what has no places"
            )
        templates = like
        size = self._compared_size(query.size)
        pictures = [_pixels(image, size) for image in (query, *templates)]
        if self.settings.kind == "pixels":
            distances, coverage = pixel_distances(pictures[0], pictures[1:], search=self.settings.reach)
        else:
            placed = [place(one, register(pictures[0], one)) for one in pictures[1:]]
            features = [self._backbone.features(one) for one in (pictures[0], *(moved for moved, _ in placed))]
            distances = feature_distances(features[0], features[1:], search=self.settings.reach)
            coverage = float(torch.stack([seen for _, seen in placed]).any(0).float().mean())
        found = _as_map(distances, size=query.size, coverage=coverage, settings=self.settings)
        return replace(found, detail=_detail(query, templates))

    def _compared_size(self, size: tuple[int, int]) -> tuple[int, int]:
        scale = min(1.0, (self.settings.max_pixels / (size[0] * size[1])) ** 0.5)
        unit = self._backbone.unit if self._backbone else 1
        return tuple(max(unit, round(side * scale / unit) * unit) for side in size)


def _detail(query: Image.Image, templates: Sequence[Image.Image]) -> float:
    return query.width * query.height / max(template.width * template.height for template in templates)


def map_of_features(
    query: torch.Tensor, templates: Sequence[torch.Tensor], *, size: tuple[int, int], settings: MapSettings
) -> AnomalyMap:
    """The map of patch features that a model's tower made anyway.

    Args:
        query, templates: (rows, columns, D); templates of another grid are resized to the query's.
        size: (width, height) of the query in pixels.
    """
    distances = feature_distances(query, templates, search=settings.reach)
    return _as_map(distances, size=size, coverage=1.0, settings=settings)


def _as_map(distances: torch.Tensor, *, size, coverage: float, settings: MapSettings) -> AnomalyMap:
    values = distances.float().cpu().numpy()
    if not np.isfinite(values).all():
        raise UserError("the anomaly map is not finite; try --map pixels, and check the backbone's weights")
    score = pred_score(values, top=settings.top)
    return AnomalyMap(values=values, size=size, pred_score=score, coverage=coverage, settings=settings)


def _pixels(image: Image.Image, size: tuple[int, int]) -> torch.Tensor:
    """(1, 3, H, W), 0 to 1, of an image at (width, height)."""
    if image.size != size:
        image = image.resize(size, Image.Resampling.BOX if image.width > size[0] else Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
