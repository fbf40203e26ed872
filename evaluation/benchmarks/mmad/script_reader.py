"""Text of a script of MMAD's repository, followed through one function of its syntax tree; nothing is run.

Literals, `+`, f-strings, `.format` and `.join` of them are followed, with the few values that a prompt depends on:
templates, query image, domain knowledge, questions and their options. What a script switches on besides (agents,
chains of thought) is off. Anything else that would become part of the text is refused: its value is not known here.
"""

from __future__ import annotations

import ast
import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adcopilot.errors import shortened

from .script_module import Module, NotKnown, unparsed
from .words import PLACES

__all__ = ["KNOWLEDGE", "OPTIONS", "QUESTIONS", "TOKEN", "Image", "Off", "Returned", "ScriptReader", "Unknown"]

_MOST_TEXT = 100_000
_MOST_STEPS = 20_000
# Characters for private use stand for what is filled in later.
QUESTIONS, KNOWLEDGE = ("\ue000", "\ue001"), "\ue002"
#: Of each of these questions, its options.
OPTIONS = ("\ue003\ue004\ue005", "\ue006\ue007\ue008")
#: What stands for an image in scripts that write their prompt as one text.
TOKEN = "<image>"
#: Attributes of a query that this command has no counterpart of: switched off.
_OFF_NAMES = frozenset({"visualization", "agent", "CoT", "defect_shot", "mask_path", "args"})


class Off(list):
    """A switch that is off: false, empty, and so is whatever it has."""


@dataclass(frozen=True)
class Image:
    index: int


@dataclass(frozen=True)
class Unknown:
    what: str


