"""`adcopilot init`: the base's weights unchanged, a Gaussian encoder added, one-line errors, resumable.

That what it writes loads elsewhere without this package: `test_versions.py`.
"""

import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from adcopilot.errors import UserError
from adcopilot.model import AdCopilotConfig, AdCopilotForConditionalGeneration, AdCopilotProcessor, conversion

from ..helpers.model_folders import change_json, change_weights, weights_of, with_a_nan
from ..helpers.refusals import refused

pytestmark = pytest.mark.forward


@pytest.fixture
def base(qwen_base_dir, tmp_path):
    """A copy of the base that a test may spoil."""
    return shutil.copytree(qwen_base_dir, tmp_path / "base")


def test_weights_of_the_base_are_unchanged(qwen_base_dir, adcopilot_dir):
    before = {conversion.current_name(key): value for key, value in weights_of(qwen_base_dir).items()}
    after = weights_of(adcopilot_dir)
    assert {key for key in after if not key.startswith(conversion.ENCODER_PREFIX)} == before.keys()
    for key, value in before.items():
        assert torch.equal(after[key], value), key


def test_loads_without_missing_or_unexpected_weights(adcopilot_dir):
    model, info = AdCopilotForConditionalGeneration.from_pretrained(adcopilot_dir, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    stored = weights_of(adcopilot_dir)
    for name, weight in model.named_parameters():
        assert torch.equal(weight, stored[name]), name


def test_encoder_is_gaussian_and_seeded(qwen_base_dir):
    config = AdCopilotConfig.from_dict(json.loads((qwen_base_dir / "config.json").read_text()) | {"model_type": "x"})
    std = config.text_config.initializer_range
    first = conversion.gaussian_encoder(config, seed=0, dtype=torch.float32)
    again = conversion.gaussian_encoder(config, seed=0, dtype=torch.float32)
    other = conversion.gaussian_encoder(config, seed=1, dtype=torch.float32)
    for name, weight in first.items():
        assert torch.equal(weight, again[name])
        if name.endswith("bias"):
            assert not weight.any()
        elif "norm" in name:
            assert torch.equal(weight, torch.ones_like(weight))
        else:
            assert not torch.equal(weight, other[name])
            assert weight.mean().abs() < 0.15 * std
            assert abs(weight.std() - std) < 0.1 * std
    matrices = torch.cat([weight.flatten() for weight in first.values() if weight.dim() > 1]) / std
    assert abs(matrices.pow(4).mean() - 3) < 0.1, "a Gaussian's fourth moment is 3"


def test_names_of_older_files_are_understood(base, tmp_path):
    """The hub's Qwen2.5-VL files say `visual.` and `model.layers.`; newer transformers say `model.language_model.`."""
    weights = weights_of(base)
    old_names = {
        key.replace("model.visual.", "visual.").replace("model.language_model.", "model."): value
        for key, value in weights.items()
    }
    new_names = {conversion.current_name(key): value for key, value in old_names.items()}
    for index, names in enumerate((old_names, new_names)):
        save_file(names, base / "model.safetensors", metadata={"format": "pt"})
        conversion.convert_base(base=base, output=tmp_path / f"out{index}")
    first, second = weights_of(tmp_path / "out0"), weights_of(tmp_path / "out1")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def shard(base) -> None:
    """Split the base's file in three."""
    weights = load_file(base / "model.safetensors")
    keys, weight_map = sorted(weights), {}
    for number in range(3):
        name = f"model-{number + 1:05d}-of-00003.safetensors"
        save_file({key: weights[key] for key in keys[number::3]}, base / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(keys[number::3], name)
    (base / "model.safetensors").unlink()
    (base / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def interrupted(monkeypatch, base, output, *, after: int) -> list:
    """Convert, and stop after so many shards; their temporary paths."""
    saved, save = [], conversion.save_file

    def dying(tensors, path, **kwargs):
        if len(saved) == after:
            raise KeyboardInterrupt
        saved.append(path)
        save(tensors, path, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(conversion, "save_file", dying)
        with pytest.raises(KeyboardInterrupt):
            conversion.convert_base(base=base, output=output)
    return saved


def test_sharded_base_and_interruption(base, tmp_path, monkeypatch):
    conversion.convert_base(base=base, output=tmp_path / "whole")
    shard(base)
    save = conversion.save_file
    saved = interrupted(monkeypatch, base, tmp_path / "out", after=2)
    assert not (tmp_path / "out").exists(), "half a model must not look like one"
    written = [path.name.removesuffix(".tmp") for path in saved]

    monkeypatch.setattr(
        conversion, "save_file", lambda tensors, path, **kw: (saved.append(path), save(tensors, path, **kw))
    )
    saved.clear()
    conversion.convert_base(base=base, output=tmp_path / "out")
    assert not {path.name.removesuffix(".tmp") for path in saved} & set(written), "finished shards were written again"
    whole, resumed = weights_of(tmp_path / "whole"), weights_of(tmp_path / "out")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    AdCopilotForConditionalGeneration.from_pretrained(tmp_path / "out")


def test_save_and_load_again(adcopilot_dir, tmp_path):
    """In shards, with tied embeddings (as 3B's), under the names and with the code that it was loaded with."""
    model = AdCopilotForConditionalGeneration.from_pretrained(adcopilot_dir)
    assert model.config.tie_word_embeddings
    assert model.lm_head.weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()
    model.save_pretrained(tmp_path, max_shard_size="1MB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    assert (tmp_path / "comparison_encoder.py").is_file()
    again = AdCopilotForConditionalGeneration.from_pretrained(tmp_path)
    for name, weight in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight), name
    assert again.config.to_dict() == model.config.to_dict() | {"_name_or_path": again.config._name_or_path}


def test_config_survives_a_round_trip(adcopilot_dir):
    config = AdCopilotConfig.from_pretrained(adcopilot_dir)
    assert config.architectures == ["AdCopilotForConditionalGeneration"]
    assert (config.num_comparison_tokens, config.comparison_position_encoding) == (5, "rope2d")
    assert json.loads((adcopilot_dir / "config.json").read_text())["architectures"] == config.architectures


def test_token_has_the_first_free_id_of_qwen(qwen_tokenizer_dir):
    tokenizer = AutoTokenizer.from_pretrained(qwen_tokenizer_dir)
    for rows, model in ((152_064, "7B"), (151_936, "3B")):
        assert (
            conversion.add_comparison_token(tokenizer, model, rows=rows)
            == 151_665
            == AdCopilotConfig().comparison_token_id
        )
    assert tokenizer("a<|compare_pad|>b").input_ids[1] == 151_665
    assert tokenizer.decode([151_665], skip_special_tokens=True) == ""


def test_no_free_row(base, tmp_path):
    rows = len(AutoTokenizer.from_pretrained(base))
    change_json(base / "config.json", vocab_size=rows, **{"text_config.vocab_size": rows})
    [name] = [name for name in weights_of(base) if "embed_tokens" in name]
    change_weights(base, name, lambda weight: weight[:rows].clone())
    with pytest.raises(UserError, match=rf"would be token {rows} but the vocabulary has {rows} rows"):
        conversion.convert_base(base=base, output=tmp_path / "out")


def cut_short(base):
    file = base / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])


def without_a_norm(base):
    change_weights(base, next(name for name in weights_of(base) if name.endswith("norm.weight")), lambda _: None)


def not_finite(base):
    change_weights(base, max(weights_of(base)), with_a_nan)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (cut_short, "not a readable safetensors file"),
        (without_a_norm, "has shape missing"),
        (not_finite, r"^{base}/model\.safetensors: .*{last} has 1 NaN that are not finite"),
    ],
)
def test_weights_that_are_not_the_bases(base, tmp_path, spoil, says):
    last = max(weights_of(base))
    spoil(base)
    with refused(says.format(base=base, last=last)) as error:
        conversion.convert_base(base=base, output=tmp_path / "out")
    assert str(base) in str(error.value)
    assert not (tmp_path / "out").exists()


