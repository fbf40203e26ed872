"""What a training run needs of a GPU, counted at 7B's shapes; preflight refuses what cannot fit."""

import json

import pytest
import torch
import yaml

from adcopilot.errors import UserError
from adcopilot.llamafactory.memory import GIB, Need, Sample, Shapes, sample_of, uncounted
from benchmarks.counts import config_of

pytestmark = pytest.mark.forward

#: A pair of 2800 x 2800 images with their comparison tokens and 64 tokens of text.
LARGEST = Sample(tokens=20_264, patches=80_000, labels=64)


@pytest.fixture(scope="module")
def shapes():
    return Shapes(config_of("AD-Copilot", "7B"))


def settings(project_root, stage: int) -> dict:
    return yaml.safe_load((project_root / f"examples/train/7b/stage{stage}.yaml").read_text("utf-8"))


@pytest.mark.parametrize(("stage", "millions"), [(0, 63.8), (1, 166.6), (2, 211.2)])
def test_what_trains(shapes, project_root, stage, millions):
    """The numbers at the heads of the YAMLs; LoRA's include the queries, which train as they are."""
    trained = shapes.trained(settings(project_root, stage))
    assert sum(trained.values()) / 1e6 == pytest.approx(millions, abs=0.06)
    assert (trained["tower"] > 0) == (stage == 2)
    assert (trained["language"] > 0) == (stage > 0)


@pytest.mark.parametrize(("stage", "least", "most"), [(0, 25, 32), (1, 26, 34), (2, 32, 42)])
def test_the_largest_pair_fits_a_gpu_of_80_gb(shapes, project_root, stage, least, most):
    need = shapes.need(settings(project_root, stage), LARGEST)
    assert least < need.total / GIB < most
    assert need.weights / GIB == pytest.approx(15.6, abs=0.1)


def test_without_checkpointing_it_does_not(shapes, project_root):
    for stage in (0, 1, 2):
        need = shapes.need({**settings(project_root, stage), "disable_gradient_checkpointing": True}, LARGEST)
        assert need.total / GIB > 100


def test_stage_0_keeps_of_a_token_what_it_says(shapes, project_root):
    """As counted over the whole language model in test_checkpointing.py: inputs of its layers, bytes a token."""
    more = Sample(tokens=LARGEST.tokens + 1000, patches=LARGEST.patches, labels=LARGEST.labels)
    grown = [shapes.need(settings(project_root, 0), one).activations for one in (LARGEST, more)]
    layers = 28 * 3584 * 2
    assert layers <= (grown[1] - grown[0]) / 1000 <= layers + 0.25e6
    assert (grown[1] - grown[0]) / 1000 < 0.5e6


def test_a_sample(shapes):
    found = sample_of(shapes.config, 1000, [(280, 280), (280, 280)], batch=3)
    assert found == Sample(tokens=3000, patches=3 * 800, labels=3 * (1000 - 200 - 200))
    assert str(Need(weights=GIB, training=0, activations=GIB / 2, logits=0)).startswith("1.5 GiB (1.0 weights + 0.0 ")


def test_gradients_stop_before_the_first_trained_part(shapes):
    """A tower that nobody trains keeps nothing, whatever its images."""
    small, large = (Sample(tokens=1, patches=patches, labels=1) for patches in (8, 8_000_000))
    only_language = {"finetuning_type": "full"}
    kept = [shapes.need(only_language, one).activations for one in (small, large)]
    encoder = shapes.need(only_language, large).activations
    assert kept[1] == encoder  # the comparison encoder trains in all stages
    assert kept[1] / 8_000_000 < 0.4e6
    both = shapes.need({**only_language, "freeze_vision_tower": False}, large)
    assert both.activations > kept[1] + 32 * 1280 * 2 * 8_000_000 * 0.9


@pytest.mark.parametrize(
    ("zero", "gpus", "weights", "training"),
    [
        ({"stage": 2}, 1, 1, 1),
        ({"stage": 2}, 8, 1, 1 / 8),
        ({"stage": 3}, 8, 1 / 8, 1 / 8),
        ({"stage": 0}, 8, 1, 1),
        ({"stage": 3, "offload_optimizer": {"device": "cpu"}, "offload_param": {"device": "none"}}, 2, 1 / 2, 0),
        ({"stage": 3, "offload_param": {"device": "cpu"}}, 2, 0, 1 / 2),
    ],
)
def test_what_deepspeed_shares(shapes, project_root, tmp_path, zero, gpus, weights, training):
    (tmp_path / "zero.json").write_text(json.dumps({"zero_optimization": zero}))
    plain = {**settings(project_root, 1), "deepspeed": None}
    alone = shapes.need(plain, LARGEST, gpus=gpus)  # without DeepSpeed each has all
    shared = shapes.need({**plain, "deepspeed": str(tmp_path / "zero.json")}, LARGEST, gpus=gpus)
    assert shared.weights == pytest.approx(alone.weights * weights)
    assert shared.training == pytest.approx(alone.training * training)
    assert (shared.activations, shared.logits) == (alone.activations, alone.logits)


