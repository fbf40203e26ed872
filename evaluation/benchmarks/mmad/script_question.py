"""How a script of MMAD's repository writes a question and its options out: the text of `parse_conversation`."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence

from .script_module import Module, Refused, literal, methods, short, unparsed

__all__ = ["flags_of", "question_text"]


def flags_of(module: Module, parser: ast.FunctionDef, notes: list[str]) -> dict[str, bool]:
    """Yes or no parameters of `parse_conversation`, as the script's own call sets them."""
    names = [one.arg for one in (*parser.args.args, *parser.args.kwonlyargs)]
    positional = [one.arg for one in parser.args.args]
    defaults = dict(zip(reversed(positional), reversed(parser.args.defaults), strict=False))
    defaults |= {
        one.arg: value for one, value in zip(parser.args.kwonlyargs, parser.args.kw_defaults, strict=True) if value
    }
    for _, caller in methods(module, "generate_answer"):
        for node in ast.walk(caller):
            called = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            if not called or node.func.attr != "parse_conversation":
                continue
            for one in node.keywords:
                if one.arg in names:
                    defaults[one.arg] = one.value
                elif one.arg:
                    notes.append(f"the script sets {one.arg}, which parse_conversation does not take: left out")
        break
    return {
        name: node.value
        for name, node in defaults.items()
        if isinstance(node, ast.Constant) and isinstance(node.value, bool)
    }


def question_text(parser: ast.FunctionDef, flags: Mapping[str, bool]) -> tuple[str, str, str]:
    """A question's text with `{question}`, `{options}`, `{number}`; an option's; and what stands between options."""
    found = _Written(flags)
    found.walk(parser.body)
    if found.shuffles:
        raise Refused("shuffles the options, which is another benchmark with each run", found.shuffles)
    if found.asked is None:
        raise Refused('has no {"text": …} for a question', parser)
    if found.options is None or found.asked.count("{options}") != 1 or found.asked.count("{question}") != 1:
        raise Refused("a question's text does not hold the question and its options once each", parser)
    return found.asked, *found.options


class _Written:
    """The texts that a question is made of, statement after statement; `asked` is the whole."""

    def __init__(self, flags: Mapping[str, bool]) -> None:
        self.flags = flags
        self.names: dict[str, str | None] = {}  # None: not known
        self.counters: dict[str, int] = {}  # name → where it begins
        self.options: tuple[str, str] | None = None
        self.asked: str | None = None
        self.shuffles: ast.AST | None = None

    def walk(self, body: Sequence[ast.stmt], *, loop: ast.For | None = None) -> None:
        for node in body:
            if isinstance(node, ast.If):
                chosen = self.chosen(node.test)
                self.walk(node.body if chosen is not False else node.orelse, loop=loop)
            elif isinstance(node, ast.For):
                self.count(node)
                self.walk(node.body, loop=node)
            elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
                if loop is not None and "option" in unparsed(loop.iter).lower():
                    self.names[node.target.id] = "{options}"
                    self.options = _option(node.value, _target_names(loop.target)), ""
                else:
                    before, more = self.names.get(node.target.id), self.known(node.value)
                    self.names[node.target.id] = None if before is None or more is None else before + more
            elif isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Name):
                        self.names[target.id] = self.joined(node.value) or self.known(node.value)
            elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
                self.call(node.value)

    def count(self, node: ast.For) -> None:
        """Remember a loop's counter: `for i, … in enumerate(…)`, from 0 or from 1."""
        names, called = _target_names(node.target), node.iter
        if len(names) > 1 and isinstance(called, ast.Call) and getattr(called.func, "id", "") == "enumerate":
            starts = [*called.args[1:2], *(one.value for one in called.keywords if one.arg == "start")]
            start = starts[0].value if starts and isinstance(starts[0], ast.Constant) else None if starts else 0
            if start in (0, 1):
                self.counters[names[0]] = start

    def known(self, node: ast.expr) -> str | None:
        try:
            return self.template(node)
        except Refused:
            return None

    def chosen(self, test: ast.expr) -> bool | None:
        if isinstance(test, ast.Name):
            return self.flags.get(test.id)
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not) and isinstance(test.operand, ast.Name):
            found = self.flags.get(test.operand.id)
            return None if found is None else not found
        return None

    def joined(self, node: ast.expr) -> str | None:
        """`"…".join(f"{letter}. {text}" for letter, text in …)`, which writes all options at once."""
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "join"):
            return None
        between, inner = node.func.value, node.args[0] if node.args else None
        if isinstance(between, ast.Constant) and isinstance(inner, (ast.GeneratorExp, ast.ListComp)):
            self.options = _option(inner.elt, _target_names(inner.generators[0].target)), str(between.value)
            return "{options}"
        return None

    def call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Attribute) and node.func.attr == "shuffle":
            self.shuffles = node
        for one in node.args:
            if isinstance(one, ast.Dict) and self.asked is None:
                for key, value in zip(one.keys, one.values, strict=True):
                    if isinstance(key, ast.Constant) and key.value == "text":
                        self.asked = self.template(value)

    def template(self, node: ast.expr) -> str:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return literal(node)
        if isinstance(node, ast.JoinedStr):
            return "".join(self.template(part) for part in node.values)
        if isinstance(node, ast.FormattedValue) and node.format_spec is None:
            return self.template(node.value)
        if isinstance(node, ast.IfExp) and self.chosen(node.test) is not None:
            return self.template(node.body if self.chosen(node.test) else node.orelse)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            if not (isinstance(node.left, ast.Name) and node.left.id in self.counters):
                return self.template(node.left) + self.template(node.right)
            if isinstance(node.right, ast.Constant) and node.right.value == 1 - self.counters[node.left.id] == 1:
                return "{number}"
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and node.slice.value == "Question":
            return "{question}"
        if isinstance(node, ast.Name) and self.counters.get(node.id) == 1:
            return "{number}"
        if isinstance(node, ast.Name) and self.names.get(node.id) is not None:
            return self.names[node.id]
        raise Refused(f"{short(unparsed(node))!r} stands in a question's text and is not known here", node)


def _option(node: ast.expr, names: Sequence[str]) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return literal(node)
    if isinstance(node, ast.JoinedStr):
        return "".join(_option(part, names) for part in node.values)
    if isinstance(node, ast.FormattedValue) and node.format_spec is None:
        return _option(node.value, names)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _option(node.left, names) + _option(node.right, names)
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "chr":
        return "{letter}"
    if isinstance(node, ast.Name) and len(names) > 1 and node.id in names[-2:]:
        return "{option}" if node.id == names[-1] else "{letter}"
    raise Refused(f"{short(unparsed(node))!r} stands in an option's text and is not known here", node)


def _target_names(node: ast.expr) -> list[str]:
    return [one.id for one in ast.walk(node) if isinstance(one, ast.Name)]
