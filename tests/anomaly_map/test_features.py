"""Maps of features: a vision backbone's, and those that the model's own tower makes while it answers."""

import numpy as np
import pytest
import torch

from adcopilot.anomaly_map.comparing import Mapper, MapSettings, map_of_features
from adcopilot.anomaly_map.features import Backbone, feature_distances
from adcopilot.anomaly_map.tower import TowerFeatures
from adcopilot.errors import UserError
from adcopilot.inspect.model_inspector import ModelInspector

from ..helpers.refusals import refused
from ..inspect.conftest import part

pytestmark = pytest.mark.forward


@pytest.fixture(scope="module", params=["dinov2", "vit", "resnet"])
def backbone_dir(request, tmp_path_factory):
    """Small vision models with random weights: patches behind a class token, and a grid of channels."""
    from transformers import AutoModel, Dinov2Config, ResNetConfig, ViTConfig, ViTImageProcessor

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = {
        "dinov2": lambda: Dinov2Config(**sizes, image_size=56, patch_size=14),
        "vit": lambda: ViTConfig(**sizes, intermediate_size=64, image_size=32, patch_size=16),
        "resnet": lambda: ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1]),
    }[request.param]()
    folder = tmp_path_factory.mktemp("backbone") / request.param
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(folder)
    ViTImageProcessor().save_pretrained(folder)
    return folder


def test_a_backbone_finds_what_differs(backbone_dir):
    mapper = Mapper(MapSettings(kind="features", backbone=str(backbone_dir)))
    good, query = part(1, size=(112, 96)), part(1, size=(112, 96), defect=True)
    same = mapper.compare(good, [good])
    assert same.pred_score == pytest.approx(0, abs=1e-5)
    assert mapper.compare(query, [good]).pred_score > 1e-4
    assert same.anomaly_map.shape == (96, 112)


def test_no_backbone_is_one_line(tmp_path):
    with refused("no vision model that transformers can load"):
        Backbone(tmp_path / "nothing")
    with pytest.raises(UserError, match="give --map-backbone FOLDER_OR_ID"):
        Mapper(MapSettings(kind="features"))


def test_distances_are_those_of_the_nearest_place():
    grid = torch.randn(5, 6, 8, generator=torch.Generator().manual_seed(0))
    assert feature_distances(grid, [grid], search=0).abs().max() < 1e-6
    rolled = torch.roll(grid, 1, dims=1)
    assert feature_distances(grid, [rolled], search=0)[:, 1:].mean() > 0.3
    assert feature_distances(grid, [rolled], search=1)[:, :-1].abs().max() < 1e-6
    by_hand = 1 - torch.nn.functional.cosine_similarity(grid, rolled, dim=-1)
    assert torch.allclose(feature_distances(grid, [rolled], search=0), by_hand.clamp(min=0), atol=1e-6)
    # templates of another grid are resized, and the nearest of several counts
    small = torch.nn.functional.interpolate(grid.permute(2, 0, 1)[None], size=(3, 3)).squeeze(0).permute(1, 2, 0)
    assert feature_distances(grid, [small, grid], search=0).abs().max() < 1e-6


def test_tower_features_are_what_the_encoder_gets(inspector):
    """In the place of each patch: the same that the Comparison Encoder compares."""
    model, batch = inspector.model, [inspector._prepare(inspector.pair_question(part(), part(2, size=(120, 90))))]
    inputs = inspector.encode(batch)
    with TowerFeatures(model) as tower, torch.inference_mode():
        model(**inputs)
    with torch.inference_mode():
        _, wanted = model.model.encode_images(inputs["pixel_values"], inputs["image_grid_thw"])
    merge = model.model.visual.spatial_merge_size
    begin = 0
    for grid, found in zip(inputs["image_grid_thw"].tolist(), tower.of_images(inputs["image_grid_thw"]), strict=True):
        _, rows, columns = grid
        assert found.shape[:2] == (rows, columns)
        features = wanted[begin : begin + rows * columns]
        begin += rows * columns
        for row, column in ((0, 0), (1, 0), (rows - 1, columns - 1), (2, 3)):
            square = (row // merge * (columns // merge) + column // merge) * merge**2
            place = square + row % merge * merge + column % merge
            assert torch.allclose(found[row, column], features[place], atol=1e-5)


def test_a_model_with_the_map_of_its_own_tower(speaking_dir, inspector):
    with_map = ModelInspector(model=speaking_dir, device="cpu", max_new_tokens=4, map=MapSettings(kind="features"))
    good, bad = with_map.inspect_many([(part(1), part(1).rotate(180).rotate(180)), (part(1), part(1, defect=True))])
    assert good.map is None  # the template itself
    assert bad.map_score > 0
    assert bad.map_boxes[0]["label"] == "difference"
    inspector.max_new_tokens, kept = 4, inspector.max_new_tokens
    [plain] = inspector.inspect_many([(part(1), part(1, defect=True))])
    inspector.max_new_tokens = kept
    assert (plain.text, plain.map_score) == (bad.text, None)
    assert bad.score == pytest.approx(plain.score, abs=1e-5)


def test_maps_of_features_have_the_size_of_the_query():
    grid = torch.randn(4, 5, 8)
    found = map_of_features(grid, [torch.roll(grid, 2, 0)], size=(70, 56), settings=MapSettings(kind="features"))
    assert found.anomaly_map.shape == (56, 70)
    assert np.isfinite(found.anomaly_map).all()
