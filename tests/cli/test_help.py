"""Every `--help` ends with an example that can be typed, usages say what is optional; LlamaFactory's commands."""

import contextlib
import io
import shlex

import pytest

from adcopilot import cli


def help_of(*words: str) -> str:
    """What `--help` prints of a command or a group, which ends with 0."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            code = cli.main([*words, "--help"])
        except SystemExit as stop:
            code = stop.code
    assert code == 0
    return out.getvalue()


def example_of(text: str) -> list[str]:
    """The words of the example that a help text ends with, as a shell would hand them over."""
    *_, title, line = text.rstrip("\n").split("\n")
    assert title == "example:"
    return shlex.split(line.partition(" > ")[0])


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_each_help_ends_with_an_example_that_its_parser_takes(name):
    text = help_of(*name.split())
    assert text.startswith(f"usage: adcopilot {name}")
    typed = example_of(text)
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
def test_what_is_llamafactorys_is_said_in_one_line(typed, meant, refusal, project_root):
    assert f"type `{meant}`" in refusal(*typed)
    for word in meant.split():
        assert not word.startswith("examples/") or (project_root / word).is_file()
