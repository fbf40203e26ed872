"""Preflight of a stage whose model is still to be trained (F10), by what the YAMLs beside it make that from."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from adcopilot.llamafactory.preflight import _grpo_overrides, with_stand_in


@pytest.fixture
def chain(tmp_path):
    """YAMLs of a chain base -> stage0 -> (stage1, stage2) -> merged -> thinking, and no folder."""
    made = {
        "train/tiny/stage0.yaml": {"model_name_or_path": "saves/base", "output_dir": "saves/stage0"},
        "train/tiny/stage1.yaml": {"model_name_or_path": "saves/stage0", "output_dir": "saves/stage1"},
        "train/tiny/thinking.yaml": {"model_name_or_path": "saves/merged", "output_dir": "saves/thinking"},
        "grpo/tiny.yaml": {"model_name_or_path": "saves/merged", "num_generations": 8, "output_dir": "saves/grpo"},
        "export/tiny.yaml": {"model_name_or_path": "saves/stage0", "export_dir": "saves/merged"},
    }
    for name, settings in made.items():
        path = tmp_path / "examples" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(settings))
    (tmp_path / "examples/train/tiny/broken.yaml").write_text("a: [")
    return tmp_path


@pytest.mark.parametrize("stage", ["stage1", "thinking"])
def test_what_is_not_there_yet_is_checked_with_what_it_is_made_from(chain, monkeypatch, capsys, stage):
    monkeypatch.chdir(chain)
    os.makedirs("saves")  # or it could be somebody's on a hub
    path = Path(f"examples/train/tiny/{stage}.yaml")
    settings = yaml.safe_load(path.read_text())
    assert with_stand_in(settings, path) == settings, "nothing of the chain is there"
    os.makedirs("saves/base")
    assert with_stand_in(settings, path)["model_name_or_path"] == "saves/base"
    assert f"{settings['model_name_or_path']} is not there yet; checked with saves/base" in capsys.readouterr().err
    os.makedirs("saves/stage0")
    assert with_stand_in(settings, path)["model_name_or_path"] == "saves/stage0"


def test_stage_3_too(chain, monkeypatch):
    monkeypatch.chdir(chain)
    path = Path("examples/grpo/tiny.yaml")
    os.makedirs("saves")
    assert _grpo_overrides(path, ["beta=0"]) == ["beta=0"]
    os.makedirs("saves/base")
    assert _grpo_overrides(path, ["beta=0"]) == ["beta=0", "model_name_or_path=saves/base"]
    assert _grpo_overrides(path, ["model_name_or_path=x"]) == ["model_name_or_path=x"]


def test_yamls_that_make_each_other_are_no_loop(chain, monkeypatch):
    monkeypatch.chdir(chain)
    settings = {"model_name_or_path": "saves/a", "output_dir": "saves/b"}
    Path("examples/train/tiny/a.yaml").write_text(yaml.safe_dump(settings))
    Path("examples/train/tiny/b.yaml").write_text(
        yaml.safe_dump({"model_name_or_path": "saves/b", "output_dir": "saves/a"})
    )
    assert with_stand_in(settings, Path("examples/train/tiny/a.yaml")) == settings


def test_stage_1_of_the_examples_needs_a_base_alone(llamafactory, adcopilot_dir, tmp_path, project_root, monkeypatch):
    monkeypatch.delenv("LLAMAFACTORY_VERBOSITY", raising=False)  # a preflight in this process has set it
    for name in ("examples", "data", "dataset_info.json"):
        (tmp_path / name).symlink_to(project_root / name)
    (tmp_path / "saves/tiny").mkdir(parents=True)
    (tmp_path / "saves/tiny/base").symlink_to(adcopilot_dir)
    words = [sys.executable, "-m", "adcopilot", "-q", "preflight", "examples/train/tiny/stage1.yaml"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 2, done.stdout
    samples, memory = done.stdout.splitlines()
    assert samples.startswith("sample_stage1: 22 samples can be trained on")
    assert memory.startswith("memory of one GPU")
    assert done.stderr == ""
