"""The words of the command line: every help text, and every text of an error."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from adcopilot import cli

#: Where the product lies; tests and benchmarks are none of it.
PRODUCT = ("plugin", "evaluation", "data")


def commands() -> list[str]:
    """Every command and group of the command line, as it lists them itself."""
    words = {" ".join(name.split()[:depth]) for name in cli.COMMANDS for depth in range(len(name.split()) + 1)}
    return sorted(words)


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="argparse writes `-s, --long VALUE` from Python 3.13 on")
def test_help(area, here):
    outputs = {}
    for name in commands():
        outputs[f"adcopilot {name}".strip()] = here.text(here.run(*name.split(), "--help"))
    area.check("help", outputs)


def test_errors(area, project_root):
    found = set()
    for folder in PRODUCT:
        for path in (project_root / folder).rglob("*.py"):
            found |= set(error_texts(path))
    # One output, so that an error that moves from one file to another changes nothing.
    area.check("errors", {"errors": "\n".join(sorted(found))})


def error_texts(path: Path):
    """Yield the texts that a file gives to `…Error(…)`, fields as {}."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and node.args and _called(node.func).endswith("Error"):
            yield from (text for text in _texts(node.args[0]) if text.replace("{}", "").strip())


def _called(function: ast.expr) -> str:
    return getattr(function, "id", None) or getattr(function, "attr", "")


def _texts(node: ast.expr) -> list[str]:
    """What an expression can say: one text, or one for each branch of a condition."""
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.JoinedStr):
        return ["".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)]
    if isinstance(node, ast.IfExp):
        return [*_texts(node.body), *_texts(node.orelse)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [left + right for left in _texts(node.left) for right in _texts(node.right)]
    return ["{}"]
