"""`adcopilot completion bash|zsh`: a script with which the shell completes commands, options and values, by shtab."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from . import Parser
from .commands import COMMANDS, GROUPS

SHELLS = ("bash", "zsh")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, help="the shell that is to complete")


def run(args: argparse.Namespace) -> int:
    import shtab

    print(shtab.complete(whole_parser(), shell=args.shell))
    return 0


def whole_parser() -> Parser:
    """All commands in one parser, as shtab reads them; it runs nothing."""
    import shtab

    root = Parser(prog="adcopilot")
    root.add_argument("--version", action="store_true", help="the version")
    groups = {"": root.add_subparsers()}
    for name, text in GROUPS.items():
        above, _, word = name.rpartition(" ")
        groups[name] = groups[above].add_parser(word, help=text).add_subparsers()
    for name, command in COMMANDS.items():
        above, _, word = name.rpartition(" ")
        parser = groups[above].add_parser(word, help=command.help)
        importlib.import_module(command.module).add_arguments(parser)
        for action in parser._actions:  # argparse has no other way to them
            if action.type is Path and not action.choices:
                action.complete = shtab.DIRECTORY if "DIR" in str(action.metavar) else shtab.FILE
    return root
