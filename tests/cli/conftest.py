"""A command of the tests' own."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from adcopilot import cli


def number_and_root(parser) -> None:
    """The options that a command of the tests has unless it is told otherwise."""
    parser.add_argument("--number", type=int, default=7)
    parser.add_argument("--root", type=Path)


@pytest.fixture
def probe(monkeypatch):
    """Replaces the table by one command, `probe`, whose `run` is the function given."""

    def install(run, add_arguments=number_and_root):
        module = SimpleNamespace(add_arguments=add_arguments, run=run)
        monkeypatch.setitem(sys.modules, "probe_module", module)
        only = {"probe": cli.commands.Command("probe_module", "a probe", "adcopilot probe")}
        monkeypatch.setattr(cli, "COMMANDS", only)

    return install