def test_existing_output_is_left_alone(qwen_base_dir, tmp_path):
    (tmp_path / "keep.txt").write_text("mine")
    with pytest.raises(UserError, match="exists and is not empty"):
        conversion.convert_base(base=qwen_base_dir, output=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["keep.txt"]


def test_command(qwen_base_dir, tmp_path):
    from adcopilot.cli import main

    output = tmp_path / "out"
    assert main(["init", "--base", str(qwen_base_dir), "--output", str(output), "--num-comparison-tokens", "7"]) == 0
    assert AdCopilotConfig.from_pretrained(output).num_comparison_tokens == 7
    assert AdCopilotProcessor.from_pretrained(output).num_comparison_tokens == 7


def test_base_that_is_neither_folder_nor_hub_id(tmp_path, capsys):
    from adcopilot.cli import main

    assert main(["init", "--base", str(tmp_path / "nowhere"), "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "nowhere is not a folder" in error
    assert error.count("\n") == 1


def test_files_are_safetensors_only(adcopilot_dir):
    assert not [path.name for path in adcopilot_dir.iterdir() if path.suffix in (".bin", ".pt", ".pkl")]
    for file in adcopilot_dir.glob("*.safetensors"):
        with safe_open(file, framework="pt") as opened:
            assert list(opened.keys())


def test_an_interrupted_conversion_of_other_weights_is_begun_anew(base, tmp_path, monkeypatch):
    """Its shards would be another base's under this one's name."""
    shard(base)
    other = tmp_path / "other"
    shutil.copytree(base, other)
    name = "model-00001-of-00003.safetensors"
    changed = {key: weight + 1 for key, weight in load_file(base / name).items()}
    save_file(changed, other / name, metadata={"format": "pt"})

    interrupted(monkeypatch, base, tmp_path / "out", after=1)
    conversion.convert_base(base=other, output=tmp_path / "out")
    conversion.convert_base(base=other, output=tmp_path / "whole")
    whole, found = weights_of(tmp_path / "whole"), weights_of(tmp_path / "out")
    assert all(torch.equal(whole[key], found[key]) for key in whole)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        path.name for path in (tmp_path / "whole").iterdir()
    }
