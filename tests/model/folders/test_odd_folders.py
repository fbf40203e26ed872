"""`adcopilot init` and `transfer` on folders that are not as they should be: one line, and nothing of anybody's is
touched."""

import os
import shutil
from pathlib import Path

import pytest

from adcopilot.cli import main
from adcopilot.model.conversion import ORIGIN_FILE

from ...helpers.model_folders import damage


@pytest.fixture
def base(qwen_base_dir, tmp_path) -> Path:
    """The small base, to be changed."""
    return Path(shutil.copytree(qwen_base_dir, tmp_path / "base"))


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("*token* vocab* merges*", None, "its tokenizer cannot be used"),
        ("tokenizer.json", "{", "its tokenizer cannot be used"),
        ("preprocessor_config.json", None, "its processor cannot be used"),
        ("preprocessor_config.json", "{", "its processor cannot be used"),
        ("generation_config.json", "[", "its generation_config.json cannot be used"),
        ("model.safetensors.index.json", '{"weight_map": {"a": 5, "b": "c"}}', "5: not found"),
        ("model.safetensors.index.json", '{"weight_map": {"a": []}}', "[]: not found"),
        (
            "model.safetensors.index.json",
            '{"weight_map": {"x": "../model.safetensors"}}',
            "model.safetensors, expected a file beside it",
        ),
        ("model.safetensors", None, "no weights, expected model.safetensors"),
        ("config.json", None, "config.json: not found"),
        ("config.json", "{", "config.json: not JSON"),
        ("config.json", {"model_type": "llava"}, "model_type is 'llava', expected 'qwen2_5_vl'"),
        ("config.json", {"model_type": "adcopilot"}, "is an AD-Copilot model already"),
        ("config.json", {"text_config.hidden_size": "x"}, "its config.json cannot be used"),
        ("config.json", {"dtype": "float99", "torch_dtype": "float99"}, "its config.json cannot be used"),
        ("config.json", {"dtype": "int8", "torch_dtype": "int8"}, "int8, expected that of the weights"),
    ],
)
@pytest.mark.parametrize("made_by", ["init", "transfer"])
def test_a_base_that_cannot_be_read(base, checked_dir, tmp_path, command, made_by, name, content, says):
    """By all that reads it, and before anything is written: not as if the disk were full."""
    damage(base, name, content)
    before = files(tmp_path)
    words = ["--model", checked_dir] if made_by == "transfer" else []
    code, lines = command(made_by, *words, "--base", base, "--output", tmp_path / "out")
    assert code == 2
    assert says in lines[0]
    assert str(base) in lines[0]
    assert files(tmp_path) == before


@pytest.mark.parametrize("made_by", ["init", "transfer"])
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_lies_where_an_unfinished_one_would_is_not_removed(base, checked_dir, tmp_path, command, made_by, kind):
    mine = tmp_path / "out.partial"
    if kind == "folder":
        mine.mkdir()
        mine = mine / "notes.txt"
    mine.write_text("mine")
    words = ["--model", checked_dir] if made_by == "transfer" else []
    code, lines = command(made_by, *words, "--base", base, "--output", tmp_path / "out")
    assert code == 2
    assert f"{tmp_path / 'out.partial'}: is needed for what is not finished, but holds something else" in lines[0]
    assert mine.read_text() == "mine"


def test_an_output_that_is_a_link(base, tmp_path, command):
    (tmp_path / "disk").mkdir()
    for target in ("disk/there", "disk/new"):
        if target == "disk/there":
            (tmp_path / target).mkdir()
        link = tmp_path / f"link to {Path(target).name} ä图"
        link.symlink_to(tmp_path / target)
        code, lines = command("init", "--base", base, "--output", link)
        assert (code, lines) == (0, [f"wrote {link}"])
        assert link.is_symlink()
        assert (tmp_path / target / "config.json").is_file()
        assert not (tmp_path / target / ORIGIN_FILE).exists()


def test_an_output_that_is_where_one_is(base, tmp_path, command, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    code, lines = command("init", "--base", base, "--output", ".")
    assert code == 2
    assert "is the folder you are in" in lines[0]
    assert sorted(os.listdir(tmp_path)) == ["base", "here"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--comparison-num-heads", "0"], "comparison_num_heads is 0, expected 1 or more"),
        (["--comparison-num-heads", "-1"], "comparison_num_heads is -1, expected 1 or more"),
        (["--comparison-num-heads", "7"], "comparison_num_heads is 7, "),
        (["--num-comparison-tokens", "0"], "num_comparison_tokens is 0, "),
        (["--seed", str(1 << 64)], "18446744073709551616 is no number of 64 bits"),
    ],
)
def test_numbers_that_the_base_cannot_have(base, tmp_path, capsys, words, says):
    try:  # of the options' parser, or of the conversion
        code = main(["init", "--base", str(base), "--output", str(tmp_path / "out"), *words])
    except SystemExit as stop:
        code = stop.code
    said = capsys.readouterr().err
    assert (code, said.count("\n")) == (2, 1)
    assert said.startswith("error: ")
    assert says in said
    assert "seed" in words[0] or "; choose another value" in said
    assert not (tmp_path / "out").exists()