def test_four_bits_and_pure_bfloat16(shapes, project_root):
    plain = shapes.need(settings(project_root, 1), LARGEST)
    four = shapes.need({**settings(project_root, 1), "quantization_bit": 4}, LARGEST)
    assert (four.weights, four.training) == (plain.weights / 4, plain.training)
    pure = shapes.need({**settings(project_root, 1), "pure_bf16": True}, LARGEST)
    assert (pure.weights, pure.training) == (plain.weights, plain.training * 6 / 16)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"finetuning_type": "freeze"}, "finetuning_type: freeze"),
        ({"use_galore": True}, "use_galore: True"),
        ({"fsdp": "full_shard"}, "fsdp: full_shard"),
        ({"deepspeed": "nowhere.json"}, "deepspeed: nowhere.json (no JSON file with zero_optimization)"),
        ({"use_galore": False, "deepspeed": None}, None),
        ({}, None),
    ],
)
def test_settings_under_which_nothing_is_said(project_root, changes, said, monkeypatch):
    monkeypatch.chdir(project_root)
    assert uncounted({**settings(project_root, 1), **changes}) == said


def test_preflight_refuses(llamafactory, tmp_path, adcopilot_dir, image_files, capsys):
    import argparse

    from adcopilot.llamafactory import preflight

    messages = [
        {"role": "user", "content": "<image><image>Is there a defect?"},
        {"role": "assistant", "content": "No."},
    ]
    (tmp_path / "parts.json").write_text(json.dumps([{"messages": messages, "images": image_files[:2]}]))
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    info = {"file_name": "parts.json", "formatting": "sharegpt", "tags": tags}
    info["columns"] = {"messages": "messages", "images": "images"}
    (tmp_path / "dataset_info.json").write_text(json.dumps({"parts": info}))
    values = {"model_name_or_path": str(adcopilot_dir), "template": "adcopilot", "stage": "sft", "do_train": True}
    values |= {"dataset": "parts", "dataset_dir": str(tmp_path), "media_dir": "/", "finetuning_type": "lora"}
    values |= {"output_dir": str(tmp_path / "out"), "per_device_train_batch_size": 64}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(values))

    def run(*more):
        parser = argparse.ArgumentParser()
        preflight.add_arguments(parser)
        return preflight.run(parser.parse_args([str(tmp_path / "a.yaml"), *more]))

    assert run() == 0
    assert "GiB (0.0 weights + 0.0 training + " in capsys.readouterr().out
    assert run("--gpu-memory", "80") == 0
    assert "for batches of 64 with" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"more than --gpu-memory 0\.02; per_device_train_batch_size=\d+ would") as e:
        run("--gpu-memory", "0.02")
    remedy = str(e.value).rpartition("; ")[2].split()[0]
    assert run(remedy, "--gpu-memory", "0.02") == 0
    with pytest.raises(UserError, match="take a larger GPU"):
        run("--gpu-memory", "0.0001")
    with pytest.raises(UserError, match="disable_gradient_checkpointing=false would lower it"):
        run("disable_gradient_checkpointing=true", "--gpu-memory", "0.02")
    with pytest.raises(
        UserError, match="--gpu-memory: memory is not counted with finetuning_type: freeze; leave the option"
    ):
        run("finetuning_type=freeze", "--gpu-memory", "80")
    assert run("finetuning_type=freeze") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "memory: not counted with finetuning_type: freeze"
    for number in ("nan", "0", "-1", "inf"):
        with pytest.raises(UserError, match=r"--gpu-memory .*: expected GiB, more than 0"):
            run("--gpu-memory", number)
    with pytest.raises(UserError, match="--gpus 0: expected 1 or more"):
        run("--gpus", "0")
    assert run("--gpus", "4") == 0
    assert "memory of each of 4 GPUs in bfloat16" in capsys.readouterr().out
    with pytest.raises(UserError, match="counted for stage sft, found dpo"):
        run("stage=dpo", "--gpu-memory", "80")
    tokens = 64 * 511
    assert run("neat_packing=true", "cutoff_len=512") == 0  # a packed sample is as long as it may be
    assert f"with {tokens:,} tokens" in capsys.readouterr().out


def test_nothing_is_computed(shapes):
    assert all(type(weight.data).__name__ == "FakeTensor" for weight in shapes.model.parameters())
    assert torch.get_default_dtype() == torch.float32