class ScriptReader:
    """Follows the text through one function, with what the prompt depends on; `lenient`: whether what is not known may
    decide about a branch, because it is refused where it becomes part of the text."""

    def __init__(self, module: Module, *, shots: int, told: bool, notes: list[str]) -> None:
        self.module, self.notes, self.steps, self.lenient = module, notes, 0, False
        self.own = {
            "few_shot": [Image(index) for index in range(shots)],
            "image_path": Image(shots),
            "domain_knowledge": KNOWLEDGE if told else None,
        }
        self.resolving: list[tuple[Path, str]] = []

    # Statements

    def run(self, body: Sequence[ast.stmt], env: dict[str, Any]) -> Any:
        """What is returned, in a box, or how a loop is left; None if neither."""
        for node in body:
            self.step(node)
            if isinstance(node, ast.Return):
                return Returned(self.value(node.value, env) if node.value else None)
            if isinstance(node, (ast.Assign, ast.AnnAssign)):
                if node.value is not None:
                    value = self.value(node.value, env)
                    for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                        self.assign(target, value, env)
            elif isinstance(node, ast.AugAssign):
                if isinstance(node.target, ast.Name):
                    left = ast.Name(id=node.target.id, ctx=ast.Load(), lineno=node.lineno)
                    whole = ast.BinOp(left=left, op=node.op, right=node.value, lineno=node.lineno)
                    env[node.target.id] = self.value(whole, env)
            elif isinstance(node, ast.If):
                found = self.run(node.body if self.truth(node.test, env) else node.orelse, env)
                if found is not None:
                    return found
            elif isinstance(node, ast.For):
                for value in self.each(node.iter, env):
                    self.assign(node.target, value, env)
                    found = self.run(node.body, env)
                    if isinstance(found, Returned):
                        return found
                    if isinstance(found, ast.Break):
                        break
            elif isinstance(node, (ast.Break, ast.Continue)):
                return node
            elif isinstance(node, ast.Expr):
                self.call_for_effect(node.value, env)
            elif not isinstance(node, (ast.Pass, ast.Import, ast.ImportFrom, ast.Assert)):
                raise NotKnown(f"a {type(node).__name__.lower()} statement is more than text", node)
        return None

    def step(self, node: ast.AST) -> None:
        self.steps += 1
        if self.steps > _MOST_STEPS:
            raise NotKnown("takes too many steps", node)

    def assign(self, target: ast.expr, value: Any, env: dict[str, Any]) -> None:
        if isinstance(target, ast.Name):
            env[target.id] = value
        elif isinstance(target, (ast.Tuple, ast.List)):
            values = value if isinstance(value, list) and len(value) == len(target.elts) else None
            for place, one in enumerate(target.elts):
                self.assign(one, values[place] if values is not None else Unknown(ast.unparse(target)), env)
        elif isinstance(target, ast.Subscript):
            holder, key = self.value(target.value, env), self.value(target.slice, env)
            if isinstance(holder, dict) and isinstance(key, str):
                holder[key] = value

    def call_for_effect(self, node: ast.expr, env: dict[str, Any]) -> None:
        """`list.append(…)` and `list.extend(…)`; prints and plots are left out."""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "shuffle":
            raise NotKnown("shuffles the options, which is another benchmark with each run", node)
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and len(node.args) == 1):
            return
        if node.func.attr in ("append", "extend") and isinstance(node.func.value, ast.Name):
            holder = env.get(node.func.value.id)
            if isinstance(holder, list) and not isinstance(holder, Off):
                value = self.value(node.args[0], env)
                holder.extend(value if isinstance(value, list) and node.func.attr == "extend" else [value])

    # Expressions

    def truth(self, node: ast.expr, env: dict[str, Any]) -> bool:
        value = self.value(node, env)
        if isinstance(value, Unknown) and self.lenient:
            return True
        if isinstance(value, Unknown):
            raise NotKnown(f"depends on {shortened(value.what)}, which is not known here", node)
        return bool(value)

    def each(self, node: ast.expr, env: dict[str, Any]) -> list[Any]:
        value = self.value(node, env)
        if isinstance(value, list):
            return list(value)
        raise NotKnown(f"goes through {shortened(ast.unparse(node))}, which is not known here", node)

    def value(self, node: ast.expr, env: dict[str, Any]) -> Any:
        self.step(node)
        kind = getattr(self, f"of_{type(node).__name__.lower()}", None)
        found = kind(node, env) if kind else Unknown(unparsed(node))
        if isinstance(found, str) and len(found) > _MOST_TEXT:
            raise NotKnown("makes a text that is too long", node)
        return found

    def of_constant(self, node: ast.Constant, env: dict[str, Any]) -> Any:
        if isinstance(node.value, str):
            used = next(
                (one for one in (*QUESTIONS, KNOWLEDGE, *"".join(OPTIONS), *PLACES) if one in node.value), None
            )
            if used is not None:
                raise NotKnown(f"has {used!r} in its text, which is filled in here", node)
            return node.value
        return node.value if isinstance(node.value, (int, float, type(None))) else Unknown(repr(node.value))

    def of_joinedstr(self, node: ast.JoinedStr, env: dict[str, Any]) -> Any:
        values = []
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                value = self.value(part.value, env)
                if part.format_spec is not None or part.conversion not in (-1, 115):
                    value = Unknown(unparsed(part.value))
                values.append((value, part.value))
            else:
                values.append((self.value(part, env), part))
        images = {value for value, _ in values if isinstance(value, Image)}
        if images:  # an image's address
            return images.pop() if len(images) == 1 else Unknown(unparsed(node))
        return "".join(self.text(value, place) for value, place in values)

    def text(self, value: Any, node: ast.AST) -> str:
        if isinstance(value, (str, int)) and not isinstance(value, bool):
            return str(value)
        what = value.what if isinstance(value, Unknown) else unparsed(node)
        raise NotKnown(f"{shortened(what)!r} stands in the text and is not known here", node)

    def of_binop(self, node: ast.BinOp, env: dict[str, Any]) -> Any:
        left, right = self.value(node.left, env), self.value(node.right, env)
        if isinstance(node.op, ast.Add):
            for kind in (str, int, list):
                if isinstance(left, kind) and isinstance(right, kind):
                    return left + right
        for value, place in ((left, node.left), (right, node.right)):
            if isinstance(value, Unknown):
                return Unknown(value.what or unparsed(place))
        return Unknown(unparsed(node))

    def of_name(self, node: ast.Name, env: dict[str, Any]) -> Any:
        if node.id in env:
            return env[node.id]
        if node.id == "args":
            return Off()
        return self.constant(self.module, node.id)

    def constant(self, module: Module, name: str) -> Any:
        """A name at the top of a script, or of one that it imports from."""
        if (module.path, name) in self.resolving or len(self.resolving) > 20:
            return Unknown(name)
        self.resolving.append((module.path, name))
        try:
            constants = module.constants()
            if name in constants:
                outer, self.module = self.module, module
                try:
                    return self.value(constants[name], {})
                finally:
                    self.module = outer
            origin = module.resolve(name)
            if origin is not None:
                return self.constant(*origin)
            return TOKEN if name == "DEFAULT_IMAGE_TOKEN" else Unknown(name)  # LLaVA's package has it
        finally:
            self.resolving.pop()

    def of_attribute(self, node: ast.Attribute, env: dict[str, Any]) -> Any:
        if isinstance(node.value, ast.Name) and node.value.id == "self":
            if node.attr in self.own:
                value = self.own[node.attr]
                return list(value) if isinstance(value, list) else value
            return Off() if node.attr in _OFF_NAMES else Unknown(unparsed(node))
        return Off() if isinstance(self.value(node.value, env), Off) else Unknown(unparsed(node))

    def of_list(self, node: ast.List | ast.Tuple, env: dict[str, Any]) -> Any:
        return [self.value(one, env) for one in node.elts]

    of_tuple = of_list

    def of_dict(self, node: ast.Dict, env: dict[str, Any]) -> Any:
        keys = [self.value(one, env) if one is not None else None for one in node.keys]
        if not all(isinstance(key, str) for key in keys):
            return Unknown(unparsed(node))
        return {key: self.value(value, env) for key, value in zip(keys, node.values, strict=True)}

    def of_subscript(self, node: ast.Subscript, env: dict[str, Any]) -> Any:
        holder = self.value(node.value, env)
        key = None if isinstance(node.slice, ast.Slice) else self.value(node.slice, env)
        if isinstance(holder, Off):
            return Off()
        if (isinstance(holder, dict) and isinstance(key, str) and key in holder) or (
            isinstance(holder, list) and type(key) is int and -len(holder) <= key < len(holder)
        ):
            return holder[key]
        return Unknown(unparsed(node))

    def of_ifexp(self, node: ast.IfExp, env: dict[str, Any]) -> Any:
        return self.value(node.body if self.truth(node.test, env) else node.orelse, env)

    def of_boolop(self, node: ast.BoolOp, env: dict[str, Any]) -> Any:
        found: Any = None
        for one in node.values:
            found = self.value(one, env)
            if isinstance(found, Unknown) or bool(found) == isinstance(node.op, ast.Or):
                return found
        return found

    def of_unaryop(self, node: ast.UnaryOp, env: dict[str, Any]) -> Any:
        value = self.value(node.operand, env)
        if isinstance(node.op, ast.Not) and not isinstance(value, Unknown):
            return not value
        return -value if isinstance(node.op, ast.USub) and type(value) is int else Unknown(unparsed(node))

    def of_compare(self, node: ast.Compare, env: dict[str, Any]) -> Any:
        left, right = self.value(node.left, env), self.value(node.comparators[0], env)
        if len(node.ops) > 1 or isinstance(left, Unknown) or isinstance(right, Unknown):
            return Unknown(unparsed(node))
        op = node.ops[0]
        if isinstance(op, (ast.Eq, ast.Is)):
            return left == right
        if isinstance(op, (ast.NotEq, ast.IsNot)):
            return left != right
        return False if isinstance(left, Off) else Unknown(unparsed(node))

    def of_listcomp(self, node: ast.ListComp | ast.GeneratorExp, env: dict[str, Any]) -> Any:
        if len(node.generators) != 1 or node.generators[0].ifs:
            return Unknown(unparsed(node))
        found = []
        for value in self.each(node.generators[0].iter, env):
            inner = dict(env)
            self.assign(node.generators[0].target, value, inner)
            found.append(self.value(node.elt, inner))
        return found

    of_generatorexp = of_listcomp

    def of_call(self, node: ast.Call, env: dict[str, Any]) -> Any:
        given = [self.value(one, env) for one in node.args]
        if isinstance(node.func, ast.Attribute):
            holder = self.value(node.func.value, env)
            if isinstance(holder, Off):
                return Off()
            if isinstance(holder, str):
                return self.text_method(node, holder, given, env)
            if isinstance(holder, dict) and not given and node.func.attr in ("keys", "values", "items"):
                return [list(one) if isinstance(one, tuple) else one for one in getattr(holder, node.func.attr)()]
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name == "enumerate" and given and isinstance(given[0], list):
            starts = [*given[1:], *(self.value(one.value, env) for one in node.keywords)] or [0]
            if len(starts) == 1 and type(starts[0]) is int:
                return [[place, one] for place, one in enumerate(given[0], starts[0])]
        if len(given) == 1 and not node.keywords:
            (value,) = given
            if name == "len" and isinstance(value, (list, str, dict)) and value != KNOWLEDGE:
                return len(value)
            if name == "chr" and type(value) is int and 0 <= value < 0xD800:
                return chr(value)
            if name in ("list", "tuple") and isinstance(value, list):
                return list(value)
        images = [value for value in given if isinstance(value, Image)]
        # Whatever reads, shrinks or encodes an image makes that image of it.
        return images[0] if len(images) == 1 else Unknown(unparsed(node.func))

    def text_method(self, node: ast.Call, holder: str, given: list[Any], env: dict[str, Any]) -> Any:
        name = node.func.attr
        if name == "format":
            named = {one.arg: self.value(one.value, env) for one in node.keywords if one.arg}
            return self.formatted(node, holder, given, named)
        if node.keywords:
            return Unknown(unparsed(node))
        if name == "join" and len(given) == 1 and isinstance(given[0], list):
            return holder.join(self.text(one, node) for one in given[0])
        if name == "startswith" and len(given) == 1 and isinstance(given[0], str):
            return holder.startswith(given[0])
        return Unknown(unparsed(node))

    def formatted(self, node: ast.Call, holder: str, given: list[Any], named: dict[str, Any]) -> str:
        found, place = "", 0
        try:
            pieces = list(string.Formatter().parse(holder))
        except ValueError:
            raise NotKnown("its braces do not fit together", node) from None
        for literal, key, spec, conversion in pieces:
            found += literal
            if key is None:
                continue
            if spec or conversion:
                raise NotKnown(f"{{{key}}} is formatted in a way that is not known here", node)
            if key == "" or key.isdigit():
                index = int(key) if key else place
                place += not key
                value = given[index] if index < len(given) else Unknown(f"{{{key}}}")
            else:
                value = named.get(key, Unknown(f"{{{key}}}"))
            found += self.text(value, node)
        return found


@dataclass(frozen=True)
class Returned:
    value: Any
