"""`adcopilot examples`: what stands in a checkout besides the code, in a folder of one's own."""

import json
from pathlib import Path

import pytest
import yaml

from adcopilot import cli
from adcopilot.cli import examples


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    folder = tmp_path_factory.mktemp("copied") / "mine"
    assert cli.main(["examples", "--output", str(folder), "-q"]) == 0
    return folder


def test_all_is_copied_as_it_is(copied, project_root):
    for name in ("examples/train/tiny/stage0.yaml", "examples/deepspeed/zero3.json", "dataset_info.json"):
        assert (copied / name).read_bytes() == (project_root / name).read_bytes()
    for folder in ("train/7b", "export", "grpo", "chat", "api", "data"):
        assert list((copied / "examples" / folder).glob("*.yaml"))


def test_paths_in_the_yamls_start_there(copied, monkeypatch):
    monkeypatch.chdir(copied)
    info = json.loads(Path("dataset_info.json").read_text())
    for path in sorted(copied.glob("examples/train/tiny/stage*.yaml")):
        settings = yaml.safe_load(path.read_text())
        assert settings["dataset_dir"] == "."
        for name in settings["dataset"].split(","):
            assert (copied / info[name]["file_name"]).is_file()
        assert (copied / settings["media_dir"] / "sample/images").is_dir()
    for path in copied.glob("examples/train/7b/*.yaml"):
        deepspeed = yaml.safe_load(path.read_text()).get("deepspeed")
        assert deepspeed is None or (copied / deepspeed).is_file()


def test_the_example_of_inspect_runs_there(copied, monkeypatch):
    monkeypatch.chdir(copied)
    words = cli.COMMANDS["inspect"].example.split()[1:]
    assert cli.main([*words, "--json"]) == 0
    assert (copied / "out.png").is_file()


def test_the_example_of_register_runs_there(copied, monkeypatch):
    pytest.importorskip("llamafactory", reason="registering asks LlamaFactory what a dataset is")
    monkeypatch.chdir(copied)
    assert cli.main(cli.COMMANDS["data register"].example.split()[1:]) == 0


def test_what_is_there_is_not_overwritten(tmp_path, refusal):
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples/README.md").write_text("mine")
    err = refusal("examples", "--output", tmp_path)
    assert err.startswith(f"error: {tmp_path / 'examples/README.md'}: is there already")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["README.md", "examples"]
    assert (tmp_path / "examples/README.md").read_text() == "mine"


def test_an_installation_without_them_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(examples, "__file__", str(tmp_path / "adcopilot/cli/examples.py"))
    assert cli.main(["examples", "--output", str(tmp_path / "out")]) == 2
    assert "this installation lacks" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
