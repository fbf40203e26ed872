"""The example YAMLs as files: both sizes train by the same path, 7B with the paper's settings."""

import json

import pytest
import yaml

from .conftest import EXAMPLES, ON_A_CPU, SIZES, STAGES, read_yaml

#: What may differ between the sizes: names, data, size, memory savers and where it runs.
OF_A_SIZE = {
    *("model_name_or_path", "adapter_name_or_path", "output_dir", "dataset"),
    *("image_max_pixels", "image_min_pixels", "cutoff_len", "flash_attn", "disable_gradient_checkpointing"),
    *("deepspeed", "preprocessing_num_workers", "dataloader_num_workers", "ddp_timeout", "use_cpu"),
    *("logging_steps", "save_strategy", "save_steps", "save_total_limit"),
    *("per_device_train_batch_size", "gradient_accumulation_steps", "learning_rate", "num_train_epochs"),
    *("warmup_ratio", "seed"),
    "disable_shuffling",  # the tiny stage 0 reads the sample set's lessons in their order
}

OF_INDUSTRY = ("3CAD", "MANTA", "Real_IAD", "Real_IAD_Variety", "VISION", "MPDD", "VIADUCT")

TABLE_1 = {
    0: ["CLEVR-Change", "MagicBrush", "Spot-the-diff"],
    1: [
        *(f"Caption_{name}" for name in OF_INDUSTRY),
        *("PixMo-cap", "CLEVR-Change", "MagicBrush", "Spot-the-diff"),
    ],
    2: [
        *(f"Chat_{name}" for name in OF_INDUSTRY),
        *("Chat_reinad", "M4_Instruct", "LLaVA_V1.5_mix665k", "OLMo-2-SFT"),
    ],
}


@pytest.mark.parametrize("stage", STAGES)
def test_sizes_differ_in_size_and_not_in_path(stage):
    tiny, large = (
        {key: value for key, value in read_yaml(size, stage).items() if key not in OF_A_SIZE} for size in SIZES
    )
    assert tiny == large
    assert tiny["template"] == "adcopilot"


@pytest.mark.parametrize("size", SIZES)
def test_each_stage_continues_from_the_one_before(size):
    stages = [read_yaml(size, stage) for stage in STAGES]
    export = yaml.safe_load((EXAMPLES / f"export/{size}.yaml").read_text("utf-8"))
    adapters = [stage["output_dir"] for stage in stages[1:]]
    assert stages[0]["model_name_or_path"] == f"saves/{size}/base"
    assert {part["model_name_or_path"] for part in (*stages[1:], export)} == {stages[0]["output_dir"]}
    assert "adapter_name_or_path" not in stages[1]
    assert stages[2]["adapter_name_or_path"] == adapters[0]
    assert stages[2]["create_new_adapter"] is True
    assert export["adapter_name_or_path"].split(",") == adapters
    for kind in ("chat", "api"):
        settings = yaml.safe_load((EXAMPLES / kind / f"{size}.yaml").read_text("utf-8"))
        assert settings["model_name_or_path"] == export["export_dir"]


@pytest.mark.parametrize("stage", STAGES)
def test_7b_has_the_settings_of_the_paper(stage):
    settings = read_yaml("7b", stage)
    assert settings["dataset"] == TABLE_1[stage]
    assert settings["num_train_epochs"] == 2
    assert settings["learning_rate"] == 5e-5
    assert settings["lr_scheduler_type"] == "cosine"
    assert settings["per_device_train_batch_size"] == 1
    assert settings["gradient_accumulation_steps"] == 16
    assert settings["image_max_pixels"] == 2800 * 2800
    assert settings["cutoff_len"] >= 2 * (100 * 100 + 100)  # two of the largest images with their comparison tokens
    assert settings["cutoff_len"] == 20480
    if stage:
        assert (settings["lora_rank"], settings["lora_alpha"]) == (64, 128)
    config = json.loads((EXAMPLES.parent / settings["deepspeed"]).read_text("utf-8"))
    assert config["zero_optimization"]["stage"] == 2


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("stage", STAGES)
def test_llamafactory_knows_every_key(size, stage, tmp_path, adcopilot_dir):
    from llamafactory.hparams import get_train_args

    args = {**read_yaml(size, stage), **ON_A_CPU, "output_dir": str(tmp_path / "run")}
    args.pop("deepspeed", None)  # it would insist on torchrun
    args |= {"model_name_or_path": str(adcopilot_dir), "adapter_name_or_path": None}  # folders that have to be there
    _, data_args, training_args, finetuning_args, _ = get_train_args(args)  # raises on a key that it does not know
    assert data_args.dataset == (TABLE_1[stage] if size == "7b" else [f"sample_stage{stage}"])
    assert training_args.gradient_accumulation_steps == read_yaml(size, stage)["gradient_accumulation_steps"]
    assert finetuning_args.additional_target == (["comparison_queries"] if stage else None)


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("train/*/*.yaml")), ids=lambda file: "/".join(file.parts[-2:]))
def test_a_run_leaves_its_curve_and_says_where_it_can_report_to(file):
    text = file.read_text("utf-8")
    assert yaml.safe_load(text)["plot_loss"] is True
    # as LlamaFactory's own examples name them
    assert "report_to: none # choices: [none, wandb, tensorboard, swanlab, mlflow]" in text.splitlines()
