"""`adcopilot grpo` with the tiny model: what ends a run, what it leaves, and what goes on from that."""

import json
import shutil
import signal

import pytest
import torch

from adcopilot.errors import UserError

from ..helpers.model_folders import change_json, change_weights
from ..helpers.waiting import until
from .runs import rollouts, run, weights

pytestmark = pytest.mark.filterwarnings("ignore")


def test_resumes_to_the_same_numbers(whole_run, tmp_path):
    """Stopped after two steps and gone on: the same completions, rewards and weights as without a stop."""
    file, out, _ = whole_run
    elsewhere = [f"output_dir={tmp_path / 'out'}"]

    # A stop in the middle of the third step, after its rollouts were logged.
    from adcopilot.grpo.trainer import AdCopilotGRPOTrainer

    original = AdCopilotGRPOTrainer.compute_loss

    def stops(self, *positional, **named):
        if self.state.global_step == 2 and self.model.training:
            raise KeyboardInterrupt
        return original(self, *positional, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AdCopilotGRPOTrainer, "compute_loss", stops)
        with pytest.raises(KeyboardInterrupt):
            run(file, elsewhere)
    assert max(row["step"] for row in rollouts(tmp_path / "out")) == 2
    assert (tmp_path / "out" / "checkpoint-2").is_dir()
    resumed = run(file, elsewhere)
    assert [row["step"] for row in resumed.state.log_history if "reward" in row] == [1, 2, 3, 4]
    assert rollouts(tmp_path / "out") == rollouts(out)
    for name, weight in weights(out).items():
        assert torch.equal(weight, weights(tmp_path / "out")[name]), name


@pytest.mark.parametrize(
    "override",
    [
        "learning_rate=0.01",
        "weight_decay=0.5",
        "lr_scheduler_type=cosine",
        "max_grad_norm=99",
        "max_steps=5",
        "warmup_steps=1",
        "optim=sgd",
        "adam_beta2=0.9",
        "lora_dropout=0.1",
        "importance_sampling_level=sequence",
        "mask_truncated_completions=true",
        "save_steps=4",
        "neftune_noise_alpha=5",
    ],
)
def test_other_settings_do_not_go_on(whole_run, override):
    file, out, _ = whole_run
    before = (out / "grpo.json").read_bytes()
    with pytest.raises(UserError, match=rf"other settings \({override.partition('=')[0]} "):
        run(file, [override])
    assert (out / "grpo.json").read_bytes() == before


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and "runs" not in path.parts}


@pytest.mark.parametrize("overrides", [[], ["logging_steps=5", "gradient_checkpointing=true", "save_total_limit=3"]])
def test_a_finished_run_stays_as_it_is(whole_run, overrides, capsys):
    file, out, _ = whole_run
    before = contents(out)
    assert run(file, overrides) is None
    assert "finished before, after 4 steps" in capsys.readouterr().err
    assert contents(out) == before


def test_a_run_killed_before_it_could_say_that_it_is_finished(whole_run, tmp_path):
    file, out, _ = whole_run
    copy = tmp_path / "out"
    shutil.copytree(out, copy)
    change_json(copy / "grpo.json", without=["finished"])
    (copy / "adapter_model.safetensors").unlink()
    assert run(file, [f"output_dir={copy}"]) is None
    for name, weight in weights(out).items():
        assert torch.equal(weight, weights(copy)[name]), name
    assert json.loads((copy / "grpo.json").read_text()) == json.loads((out / "grpo.json").read_text())
    assert rollouts(copy) == rollouts(out)


def test_another_model_in_the_same_folder_does_not_go_on(whole_run, policy_dir, tmp_path):
    file, _, _ = whole_run
    other = shutil.copytree(policy_dir, tmp_path / "model")
    assert run(file, [f"model_name_or_path={other}"]) is None  # the same weights elsewhere
    change_weights(other, "model.language_model.norm.weight", lambda weight: weight + 1)
    with pytest.raises(UserError, match=r"other settings \(model "):
        run(file, [f"model_name_or_path={other}"])


def test_other_data_do_not_go_on(whole_run, rl_data):
    """The order of prompts would be another, and a resumed run would not say so."""
    file, _, _ = whole_run
    kept = (rl_data / "rl.jsonl").read_text()
    try:
        (rl_data / "rl.jsonl").write_text("".join(kept.splitlines(keepends=True)[1:]))
        with pytest.raises(UserError, match=r"other settings \(data "):
            run(file)
    finally:
        (rl_data / "rl.jsonl").write_text(kept)


def test_kill_9_loses_one_step_at_most(nursery, write_config, whole_run, tmp_path):
    """A process killed at any moment goes on from its last whole checkpoint."""
    file = write_config(max_steps=3, save_steps=1, logging_steps=1, max_completion_length=8)
    process = nursery.start("grpo", file)
    until(lambda: (tmp_path / "out" / "checkpoint-2").exists() or process.poll() is not None, "the second checkpoint")
    assert process.poll() is None, "the run ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    result = nursery.run("grpo", file)
    assert result.returncode == 0, result.stderr[-2000:]
    steps = [row["step"] for row in rollouts(tmp_path / "out")]
    assert steps == sorted(steps)
    assert sorted(set(steps)) == list(range(3))
    assert len({row["key"] for row in rollouts(tmp_path / "out")}) == len(steps) == 6


def test_a_full_disk_ends_in_one_line_and_the_run_goes_on_afterwards(write_config, tmp_path):
    file = write_config()
    from adcopilot.grpo.trainer import AdCopilotGRPOTrainer

    original = AdCopilotGRPOTrainer._save_checkpoint

    def full(self, model, trial):
        if self.state.global_step == 4:
            (tmp_path / "out" / "checkpoint-4").mkdir()
            raise OSError(28, "No space left on device")
        return original(self, model, trial)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AdCopilotGRPOTrainer, "_save_checkpoint", full)
        with pytest.raises(UserError, match=r"cannot be written \(No space left on device\); make room"):
            run(file)
    trainer = run(file)
    assert trainer.state.global_step == 4
    assert {row["step"] for row in rollouts(tmp_path / "out")} == {0, 1, 2, 3}


@pytest.mark.parametrize("where", ["loss", "weights"])
def test_numbers_that_are_not_finite_end_the_run(write_config, tmp_path, where):
    from adcopilot.grpo.trainer import AdCopilotGRPOTrainer

    original = AdCopilotGRPOTrainer.compute_loss

    def overflows(self, model, *positional, **named):
        loss = original(self, model, *positional, **named)
        if where == "loss":
            return loss * float("nan")
        next(weight for weight in model.parameters() if weight.requires_grad).data.view(-1)[0] = float("inf")
        return loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AdCopilotGRPOTrainer, "compute_loss", overflows)
        said = "the loss is nan" if where == "loss" else "not finite, and not saved"
        with pytest.raises(UserError, match=rf"step 1: .*{said}"):
            run(write_config(max_steps=1, save_steps=1))
    assert not list((tmp_path / "out").rglob("adapter_model.safetensors"))


def test_mistakes_are_said_before_the_model_loads(write_config, tmp_path):
    with pytest.raises(UserError, match="does not answer at /health"):
        run(write_config(rollout_server=["http://127.0.0.1:1"]))
    with pytest.raises(UserError, match="no such model folder"):
        run(write_config(model_name_or_path=str(tmp_path / "none")))
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="holds a LoRA adapter, expected a whole model"):
        run(write_config(model_name_or_path=str(folder)))
    with pytest.raises(UserError, match="val_size is 24, expected less than the 24 records"):
        run(write_config(val_size=24, eval_strategy="steps", eval_steps=1))
