"""`adcopilot completion`: scripts in which a shell finds commands, options and values."""

import contextlib
import shutil
import subprocess
import sys

import pytest

from adcopilot import cli

shtab = pytest.importorskip("shtab", reason="needs shtab: the extra completion")


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "adcopilot"
    with path.open("w") as file, contextlib.redirect_stdout(file):
        assert cli.main(["completion", "bash"]) == 0
    return path


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("insp", {"inspect"}),
        ("eval mmad", {"mmad", "mmad-bbox"}),
        ("data convert magic", {"magicbrush"}),
        ("inspect --verdict-from ''", {"model", "map", "either"}),
        ("calibrate --max-m", {"--max-missed"}),
        ("grpo --verb", {"--verbose"}),
    ],
)
def test_bash_finds(script, typed, found):
    words = ["adcopilot", *typed.split()]
    code = (
        f"source {script}; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; "
        f'_shtab_adcopilot; echo "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, timeout=60)
    assert set(done.stdout.split()) == found, done.stderr


def test_zsh_has_every_command(capsys):
    assert cli.main(["completion", "zsh"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("#compdef adcopilot")
    for name in cli.COMMANDS:
        assert name.split()[-1] in out


def test_without_shtab_it_is_said_how_to_have_it(monkeypatch, refusal):
    monkeypatch.setitem(sys.modules, "shtab", None)
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None)
    assert "[completion]" in refusal("completion", "bash")
