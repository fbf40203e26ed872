"""`adcopilot grpo` with the tiny model: what is trained and sampled."""

import json
import shutil

import pytest
import torch
from peft import PeftModel
from transformers import AutoProcessor

from adcopilot.errors import UserError
from adcopilot.grpo.policy import load_policy
from adcopilot.grpo.servers import RolloutServers
from adcopilot.images import open_image
from tests.training.conftest import export

from ..helpers.model_folders import change_json
from .fake_server import FakeServer, running
from .runs import rollouts, run, weights

pytestmark = pytest.mark.filterwarnings("ignore")


def test_only_the_language_models_lora_is_trained(whole_run):
    _, out, trainer = whole_run
    trained = [name for name, weight in trainer.model.named_parameters() if weight.requires_grad]
    assert trained
    assert all("language_model" in name and "lora_" in name for name in trained)
    assert not any("visual" in name or "comparison" in name for name in weights(out))
    layers = trainer.model.config.text_config.num_hidden_layers
    assert len(weights(out)) == layers * 7 * 2
    assert any(weight.abs().max() > 0 for name, weight in weights(out).items() if "lora_B" in name)


def test_the_reference_is_the_same_weights_without_the_adapter(whole_run):
    _, _, trainer = whole_run
    assert trainer.ref_model is None
    logged = [row for row in trainer.state.log_history if "kl" in row]
    assert logged[0]["kl"] == pytest.approx(0.0, abs=1e-6)  # the adapter begins as nothing
    assert logged[-1]["kl"] > 1e-6


def test_completions_of_a_group_differ(whole_run):
    # The folder's generation_config.json says temperature 1e-6 and top_k 1, as Qwen2.5-VL's nearly does.
    _, out, _ = whole_run
    groups = [row for row in rollouts(out) if row["mode"] == "train"]
    assert len(groups) == 4 * 2
    assert sum(len({one["text"] for one in row["completions"]}) > 1 for row in groups) > len(groups) / 2


def test_pads_are_never_sampled(whole_run):
    _, _, trainer = whole_run
    banned = set(trainer.generation_config.suppress_tokens)
    tokenizer = trainer.processing_class.tokenizer
    for token in ("<|image_pad|>", "<|video_pad|>", "<|compare_pad|>", "<|vision_start|>", "<|vision_end|>"):
        assert tokenizer.convert_tokens_to_ids(token) in banned


def test_the_log_is_what_was_trained_on(whole_run):
    _, out, trainer = whole_run
    rows = rollouts(out)
    assert len({row["key"] for row in rows}) == len(rows)
    for row in rows:
        totals = [one["total"] for one in row["completions"]]
        for one in row["completions"]:
            assert one["total"] == pytest.approx(sum(one["rewards"].values()), abs=1e-5)
            assert set(one["rewards"]) == {"format", "choice" if row["task"] == "mc" else "boxes"}
        assert sum(one["advantage"] for one in row["completions"]) == pytest.approx(0, abs=1e-3)
        assert (max(totals) == min(totals)) == all(one["advantage"] == 0 for one in row["completions"])
    first = [one for row in rows if (row["mode"], row["step"]) == ("train", 0) for one in row["completions"]]
    logged = next(row for row in trainer.state.log_history if "reward" in row)
    assert logged["reward"] == pytest.approx(sum(one["total"] for one in first) / len(first), abs=1e-5)
    assert logged["rewards/format/mean"] == pytest.approx(
        sum(one["rewards"]["format"] for one in first) / len(first), abs=1e-5
    )
    assert any(one["total"] > 0 for row in rows for one in row["completions"])


