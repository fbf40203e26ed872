"""Every `--help` ends with an example that can be typed, usages say what is optional; LlamaFactory's commands."""

import contextlib
import io
import shlex
import subprocess
import sys

import pytest

from adcopilot import cli


def help_of(*words: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        assert cli.main([*words, "--help"]) == 0
    return out.getvalue()


def example_of(text: str) -> list[str]:
    """The words of the example that a help text ends with, as a shell would hand them over."""
    *_, title, line = text.rstrip("\n").split("\n")
    assert title == "example:"
    return shlex.split(line.partition(" > ")[0])


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_each_help_ends_with_an_example_that_its_parser_takes(name):
    typed = example_of(help_of(*name.split()))
    assert typed[: len(name.split()) + 1] == ["adcopilot", *name.split()]
    cli.make_parser(name).parse_intermixed_args(typed[len(name.split()) + 1 :])


@pytest.mark.parametrize("group", ["", *cli.GROUPS])
def test_each_group_ends_with_the_example_of_a_command_of_it(group):
    typed = example_of(help_of(*group.split()))
    found = cli._find(typed[1:])
    assert found[0].startswith(group)
    assert typed == shlex.split(cli.COMMANDS[found[0]].example)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_what_may_be_left_out_is_not_asked_for(name):
    """F6: `adcopilot grpo` asked for `config, KEY=VALUE`."""
    for action in cli.make_parser(name)._actions:
        if action.nargs in ("*", "?"):
            assert not action.required, action.dest


def test_grpo_asks_for_its_file_alone(capsys):
    with pytest.raises(SystemExit):
        cli.main(["grpo"])
    assert capsys.readouterr().err == (
        "error: the following arguments are required: config; see `adcopilot grpo --help`\n"
    )


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["train"], "llamafactory-cli train examples/train/tiny/stage0.yaml"),
        (["train", "my.yaml", "seed=1"], "llamafactory-cli train my.yaml seed=1"),
        (["export"], "llamafactory-cli export examples/export/tiny.yaml"),
        (["chat"], "llamafactory-cli chat examples/chat/tiny.yaml"),
        (["webui"], "llamafactory-cli webui"),
    ],
)
def test_what_is_llamafactorys_is_said_in_one_line(typed, meant, capsys, project_root):
    assert cli.main(typed) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert f"type `{meant}`" in said.err
    for word in meant.split():
        assert not word.startswith("examples/") or (project_root / word).is_file()


def test_the_package_is_a_command_too():
    done = subprocess.run(
        [sys.executable, "-m", "adcopilot", "--version"], capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stdout) == (0, f"adcopilot {cli.__version__}\n")
