"""Vectors: classical, by a backbone, by a model's own vision tower."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from adcopilot.chat_ad.fitness.embedding import (
    BackboneEmbedder,
    ClassicalEmbedder,
    TowerEmbedder,
    embed_images,
    load_embedder,
    table_to_vectors,
    vectors_to_table,
)
from adcopilot.errors import UserError
from adcopilot.sample.pairs import CATEGORIES, draw_pair, stream

from ..drawn import draw_dataset


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """(root, names of 18 images)."""
    root = tmp_path_factory.mktemp("drawn")
    return root, [one.image for one in draw_dataset(root, size=160)]


def unit(vectors):
    return np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_classical_vectors_are_of_unit_length_and_of_the_picture_alone(drawn):
    root, names = drawn
    embedder = ClassicalEmbedder()
    vectors, problems = embed_images(names, root, embedder)
    assert problems == {}
    assert vectors.shape == (18, embedder.dimension)
    assert vectors.dtype == np.float32
    assert unit(vectors)
    turned, _ = embed_images(names[::-1], root, embedder)
    assert np.array_equal(turned[::-1], vectors)


def test_a_flat_picture_has_a_vector_without_nonsense():
    vector = ClassicalEmbedder().prepare(Image.new("RGB", (40, 30), (128, 128, 128)))
    assert np.isfinite(vector).all()
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5) or not vector.any()


def test_a_query_finds_the_template_of_its_own_design():
    """Template and query differ in pose, light and noise, and half of the queries are damaged: the retrieval that
    pairing is for. 56 designs of 14 categories, all in one pool."""
    embedder = ClassicalEmbedder()
    pairs = [
        draw_pair(stream(5, index, number), category=category, size=128, anomalous=number % 2 == 1)
        for index, category in enumerate(CATEGORIES)
        for number in range(4)
    ]
    templates = np.stack([embedder.prepare(pair.template) for pair in pairs])
    queries = np.stack([embedder.prepare(pair.query) for pair in pairs])
    found = (queries @ templates.T).argmax(axis=1)
    assert (found == np.arange(len(pairs))).mean() >= 0.9


def test_light_and_size_hardly_change_a_classical_vector(drawn):
    root, names = drawn
    embedder = ClassicalEmbedder()
    images = [Image.open(root / name).convert("RGB") for name in names]
    vectors = np.stack([embedder.prepare(image) for image in images])
    changed = [ImageEnhance.Brightness(image).enhance(0.8).resize((400, 400)) for image in images]
    others = np.stack([embedder.prepare(image) for image in changed])
    assert np.array_equal((others @ vectors.T).argmax(axis=1), np.arange(len(images)))
    assert (others * vectors).sum(axis=1).min() > 0.9


def test_unreadable_images_are_named_and_the_others_embedded(drawn, tmp_path):
    root, names = drawn
    (root / "torn.png").write_bytes((root / names[0]).read_bytes()[:2000])
    mixed = [names[0], "torn.png", names[1], "absent.png"]
    vectors, problems = embed_images(mixed, root, ClassicalEmbedder())
    assert sorted(problems) == [1, 3]
    assert "truncated" in problems[1]
    assert "no such image" in problems[3]
    assert not vectors[[1, 3]].any()
    expected, _ = embed_images(names[:2], root, ClassicalEmbedder())
    assert np.array_equal(vectors[[0, 2]], expected)
    again, problems_again = table_to_vectors(vectors_to_table(vectors, problems))
    assert np.array_equal(again, vectors)
    assert problems_again == problems


def test_at_most_a_batch_is_prepared_at_once(drawn):
    root, names = drawn
    sizes = []

    class Small(ClassicalEmbedder):
        batch_size = 4

        def embed(self, prepared):
            sizes.append(len(prepared))
            return super().embed(prepared)

    vectors, _ = embed_images(names, root, Small())
    assert sizes == [4, 4, 4, 4, 2]
    assert np.array_equal(vectors, embed_images(names, root, ClassicalEmbedder())[0])


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    """Folders of three tiny backbones, each of another kind: pooled state, image features, feature map."""
    import torch
    from transformers import (
        BitImageProcessor,
        CLIPConfig,
        CLIPImageProcessor,
        CLIPModel,
        Dinov2Config,
        Dinov2Model,
        ResNetConfig,
        ResNetModel,
    )

    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("backbones")
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    models = {
        "dinov2": Dinov2Model(Dinov2Config(**small, image_size=56, patch_size=14)),
        "clip": CLIPModel(
            CLIPConfig(
                text_config={**small, "vocab_size": 50},
                vision_config={**small, "image_size": 56, "patch_size": 14},
                projection_dim=24,
            )
        ),
        "resnet": ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")),
    }
    for name, model in models.items():
        model.save_pretrained(root / name)
        side = {"size": {"height": 56, "width": 56}, "crop_size": {"height": 56, "width": 56}}
        (CLIPImageProcessor if name == "clip" else BitImageProcessor)(**side).save_pretrained(root / name)
    return root


@pytest.mark.forward
@pytest.mark.parametrize(("name", "dimension"), [("dinov2", 32), ("clip", 24), ("resnet", 16)])
def test_any_vision_backbone_embeds(backbones, drawn, name, dimension):
    root, names = drawn
    embedder = load_embedder(str(backbones / name), device="cpu", batch_size=5)
    assert isinstance(embedder, BackboneEmbedder)
    assert embedder.dimension == dimension
    assert embedder.name.startswith(name)
    vectors, problems = embed_images(names[:7], root, embedder)
    assert problems == {}
    assert vectors.shape == (7, dimension)
    assert unit(vectors)
    alone, _ = embed_images(names[6:7], root, embedder)
    np.testing.assert_allclose(alone[0], vectors[6], atol=1e-5)
    assert np.array_equal(embed_images(names[:7], root, embedder)[0], vectors)
    assert len({vector.tobytes() for vector in vectors}) == 7


@pytest.mark.forward
def test_a_tower_gives_what_the_whole_model_gives(adcopilot_dir, qwen_base_dir, drawn):
    import torch
    from transformers import Qwen2_5_VLForConditionalGeneration

    root, names = drawn
    embedder = load_embedder(str(qwen_base_dir), device="cpu", dtype="float32", batch_size=3)
    assert isinstance(embedder, TowerEmbedder)
    vectors, problems = embed_images(names[:5], root, embedder)
    assert problems == {}
    assert unit(vectors)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(qwen_base_dir, dtype=torch.float32).eval()
    for name, vector in zip(names[:5], vectors, strict=True):
        pixels, grid = embedder.prepare(Image.open(root / name).convert("RGB"))
        with torch.no_grad():
            features = model.get_image_features(pixel_values=pixels, image_grid_thw=grid)
        tokens = features.pooler_output if hasattr(features, "pooler_output") else features
        mean = (tokens[0] if isinstance(tokens, (list, tuple)) else tokens).mean(dim=0).numpy()
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)
    # AD-Copilot keeps the base's tower under another name.
    same, _ = embed_images(names[:5], root, load_embedder(str(adcopilot_dir), device="cpu", batch_size=3))
    assert np.array_equal(same, vectors)


def test_large_images_are_shrunk_for_the_tower(qwen_base_dir):
    embedder = TowerEmbedder(folder=qwen_base_dir, device="cpu", pixels=112 * 112)
    _, grid = embedder.prepare(Image.new("RGB", (3000, 1500), "grey"))
    assert int(grid.prod()) * 14 * 14 <= (112 + 28) ** 2  # sides are rounded to multiples of 28
    _, grid = embedder.prepare(Image.new("RGB", (16, 16), "grey"))
    assert int(grid.prod()) >= 16


def test_what_cannot_be_loaded_is_said_in_one_line(tmp_path, qwen_base_dir, backbones):
    def said(model):
        with pytest.raises(UserError) as error:
            load_embedder(str(model), device="cpu")
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "no config.json" in said(tmp_path)
    assert "no config.json" in said("./nowhere")
    assert "cannot be loaded as a vision model" in said("nobody/nothing-at-all")
    (tmp_path / "config.json").write_text("{")
    assert "cannot be read as JSON" in said(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    assert "cannot be loaded as a vision model" in said(tmp_path)
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in qwen_base_dir.iterdir():
        if file.is_file():
            (broken / file.name).write_bytes(file.read_bytes())
    (broken / "model.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{}")
    assert "its vision tower cannot be loaded" in said(broken)
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    for file in (backbones / "dinov2").iterdir():
        if file.suffix != ".safetensors":
            (pickled / file.name).write_bytes(file.read_bytes())
    (pickled / "pytorch_model.bin").write_bytes(b"never opened")
    assert "safetensors" in said(pickled)
