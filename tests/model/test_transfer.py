"""`adcopilot transfer`: exact where one embedding is a linear image of the other, honest where it is not."""

import json
import shutil

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from adcopilot.errors import UserError
from adcopilot.model import AdCopilotForConditionalGeneration, AdCopilotProcessor
from adcopilot.model.conversion import ENCODER_PREFIX
from adcopilot.model.transfer import REPORT_FILE, fit_alignment, shared_tokens, transfer

from ..helpers.model_folders import change_json, change_weights, weights_of
from .conftest import TRANSFORMERS_5, chat, encode, random_image

pytestmark = pytest.mark.forward

WIDTH = 96


@pytest.fixture(scope="module")
def matrix():
    return torch.randn(128, WIDTH, generator=torch.Generator().manual_seed(5)) / 8


@pytest.fixture(scope="module")
def other_base(adcopilot_dir, qwen_base_dir, matrix, tmp_path_factory):
    """A narrower Qwen2.5-VL with another vocabulary, the same vision tower, and for each token that both know an
    embedding that is a linear image of the first model's."""
    from adcopilot.sample.tiny_base import sentences, train_tokenizer

    folder = tmp_path_factory.mktemp("transfer") / "narrow"
    processor = Qwen2_5_VLProcessor.from_pretrained(qwen_base_dir)
    tokenizer = train_tokenizer(sentences(3, 2))
    config = Qwen2_5_VLConfig.from_pretrained(qwen_base_dir)
    config.text_config.hidden_size, config.text_config.vocab_size = WIDTH, len(tokenizer) + 8
    rope = config.text_config.rope_parameters if TRANSFORMERS_5 else config.text_config.rope_scaling
    rope["mrope_section"] = [2, 5, 5]  # heads are 24 wide
    config.vision_config.out_hidden_size = WIDTH
    names = {"image_token_id": "image_pad", "video_token_id": "video_pad", "vision_start_token_id": "vision_start"}
    for field, name in {**names, "vision_end_token_id": "vision_end"}.items():
        setattr(config, field, tokenizer.convert_tokens_to_ids(f"<|{name}|>"))
    torch.manual_seed(9)
    model = Qwen2_5_VLForConditionalGeneration(config)
    source = weights_of(adcopilot_dir)
    state = model.state_dict()
    for name, weight in source.items():
        if name.startswith("model.visual.") and state[name].shape == weight.shape:
            state[name].copy_(weight)
    ours = AutoTokenizer.from_pretrained(adcopilot_dir).get_vocab()
    rows = state["model.language_model.embed_tokens.weight"]
    for token, row in tokenizer.get_vocab().items():
        if token in ours:
            rows[row] = source["model.language_model.embed_tokens.weight"][ours[token]] @ matrix
    model.save_pretrained(folder)
    Qwen2_5_VLProcessor(
        image_processor=processor.image_processor,
        tokenizer=tokenizer,
        video_processor=processor.video_processor,
        chat_template=tokenizer.chat_template,
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def moved(adcopilot_dir, other_base, tmp_path_factory):
    output = tmp_path_factory.mktemp("moved") / "model"
    return output, transfer(source=adcopilot_dir, base=other_base, output=output)


def test_vocabularies_differ(adcopilot_dir, other_base):
    ids = shared_tokens(adcopilot_dir, other_base)
    assert (ids[:, 0] != ids[:, 1]).any()
    sizes = [len(AdCopilotProcessor.from_pretrained(adcopilot_dir).tokenizer), 0]
    assert 256 < len(ids) < sizes[0]
    names = AdCopilotProcessor.from_pretrained(adcopilot_dir).tokenizer.convert_ids_to_tokens(ids[:, 0].tolist())
    assert "<|im_end|>" in names
    assert not {"<|image_pad|>", "<|compare_pad|>"} & set(names)


def test_exact_where_one_embedding_is_a_linear_image_of_the_other(adcopilot_dir, moved, matrix):
    output, report = moved
    before, after = weights_of(adcopilot_dir), weights_of(output)
    for name in (name for name in before if name.startswith(ENCODER_PREFIX)):
        if "projector" not in name:
            assert torch.equal(after[name], before[name]), name
    expected = matrix.T @ before[f"{ENCODER_PREFIX}projector.weight"]
    assert after[f"{ENCODER_PREFIX}projector.weight"].shape == (WIDTH, 96)
    torch.testing.assert_close(after[f"{ENCODER_PREFIX}projector.weight"], expected, atol=1e-6, rtol=1e-5)
    held_out = report["alignment"]["held_out"]
    assert held_out["explained"] == pytest.approx(1, abs=1e-9)
    assert held_out["cosine"] == pytest.approx(1, abs=1e-9)
    assert held_out["nearest"] == 1
    assert report["alignment"]["all"]["explained"] == pytest.approx(1, abs=1e-9)
    assert report["vision_towers_apart"] == 0
    assert report == json.loads((output / REPORT_FILE).read_text())


def test_the_new_model_compares_as_the_old_one(adcopilot_dir, moved, matrix):
    """Its comparison tokens of two images are the old model's, times the matrix; and it generates."""
    tokens = []
    for folder in (adcopilot_dir, moved[0]):
        model, info = AdCopilotForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
        assert not info["missing_keys"]
        processor = AdCopilotProcessor.from_pretrained(folder)
        # Gaussian weights this small would make comparison tokens that are nearly equal.
        with torch.no_grad():
            model.comparison_encoder.query_block.feed_forward.down_proj.weight.mul_(10)
        inputs = encode(processor, [(chat(processor, (2, "Compare.")), [random_image(0), random_image(1, 56, 84)])])
        with torch.no_grad():
            _, features = model.model.encode_images(inputs["pixel_values"], inputs["image_grid_thw"])
            tokens.append(model.comparison_encoder(features, inputs["image_grid_thw"], [0, 0]))
        new = model.generate(**inputs, max_new_tokens=4, do_sample=False)
        assert new.shape[1] > inputs["input_ids"].shape[1]
    assert tokens[0].std() > 0.01
    torch.testing.assert_close(tokens[1], tokens[0] @ matrix, atol=1e-4, rtol=1e-4)


def test_where_the_embeddings_have_nothing_in_common_the_report_says_so():
    generator = torch.Generator().manual_seed(0)
    source, target = torch.randn(3000, 16, generator=generator), torch.randn(3000, 12, generator=generator)
    ids = torch.arange(3000)[:, None].expand(-1, 2)
    found = fit_alignment(source, target, ids, seed=1)
    assert abs(found.report["held_out"]["explained"]) < 0.05
    assert abs(found.report["held_out"]["cosine"]) < 0.1
    assert found.report["held_out"]["nearest"] < 0.02
    # Least squares as numpy has it, over all tokens.
    expected = np.linalg.lstsq(source.double().numpy(), target.double().numpy(), rcond=None)[0]
    np.testing.assert_allclose(found.matrix.numpy(), expected, atol=1e-10)
    assert fit_alignment(source, target, ids, seed=2).matrix.allclose(found.matrix, atol=1e-12)


def test_embeddings_without_full_rank_have_the_shortest_map():
    generator = torch.Generator().manual_seed(0)
    source = torch.randn(500, 4, generator=generator) @ torch.randn(4, 10, generator=generator)
    target = torch.randn(500, 6, generator=generator)
    found = fit_alignment(source, target, torch.arange(500)[:, None].expand(-1, 2), seed=0)
    expected = torch.linalg.lstsq(source.double(), target.double(), driver="gelsd", rcond=1e-6).solution
    torch.testing.assert_close(found.matrix, expected, atol=1e-8, rtol=1e-6)


def test_the_command_keeps_the_image_budget_of_training(adcopilot_dir, qwen_base_dir, tmp_path, run):
    """Into the base it was made from: the map is the identity and nothing changes."""
    source = shutil.copytree(adcopilot_dir, tmp_path / "source")
    processor = AdCopilotProcessor.from_pretrained(source)
    processor.image_max_pixels = 12_544
    processor.save_pretrained(source)
    code, out, _ = run("transfer", "--model", source, "--base", qwen_base_dir, "--output", tmp_path / "new")
    assert code == 0
    assert "100.0 % of the squared length is explained, cosine 1.000, 100.0 % land nearest to themselves" in out
    assert "vision towers are 0.0 % apart" in out
    assert AdCopilotProcessor.from_pretrained(tmp_path / "new").image_max_pixels == 12_544
    before, after = weights_of(adcopilot_dir), weights_of(tmp_path / "new")
    assert before.keys() == after.keys()
    for name, weight in before.items():
        torch.testing.assert_close(after[name], weight, atol=1e-6, rtol=1e-5)


def test_mistakes_are_said_before_anything_is_written(adcopilot_dir, qwen_base_dir, tmp_path, refusal):
    def refused(model, base, output="new"):
        err = refusal("transfer", "--model", model, "--base", base, "--output", tmp_path / output)
        assert err.startswith("error: ")
        assert not (tmp_path / "new").exists()
        assert not (tmp_path / "new.partial").exists()
        return err

    assert "has no comparison encoder to transfer" in refused(qwen_base_dir, qwen_base_dir)
    assert "no such model folder" in refused(tmp_path / "none", qwen_base_dir)
    assert "is an AD-Copilot model already" in refused(adcopilot_dir, adcopilot_dir)
    assert "is not a folder" in refused(adcopilot_dir, "./nowhere")
    other = shutil.copytree(qwen_base_dir, tmp_path / "edited")
    change_json(other / "config.json", **{"vision_config.depth": 2})
    assert "vision_config.depth is 2, but" in refused(adcopilot_dir, other)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("")
    assert "exists and is not empty" in refused(adcopilot_dir, qwen_base_dir, "full")
    damaged = shutil.copytree(adcopilot_dir, tmp_path / "damaged")
    change_weights(damaged, f"{ENCODER_PREFIX}projector.bias", lambda _: None)
    assert "projector.bias has shape missing, config.json wants (128,)" in refused(damaged, qwen_base_dir)


def test_vocabularies_with_too_little_in_common(adcopilot_dir, other_base, tmp_path, monkeypatch):
    few = shared_tokens(adcopilot_dir, other_base)[:200]
    monkeypatch.setattr("adcopilot.model.transfer.shared_tokens", lambda source, base: few)
    with pytest.raises(UserError, match="share 200 tokens, expected at least 256"):
        transfer(source=adcopilot_dir, base=other_base, output=tmp_path / "new")
    assert not (tmp_path / "new.partial").exists()
