"""`adcopilot.grpo.settings`: what a YAML file may say."""

import re

import pytest

from adcopilot.errors import UserError
from adcopilot.grpo.settings import read_settings

from ..helpers.refusals import refused

HEAD = "model_name_or_path: model\ndataset: rl\noutput_dir: {out}\nuse_cpu: true\nbf16: false\n"


def settings(tmp_path, text="", *overrides):
    file = tmp_path / "run.yaml"
    file.write_text(HEAD.format(out=tmp_path / "out") + text)
    return read_settings(file, overrides)


def test_both_kinds_of_keys_and_overrides(tmp_path):
    ours, trl = settings(
        tmp_path, "lora_rank: 8\nlearning_rate: 5e-5\ndataset_dir: here\n", "beta=0.04", "dataset=a,b"
    )
    assert (ours.lora_rank, ours.dataset_dir, ours.datasets) == (8, "here", ["a", "b"])
    assert (trl.learning_rate, trl.beta) == (5e-5, 0.04)  # YAML reads 5e-5 as a text


def test_a_key_with_nothing_behind_it_has_its_default(tmp_path):
    ours, _ = settings(tmp_path, "lora_rank:\ncutoff_len: ~\nrollout_server: null\n")
    assert (ours.lora_rank, ours.cutoff_len, ours.rollout_server) == (64, 20480, [])


def test_prompts_are_never_cut_by_trl(tmp_path):
    # TRL's own default of 512 cuts from the left, through an image's tokens.
    assert settings(tmp_path)[1].max_prompt_length is None


def test_early_stopping_is_judged_by_held_out_reward(tmp_path):
    text = "early_stopping_steps: 2\neval_strategy: steps\neval_steps: 5\nsave_steps: 5\neval_dataset: t\n"
    trl = settings(tmp_path, text)[1]
    assert (trl.metric_for_best_model, trl.greater_is_better, trl.load_best_model_at_end) == (
        "eval_reward",
        True,
        True,
    )


def test_the_policys_start_is_not_written_over(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=r"output_dir .*: is the model that training starts from"):
        settings(tmp_path, "", f"model_name_or_path={tmp_path}/../{tmp_path.name}/out")


@pytest.mark.parametrize(("switch", "off"), [("choice_reward", "mc"), ("bbox_reward", "loc")])
def test_a_switch_leaves_its_task_without_reward(tmp_path, switch, off):
    assert settings(tmp_path)[0].tasks_without_reward == ()
    assert settings(tmp_path, f"{switch}: false\n")[0].tasks_without_reward == (off,)