def test_held_out_reward_is_a_metric_and_no_mean_is_nan(whole_run):
    _, _, trainer = whole_run
    evaluations = [row for row in trainer.state.log_history if "eval_reward" in row]
    assert [row["step"] for row in evaluations] == [2, 4]
    trainer.rollout_log, log = None, trainer.rollout_log
    assert trainer.evaluate()["eval_reward"] == pytest.approx(evaluations[-1]["eval_reward"])  # the same draws again
    trainer.rollout_log = log
    for row in trainer.state.log_history:
        assert not any(isinstance(value, float) and value != value for value in row.values())
        if "reward" in row:
            assert row["seconds/step"] >= row["seconds/rollout"] > 0


def test_the_run_says_what_its_numbers_depend_on(whole_run):
    _, out, _ = whole_run
    about = json.loads((out / "grpo.json").read_text())
    assert about["versions"]["trl"] == "0.24.0"
    assert about["settings"]["seed"] == 1
    assert len(next(iter(about["data"].values()))) == 64
    assert about["prompts"] == {"training": 24, "held_out": 4}
    assert about["pixels"]["image_max_pixels"] == 768 * 768


def test_merged_export_is_the_trained_policy(whole_run, policy_dir, rl_data, rl_records, tmp_path):
    _, out, _ = whole_run
    merged = tmp_path / "merged"
    export(model_name_or_path=str(policy_dir), adapter_name_or_path=str(out), export_dir=str(merged))
    model, processor = load_policy(str(policy_dir), attention="eager", bf16=False)
    content = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "Where is it?"}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
    images = [open_image(rl_data / path) for path in rl_records[0]["images"]]
    inputs = processor(text=[text], images=images, return_tensors="pt")
    with torch.no_grad():
        before = model(**inputs).logits
        trained = PeftModel.from_pretrained(model, out)(**inputs).logits
        exported = load_policy(str(merged), attention="eager", bf16=False)[0](**inputs).logits
    assert (trained - before).abs().max() > 1e-3
    torch.testing.assert_close(exported, trained, atol=1e-4, rtol=1e-3)


def test_a_policy_that_does_not_compare_the_first_image(write_config, policy_dir, tmp_path):
    """`comparison_of_first: false`: sampling and the pass that is trained on see the same pads."""
    folder = shutil.copytree(policy_dir, tmp_path / "later")
    for name in ("config.json", "processor_config.json"):
        change_json(folder / name, comparison_of_first=False)
    trainer = run(write_config(model_name_or_path=str(folder), max_steps=1, save_strategy="no"))
    assert trainer.model.config.comparison_of_first is False
    assert trainer.processing_class.comparison_of_first is False
    assert rollouts(tmp_path / "out")
    assert all(torch.isfinite(weight).all() for weight in weights(tmp_path / "out").values())


def test_counting_is_trained(write_config, rl_data, tmp_path):
    """A task that is one file: records of it are rewarded by it, and logged by its name."""
    records = [json.loads(line) for line in (rl_data / "rl.jsonl").read_text().splitlines()][:8]
    for number, record in enumerate(records):
        question = f"<image><image>How many defects are there? ({number})"
        record |= {"task": "count", "answer": "1", "key": f"count{number}"}
        record["messages"] = [{"role": "user", "content": question}, {"role": "assistant", "content": "1"}]
    file = rl_data / "counted.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    trainer = run(write_config(dataset=str(file), max_steps=1, save_strategy="no", max_completion_length=8))
    assert trainer.reward_func_names == ["format", "count"]
    assert {row["task"] for row in rollouts(tmp_path / "out")} == {"count"}


def test_an_ablation_runs(write_config, tmp_path):
    trainer = run(write_config(choice_reward=False, max_steps=1, save_strategy="no"))
    assert trainer.reward_func_names == ["format", "boxes"]
    names = {name for row in rollouts(tmp_path / "out") for one in row["completions"] for name in one["rewards"]}
    assert {"format"} <= names <= {"format", "boxes"}


