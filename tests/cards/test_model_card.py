"""The card of a model's folder tells what the folders it was made from tell, and else "not recorded"."""

import json

import pytest

from adcopilot.cards import read_card, write_card
from adcopilot.cards.model import write_base_card, write_export_card

# As transformers' trainer writes it for LlamaFactory (4.57.6), shortened.
TRAINER = """---
library_name: {library}
license: other
base_model: {base}
tags:
- llama-factory
---

# {name}

This model is a fine-tuned version of [{base}](https://huggingface.co/{base}) on the {data}.

### Training hyperparameters

- learning_rate: 0.001
- seed: {seed}

### Framework versions

- Transformers 4.57.6
- Pytorch 2.8.0+cu128
"""


def stage(folder, *, base, data="one dataset", seed=42, lora=None, **results):
    folder.mkdir(parents=True)
    text = TRAINER.format(
        library="peft" if lora else "transformers", base=base, name=folder.name, data=data, seed=seed
    )
    (folder / "README.md").write_text(text)
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": 7}))
    (folder / "all_results.json").write_text(json.dumps({"train_loss": 0.81234, **results}))
    if lora:
        (folder / "adapter_config.json").write_text(json.dumps({"r": lora, "lora_alpha": 2 * lora}))
    return folder


@pytest.fixture
def chain(tmp_path):
    """base -> stage0 (in full) -> stage1, stage2 (adapters), and the folder of an export."""
    (tmp_path / "base").mkdir()
    write_base_card(tmp_path / "base", "Qwen/Qwen2.5-VL-7B-Instruct")
    stage(tmp_path / "stage0", base=tmp_path / "base", data="changes dataset", eval_loss=0.5, eval_runtime=3.0)
    stage(tmp_path / "stage1", base=tmp_path / "stage0", data="a, the b and the c datasets", lora=64)
    stage(tmp_path / "stage2", base=tmp_path / "stage0", data="d dataset", lora=8, seed=3)
    out = tmp_path / "merged"
    out.mkdir()
    (out / "config.json").write_text(json.dumps({"num_comparison_tokens": 100, "transformers_version": "4.57.6"}))
    sizes = {"pixels": [3136, 4000], "sides": [56, 80]}
    (out / "processor_config.json").write_text(json.dumps({"trained_sizes": sizes}))
    return tmp_path


def rows(folder) -> list[list[str]]:
    lines = [line for line in (folder / "README.md").read_text().splitlines() if line.startswith("| ")]
    return [[part.strip() for part in line.strip("|").split(" | ")] for line in lines[2:]]


def test_an_export_names_base_stages_data_seeds_and_versions(chain):
    adapters = [str(chain / "stage1"), str(chain / "stage2")]
    write_export_card(chain / "merged", model=str(chain / "stage0"), adapters=adapters)
    text, front = read_card(chain / "merged")
    assert front["base_model"] == front["adcopilot_base"] == "Qwen/Qwen2.5-VL-7B-Instruct"
    assert front["library_name"] == "transformers"
    versions = "Transformers 4.57.6, Pytorch 2.8.0+cu128"
    assert rows(chain / "merged") == [
        ["stage0", "weights in full", "changes", "7", "42", "0.8123", versions],
        ["stage1", "LoRA, rank 64, alpha 128", "a, b, c", "7", "42", "0.8123", versions],
        ["stage2", "LoRA, rank 8, alpha 16", "d", "7", "3", "0.8123", versions],
    ]
    assert "- stage0: eval_loss 0.5\n" in text
    assert "sides of 56 to 80, areas of 3136 to 4000 pixels" in text
    assert str(chain) not in text, "no path of this machine"


def test_an_export_of_an_export_keeps_its_stages(chain):
    write_export_card(chain / "merged", model=str(chain / "stage0"), adapters=[str(chain / "stage1")])
    grpo = stage(chain / "grpo", base=chain / "merged", lora=64)
    about = {"settings": {"dataset": "prompts", "seed": 9}, "versions": {"trl": "0.24.0"}}
    (grpo / "grpo.json").write_text(json.dumps(about))
    (chain / "thinking").mkdir()
    write_export_card(chain / "thinking", model=str(chain / "merged"), adapters=[str(grpo)])
    found = rows(chain / "thinking")
    assert [row[0] for row in found] == ["stage0", "stage1", "grpo"]
    assert found[-1][1:5] == ["GRPO, LoRA, rank 64, alpha 128", "prompts", "7", "9"]
    assert found[-1][-1] == "trl 0.24.0"
    assert read_card(chain / "thinking")[1]["base_model"] == "Qwen/Qwen2.5-VL-7B-Instruct"


def test_what_is_nowhere_is_not_recorded(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "adapter").mkdir()
    write_export_card(tmp_path / "out", model=str(tmp_path / "gone"), adapters=[str(tmp_path / "adapter")])
    text, front = read_card(tmp_path / "out")
    assert "base_model" not in front
    assert rows(tmp_path / "out") == [["adapter", "weights in full", *["not recorded"] * 5]]
    assert "- base: not recorded\n" in text
    assert "Sizes of images in training: not recorded" in text


def test_folders_that_name_each_other_are_no_loop(tmp_path):
    stage(tmp_path / "a", base=tmp_path / "b")
    stage(tmp_path / "b", base=tmp_path / "a")
    (tmp_path / "out").mkdir()
    write_export_card(tmp_path / "out", model=str(tmp_path / "a"), adapters=[])
    assert len(rows(tmp_path / "out")) == 12


def test_somebodys_files_end_no_cell_and_no_line(tmp_path):
    bad = stage(tmp_path / "stage", base="x", data="a | b <script> dataset", lora=1)
    (bad / "trainer_state.json").write_text('{"global_step": "1 | 2\\n| 3"}')
    (bad / "all_results.json").write_text("[" * 100_000)
    (tmp_path / "out").mkdir()
    write_export_card(tmp_path / "out", model=str(bad), adapters=[])
    text = (tmp_path / "out/README.md").read_text()
    assert "<script>" not in text
    assert sum(line.startswith("| ") for line in text.splitlines()) == 3


def test_a_card_is_read_as_it_was_written(tmp_path):
    write_card(tmp_path, {"license": "other", "tags": ["a: b", "ü"]}, ["# one", "", "---"])
    text, front = read_card(tmp_path)
    assert front == {"license": "other", "tags": ["a: b", "ü"]}
    assert text.endswith("# one\n\n---\n")
    (tmp_path / "README.md").write_text("---\n[\n---\n")
    assert read_card(tmp_path) == ("", {})