def test_one_server_or_several(tmp_path):
    assert settings(tmp_path, "rollout_server: http://127.0.0.1:1\n")[0].rollout_server == ["http://127.0.0.1:1"]
    two = settings(tmp_path, "", 'rollout_server=["http://a:1", "http://b:2"]')[0].rollout_server
    assert two == ["http://a:1", "http://b:2"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lerning_rate: 1\n", "lerning_rate: no such key; did you mean learning_rate?"),
        ("lora_rank: many\n", "lora_rank is 'many', expected a whole number"),
        ("lora_rank: [8]\n", "lora_rank is [8], expected a whole number"),
        ("lora_rank: 2024-01-02\n", "lora_rank is datetime.date(2024, 1, 2), expected a whole number"),
        (f"cutoff_len: 0x{'f' * 5000}\n", "cutoff_len is a int too large to be shown, expected a number of 64 bits"),
        ("image_max_pixels: x\n", "image_max_pixels is 'x', expected a whole number"),
        ("seed: 2024-01-02\n", "seed is datetime.date(2024, 1, 2), expected a whole number"),
        ("learning_rate: .nan\n", "learning_rate is nan, expected a number"),
        ("rollout_server: [{a: 1}]\n", "rollout_server is [{'a': 1}], expected a text or a list of texts"),
        ("eval_dataset: 7\n", "eval_dataset is 7, expected a text or a list of texts"),
        ("num_generations: 0\n", "num_generations is 0, expected 2 or more"),
        ("num_iterations: 0\n", "num_iterations is 0, expected 1 or more"),
        ("accelerator_config: nowhere.json\n", "nowhere.json"),
        ("fsdp: [{a: 1}]\n", "correct the setting"),
        ("lora_rank: 0\n", "lora_rank is 0, expected 1 or more"),
        ("temperature: -1\n", "temperature is -1.0, expected more than 0"),
        ("per_device_train_batch_size: 0\n", "per_device_train_batch_size is 0, expected 1 or more"),
        ("lora_dropout: 1.5\n", "lora_dropout is 1.5, expected 0 to below 1"),
        ("learning_rate: -1e-4\n", "learning_rate is -0.0001, expected 0 or more"),
        ("top_p: 0\n", "top_p is 0.0, expected above 0 and at most 1"),
        ("think: 3\n", "think is 3, expected true or false"),
        ("learning_rate: fast\n", "learning_rate is 'fast', expected a number"),
        ("use_vllm: true\n", "set rollout_server"),
        ("max_prompt_length: 512\n", "use cutoff_len"),
        ("flash_attn: fa9\n", "flash_attn is 'fa9', expected one of auto, sdpa, disabled, fa2"),
        ("choice_reward: false\nbbox_reward: false\n", "no answer counts"),
        ("eval_strategy: steps\n", "nothing is held out"),
        ("early_stopping_steps: 2\n", "needs held-out rewards"),
        ("eval_dataset: a\nval_size: 3\n", "keep one"),
        ("rollout_server: ftp://x\n", "rollout_server is ftp://x, expected something like http"),
        ("rollout_server: http://me:secret@x\n", "rollout_server of x: carries a password or a query"),
        ("rollout_patience: 0\n", "expected seconds above 0"),
        ("num_generations: 3\n", "divisible"),
        ("save_steps: 3\nnum_iterations: 2\ngradient_accumulation_steps: 1\n", "use a multiple"),
        ("dataset: x\n", "stands there twice"),
        ("seed: -1\n", "seed is -1, expected 0 to 4294967295"),
        ("seed: 4294967296\n", "seed is 4294967296, expected 0 to 4294967295"),
        ("top_k: -5\n", "top_k is -5, expected 0 or more"),
        ("epsilon: -1\n", "epsilon is -1.0, expected 0 or more"),
        ("dataloader_num_workers: -1\n", "dataloader_num_workers is -1, expected 0 or more"),
        ("top_entropy_quantile: 2\n", "top_entropy_quantile is 2.0, expected 0 to 1"),
        ("loss_type: banana\n", "loss_type is 'banana', expected grpo, dapo, bnpo or dr_grpo"),
        ("scale_rewards: banana\n", "scale_rewards is 'banana', expected group, batch or none"),
        ("importance_sampling_level: word\n", "importance_sampling_level is 'word', expected token or sequence"),
        ("reward_weights: [1, 2]\n", "reward_weights is [1, 2]; the form counts format_weight"),
        ("model_init_kwargs: {dtype: x}\n", "as bf16 and flash_attn say"),
        ("resume_from_checkpoint: saves/x\n", "goes on from the last whole checkpoint of its output_dir"),
        ("remove_unused_columns: true\n", "rewards need the whole record"),
        ("use_transformers_paged: true\n", "samples without the images"),
        ("sync_ref_model: true\n", "the policy without its adapter"),
        ("generation_kwargs: text\n", "generation_kwargs is 'text', expected keys with values"),
        ("gradient_checkpointing_kwargs: 5\n", "gradient_checkpointing_kwargs is 5, expected keys with values"),
        (
            "generation_kwargs: {top_n: 1}\n",
            "generation_kwargs: top_n: transformers knows no such key; did you mean top_",
        ),
        ("generation_kwargs: {top_k: 1}\nrollout_server: http://a:1\n", "not sent to a rollout_server"),
        ("eval_on_start: true\n", "eval_on_start is set but nothing is held out"),
    ],
)
def test_mistakes_are_one_line(tmp_path, text, said):
    with refused(re.escape(said)):
        settings(tmp_path, text)


def test_no_data_set(tmp_path):
    with pytest.raises(UserError, match="dataset is ',,', expected the name of a data set"):
        settings(tmp_path, "", "dataset=',,'")


def test_missing_keys(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("dataset: x\noutput_dir: y\n")
    with pytest.raises(UserError, match="model_name_or_path is missing"):
        read_settings(file)
    file.write_text("- a\n")
    with pytest.raises(UserError, match="expected keys with values"):
        read_settings(file)


def test_examples_are_valid(project_root, tmp_path, monkeypatch):
    monkeypatch.chdir(project_root)
    for name in ("tiny", "7b"):
        # bf16 asks for a GPU, DeepSpeed for its processes; both are the machine's matter, not the file's.
        overrides = [f"output_dir={tmp_path}", "use_cpu=true", "bf16=false", "deepspeed=null"]
        if name == "7b":
            overrides.append("per_device_train_batch_size=8")  # one process here instead of eight
        ours, trl = read_settings(project_root / f"examples/grpo/{name}.yaml", overrides)
        assert (ours.lora_rank, ours.lora_alpha) == (64, 128)
        assert trl.num_generations == 8
