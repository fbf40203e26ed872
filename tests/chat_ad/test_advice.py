"""What messages tell a user to type exists in the command that prints them, as far as imports tell who that is."""

import argparse
import ast
import importlib
import re
from functools import cache
from pathlib import Path

import pytest

import adcopilot
import adcopilot.chat_ad
from adcopilot.cli import COMMANDS

ROOT = Path(adcopilot.__file__).parent
CHAT_AD = Path(adcopilot.chat_ad.__file__).parent
WORD = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
#: The commands of this package, by their modules.
DATA = {command.module: name for name, command in COMMANDS.items() if command.module.startswith("adcopilot.chat_ad")}

#: Where a module that several commands use says an option of one of them, and why the others never print it so.
ELSEWHERE = {
    ("media", "--media-dir"): "a set without images has no folder of them",
    ("registration", "--replace"): "builds and converters replace their own entries unasked",
    ("runners", "--ray"): "converters and the sample set never start Ray",
    ("losses", "--set"): "the report names the command before it",
    ("losses", "--max-left-out"): "the report names the command before it",
    ("build", "--hints"): "`data build` ends with how `adcopilot inspect` gives the same hints",
    ("build", "--map-threshold"): "`data build` ends with how `adcopilot inspect` gives the same hints",
    ("command", "--good"): "what `adapt` tells `adcopilot calibrate`",
    ("command", "--model"): "`adapt` ends with how `adcopilot inspect` takes its line",
    ("command", "--query-dir"): "`adapt` ends with how `adcopilot inspect` takes its line",
    ("command", "--report"): "`adapt` ends with how `adcopilot inspect` takes its line",
    ("command", "--preset"): "what `adapt` tells `adcopilot init`",
    ("command", "--seed"): "what `adapt` tells `adcopilot init`",
    ("readers", "--set"): "`adapt` has no recipe: paths are told as they are, and it has tried every layout",
    ("base", "--set"): "`adapt` has no recipe: paths are told as they are",
    ("measure", "--set"): "`adapt` reads names and measures nothing",
    ("yaml_sections", "--set"): "only what `--set` assigned is refused so",
}


def module_of(path):
    parts = path.relative_to(CHAT_AD).with_suffix("").parts
    return ".".join(["adcopilot.chat_ad", *(part for part in parts if part != "__init__")])


def place_of(module):
    """Where a module lies, without a suffix."""
    below = module.removeprefix("adcopilot.chat_ad")
    return CHAT_AD.joinpath(*below.split(".")[1:]) if below != module else ROOT.joinpath(*module.split(".")[1:])


@cache
def tree_of(module):
    base = place_of(module)
    path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    return ast.parse(path.read_text()), path.name == "__init__.py"


@cache
def imports_of(module):
    """The modules of `chat_ad` that a module imports, anywhere in it."""
    tree, package = tree_of(module)
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            above = module.split(".")[: len(module.split(".")) - node.level + package]
            base = ".".join([*above, *(node.module or "").split(".")]).rstrip(".")
            for name in (base, *(f"{base}.{alias.name}" for alias in node.names)):
                path = place_of(name)
                if name.startswith("adcopilot.chat_ad") and (path.is_dir() or path.with_suffix(".py").is_file()):
                    found.add(name)
    return found


@cache
def reached(command):
    """Everything that a command's module imports, itself included."""
    seen, pending = set(), [command]
    while pending:
        one = pending.pop()
        if one not in seen:
            seen.add(one)
            pending += imports_of(one)
    return seen


@cache
def options_of(command):
    parser = argparse.ArgumentParser()
    importlib.import_module(command).add_arguments(parser)
    return {text for action in parser._actions for text in action.option_strings}


def messages(module):
    """(line, text) of each text that may be printed: not docstrings, nor what describes options themselves."""
    tree, _ = tree_of(module)
    passed = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                passed.add(first.value)
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("add", "add_argument"):
                passed.update(inner for inner in ast.walk(node) if isinstance(inner, ast.Constant))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in passed:
            yield node.lineno, node.value


MODULES = sorted(module_of(path) for path in CHAT_AD.rglob("*.py"))


@pytest.mark.parametrize("module", MODULES)
def test_options_that_messages_name_exist(module):
    commands = [command for command in DATA if module in reached(command)]
    if module.endswith("general_outputs"):  # holds the words of a converter's command line, no messages
        return
    for line, text in messages(module):
        named = re.sub(r"`adcopilot [^`]*`", "", text)  # which says itself whose options they are
        for word in WORD.findall(named):
            where = f"{module}:{line}: {text!r} names {word}"
            printing = [module] if module in DATA else commands
            if (module.rpartition(".")[2], word) in ELSEWHERE:
                continue
            assert any(word in options_of(command) for command in printing), f"{where}, no such option"
            if module in DATA:
                continue
            without = [DATA[command] for command in commands if word not in options_of(command)]
            assert not without, f"{where}, which {', '.join(without)} cannot be given"


def test_commands_that_messages_name_exist():
    for module in MODULES:
        for line, text in messages(module):
            for found in re.findall(r"`adcopilot ((?:data|eval) [a-z]+(?: [a-z0-9-]+)?)", text):
                assert any(name == found or found.startswith(f"{name} ") for name in COMMANDS) or found.endswith(
                    "convert"
                ), f"{module}:{line}: {found}"
