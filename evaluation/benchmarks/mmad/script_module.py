"""Scripts of MMAD's repository as syntax trees: nothing of them is imported or run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from adcopilot.errors import UserError

__all__ = ["Module", "NotKnown", "load", "methods", "unparsed"]

MOST_BYTES = 1 << 20


class NotKnown(Exception):
    """A text that cannot be known: why, and the line."""

    def __init__(self, why: str, node: ast.AST | None = None) -> None:
        super().__init__(why)
        self.line = getattr(node, "lineno", 0)


@dataclass(kw_only=True)
class Module:
    """A script's syntax tree.

    Attributes:
        path: of the file.
        folder: where modules that it imports lie: the folder of all scripts.
        root: the checkout, which nothing that is read may lie outside of.
        tree: its syntax.
    """

    path: Path
    folder: Path
    root: Path
    tree: ast.Module
    imported: dict[str, tuple[Module, str] | None] = field(default_factory=dict)

    def classes(self) -> dict[str, ast.ClassDef]:
        return {node.name: node for node in self.tree.body if isinstance(node, ast.ClassDef)}

    def constants(self) -> dict[str, ast.expr]:
        """Names at the top of the file and the expression that each is last set to."""
        found: dict[str, ast.expr] = {}
        for node in self.tree.body:
            if isinstance(node, ast.Assign):
                found.update({one.id: node.value for one in node.targets if isinstance(one, ast.Name)})
            elif isinstance(node, ast.AnnAssign) and node.value is not None and isinstance(node.target, ast.Name):
                found[node.target.id] = node.value
        return found

    def resolve(self, name: str) -> tuple[Module, str] | None:
        """The module of the checkout that a name is imported from, and its name there."""
        if name not in self.imported:
            self.imported[name] = None
            for node in self.tree.body:
                if not isinstance(node, ast.ImportFrom) or not node.module:
                    continue
                original = next((one.name for one in node.names if (one.asname or one.name) == name), None)
                file = _module_file(self.folder, node.module) if original else None
                if file is not None:
                    self.imported[name] = (load(file, folder=self.folder, root=self.root), original)
        return self.imported[name]


def _module_file(folder: Path, dotted: str) -> Path | None:
    """`GPT4.gpt4v` → its file below the folder of scripts; where that is not there, the only file of its name (scripts
    of one commit import `GPT4V.gpt4v` from a folder that is called `GPT4`)."""
    parts = dotted.split(".")
    plain = folder.joinpath(*parts).with_suffix(".py")
    if plain.is_file():
        return plain
    same = sorted(folder.glob(f"*/{parts[-1]}.py")) if parts[-1].isidentifier() else []
    return same[0] if len(same) == 1 and same[0].is_file() else None


def load(path: Path, *, folder: Path, root: Path) -> Module:
    """Parse a script.

    Raises:
        UserError: it is not inside `root` once links are followed, too large, no UTF-8, or no Python.
    """
    try:
        if not path.resolve().is_relative_to(root.resolve()):
            raise UserError(f"{path}: is a link that leads out of {root}; expected a script of the checkout")
        if not path.is_file():
            raise UserError(f"{path}: no such file; expected a script of MMAD's repository")
        with open(path, "rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise UserError(f"{path}: larger than {MOST_BYTES} bytes, expected a script of MMAD's repository")
        return Module(path=path, folder=folder, root=root, tree=ast.parse(content.decode("utf-8-sig")))
    except UserError:  # which is a ValueError
        raise
    except UnicodeDecodeError:
        raise UserError(
            f"{path}: not UTF-8, expected a script of MMAD's repository; check the checkout out again"
        ) from None
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        where = f" in line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise UserError(f"{path}: not Python{where}; check the checkout out again") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check --protocol") from None


def methods(module: Module, name: str, *, depth: int = 4) -> Iterator[tuple[Module, ast.FunctionDef]]:
    """The methods of this name: of the last class of a script that has `get_query`, then of what it is made from."""
    classes = module.classes()
    start = next((one for one in reversed(classes.values()) if _method(one, "get_query")), None)
    start = start or next(reversed(classes.values()), None)
    if start is not None:
        yield from _inherited(module, start, name, depth)


def _inherited(module: Module, one: ast.ClassDef, name: str, depth: int) -> Iterator[tuple[Module, ast.FunctionDef]]:
    found = _method(one, name)
    if found is not None:
        yield module, found
    for base in one.bases if depth else ():
        if not isinstance(base, ast.Name):
            continue
        if base.id in module.classes() and module.classes()[base.id] is not one:
            yield from _inherited(module, module.classes()[base.id], name, depth - 1)
        elif (origin := module.resolve(base.id)) is not None and origin[1] in origin[0].classes():
            yield from _inherited(origin[0], origin[0].classes()[origin[1]], name, depth - 1)


def _method(one: ast.ClassDef, name: str) -> ast.FunctionDef | None:
    return next((node for node in one.body if isinstance(node, ast.FunctionDef) and node.name == name), None)


def unparsed(node: ast.AST) -> str:
    try:
        return ast.unparse(node)
    except (RecursionError, ValueError):
        return type(node).__name__
