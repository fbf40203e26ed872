"""Records with verifiable answers, and a tiny policy that has begun to answer in the form that is rewarded."""

import json
from pathlib import Path

import pytest
import yaml

from adcopilot.cli import main
from adcopilot.sample.generate import grpo_splits, write_sample


@pytest.fixture(scope="session")
def rl_data(tmp_path_factory) -> Path:
    """`adcopilot data sample --rl 24`: thinking.jsonl, rl.jsonl, rl_test.jsonl and their images."""
    folder = tmp_path_factory.mktemp("rl")
    write_sample(folder, grpo_splits(24, test_count=8), seed=3)
    return folder


def read(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope="session")
def rl_records(rl_data) -> list[dict]:
    return read(rl_data / "rl.jsonl")


@pytest.fixture(scope="session")
def untrained_policy(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("policy") / "model"
    assert main(["init", "--preset", "tiny", "--output", str(folder)]) == 0
    return folder


@pytest.fixture(scope="session")
def policy_processor(untrained_policy):
    from transformers import AutoProcessor

    from adcopilot.model.registration import register_auto_classes

    register_auto_classes()
    return AutoProcessor.from_pretrained(untrained_policy)


@pytest.fixture(scope="session")
def policy_dir(untrained_policy, policy_processor, rl_data, tmp_path_factory) -> Path:
    """The tiny base after a few steps on one answer with reasons, A or B: some completions keep the form, not all.

    Its generation_config.json has settings like Qwen2.5-VL's, which must not reach the rollouts.
    """
    import torch

    from adcopilot.grpo.policy import load_policy
    from adcopilot.images import open_image
    from adcopilot.prompts import thinking_answer, thinking_question

    torch.manual_seed(0)
    model, processor = load_policy(str(untrained_policy), attention="eager", bf16=False)
    optimizer = torch.optim.AdamW(model.model.language_model.parameters(), lr=3e-3)
    records = read(rl_data / "rl.jsonl")
    for step in range(30):
        texts, images = [], []
        for k in range(4):
            record = records[(4 * step + k) % len(records)]
            question = thinking_question(record["messages"][0]["content"].replace("<image>", ""))
            content = [{"type": "image"}] * 2 + [{"type": "text", "text": question}]
            prompt = processor.apply_chat_template(
                [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
            )
            texts.append(prompt + thinking_answer("No.", "AB"[k % 2]) + "<|im_end|>")
            images += [open_image(rl_data / path) for path in record["images"]]
        inputs = processor(text=texts, images=images, padding=True, return_tensors="pt")
        loss = model(**inputs, labels=inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    print(f"loss {loss.item():.3f}")
    folder = tmp_path_factory.mktemp("policy_trained") / "model"
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    config = {"do_sample": True, "temperature": 1e-6, "top_k": 1, "repetition_penalty": 1.05}
    eos = processor.tokenizer.eos_token_id
    (folder / "generation_config.json").write_text(json.dumps({**config, "eos_token_id": eos, "pad_token_id": eos}))
    return folder


def grpo_settings(policy: Path, data: Path, output: Path, **changes) -> dict:
    """A YAML's keys for a few steps of the tiny policy on a CPU."""
    return {
        "model_name_or_path": str(policy),
        "flash_attn": "disabled",
        "dataset_dir": str(data),
        "dataset": "rl",
        "num_generations": 4,
        "per_device_train_batch_size": 8,
        "max_completion_length": 32,
        "lora_rank": 4,
        "lora_alpha": 8,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "constant",
        "max_steps": 4,
        "gradient_checkpointing": False,
        "bf16": False,
        "use_cpu": True,
        "logging_steps": 1,
        "save_steps": 2,
        "seed": 1,
        "output_dir": str(output),
        **changes,
    }


def write_run(folder: Path, policy: Path, data: Path, **changes) -> Path:
    """The YAML of such a run, which writes into `out` beside it."""
    file = folder / "run.yaml"
    file.write_text(yaml.safe_dump(grpo_settings(policy, data, folder / "out", **changes)))
    return file


@pytest.fixture
def write_config(policy_dir, rl_data, tmp_path):
    return lambda **changes: write_run(tmp_path, policy_dir, rl_data, **changes)


# Of one file: in between, other files take accelerate's state away, which the trainer still needs.
@pytest.fixture(scope="module")
def whole_run(policy_dir, rl_data, tmp_path_factory):
    """Four steps without interruption: the settings' file, the folder, the trainer."""
    from .runs import run

    folder = tmp_path_factory.mktemp("whole")
    held_out = {"eval_dataset": "rl_test", "max_eval_samples": 4, "eval_strategy": "steps", "eval_steps": 2}
    file = write_run(folder, policy_dir, rl_data, **held_out, per_device_eval_batch_size=8, beta=0.05)
    return file, folder / "out", run(file)