def test_stops_early(write_config, tmp_path):
    # A learning rate of 0 never gets better.
    settings = {"eval_strategy": "steps", "eval_steps": 1, "save_steps": 1, "val_size": 4, "max_steps": 20}
    settings |= {"per_device_eval_batch_size": 16, "early_stopping_steps": 2, "max_completion_length": 8}
    trainer = run(write_config(learning_rate=0.0, **settings))
    assert trainer.state.global_step == 3
    assert trainer.state.best_metric is not None
    held_out = {row["record"] for row in rollouts(tmp_path / "out") if row["mode"] == "eval"}
    trained = {row["record"] for row in rollouts(tmp_path / "out") if row["mode"] == "train"}
    assert len(held_out) == 4
    assert not held_out & trained


def test_several_updates_a_rollout(write_config, tmp_path):
    trainer = run(write_config(num_iterations=2, save_strategy="no"))
    assert sorted({row["step"] for row in rollouts(tmp_path / "out")}) == [0, 2]
    assert trainer.state.global_step == 4


def test_rollouts_from_a_server_are_trained_on(write_config, policy_dir, tmp_path):
    """The trainer's side of a server's step: adapters appear before prompts are asked, ids come back as they are."""
    processor = AutoProcessor.from_pretrained(policy_dir)
    good = "<think>No defect.</think><answer>A</answer><|im_end|>"
    ids = [processor.tokenizer(text).input_ids for text in (good, good, "A<|im_end|>", "No.<|im_end|>")]

    with running(FakeServer([])) as (server,):
        original = RolloutServers.generate

        def told(self, *, prompt_ids, **named):
            server.known = {json.dumps(one) for one in prompt_ids}
            return original(self, prompt_ids=prompt_ids, **named)

        def answer(body):
            text = body["messages"][-1]["content"][-1]["text"]
            for one in map(json.loads, server.known):
                if processor.tokenizer.decode(one).count(text):
                    choices = [{"index": k, "token_ids": ids[k % 4]} for k in range(body["n"])]
                    return 200, {"prompt_token_ids": one, "choices": choices}
            return 400, {"error": "not asked"}

        server.answer = answer
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(RolloutServers, "generate", told)
            trainer = run(write_config(rollout_server=[server.url], max_steps=2, save_strategy="no", dataset="rl"))
        loads = server.asked("/v1/load_lora_adapter")
        assert len({body["lora_name"] for body in loads}) == 2
        bodies = server.asked()
        assert all(body["n"] == 4 for body in bodies)
        assert bodies[0]["model"] == loads[0]["lora_name"]
        assert bodies[-1]["model"] == loads[1]["lora_name"]
    for row in rollouts(tmp_path / "out"):
        texts = [one["text"] for one in row["completions"]]
        assert texts[0] == texts[1] == "<think>No defect.</think><answer>A</answer>"
        assert [one["rewards"]["format"] for one in row["completions"]] == [1.0, 1.0, 0.0, 0.0]
    logged = [row for row in trainer.state.log_history if "reward" in row]
    assert all(row["seconds/adapter_sync"] > 0 for row in logged)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"report_to": "banana"}, "banana is not supported"),
        ({"cache_implementation": "banana"}, "Invalid `cache_implementation`"),
    ],
)
def test_what_trl_refuses_only_then(write_config, changes, says):
    with pytest.raises(UserError, match=f"TRL does not begin .*{says}.*; correct the setting"):
        run(write_config(**changes))


def test_what_is_held_out_and_trained_on_is_said(write_config, capsys, monkeypatch):
    from adcopilot.grpo.trainer import AdCopilotGRPOTrainer

    monkeypatch.setattr(AdCopilotGRPOTrainer, "train", lambda self, **_: None)
    trainer = run(write_config(eval_dataset="rl", max_samples=8, generation_kwargs={"suppress_tokens": [7]}))
    assert "held out: 8 of 24 records are trained on too" in capsys.readouterr().err
    assert {7, trainer.model.config.image_token_id} <= set(trainer.generation_config.suppress_tokens)
