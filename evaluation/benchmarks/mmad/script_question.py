"""How a script of MMAD's repository writes a question and its options out: the text of `parse_conversation`."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from .script_module import Module, NotKnown, methods
from .script_reader import OPTIONS, QUESTIONS, Returned, ScriptReader, Unknown

__all__ = ["flags_of", "question_text", "texts_of"]


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


def texts_of(reader: ScriptReader, function: ast.FunctionDef, flags: Mapping[str, bool]) -> list[str]:
    """The texts that `parse_conversation` makes of `QUESTIONS` with their `OPTIONS`."""
    turns = [
        {"Question": one, "Options": dict(zip("ABC", these, strict=True)), "Answer": "A", "type": "Anomaly Detection"}
        for one, these in zip(QUESTIONS, OPTIONS, strict=True)
    ]
    names = [one.arg for one in (*function.args.args, *function.args.kwonlyargs)]
    env: dict[str, Any] = {name: flags.get(name, Unknown(name)) for name in names}
    env |= {name: {"conversation": turns} for name in names[1:2]}
    reader.lenient = True
    found = reader.run(function.body, env)
    value = found.value if isinstance(found, Returned) else None
    for one in [value, *(value if isinstance(value, list) else [])]:
        made = [turn.get("text") for turn in one if isinstance(turn, dict)] if isinstance(one, list) else []
        if len(made) == len(turns) and all(isinstance(text, str) for text in made):
            return made
    raise NotKnown('has no {"text": …} for a question', function)


def question_text(texts: Sequence[str]) -> tuple[str, str, str]:
    """A question's text with `{question}`, `{options}`, `{number}`; an option's; and what stands between options.

    Args:
        texts: of `script_reader.QUESTIONS` with their `OPTIONS`, as `texts_of` gives them.

    Raises:
        Refused: they do not hold the question and its options once each, in order.
    """
    made = [_one(*one) for one in zip(texts, QUESTIONS, OPTIONS, strict=True)]
    asked, *option = made[0]
    if made[1][1:] != made[0][1:] or len(made[1][0]) != len(asked):
        raise NotKnown("two questions do not have the same words")
    letters = list(asked)
    for place, (one, other) in enumerate(zip(asked, made[1][0], strict=True)):
        if one != other:
            if (one, other) != ("1", "2"):
                raise NotKnown("two questions do not have the same words")
            letters[place] = "{number}"
    return "".join(letters), *option


def _one(text: str, question: str, options: str) -> tuple[str, str, str]:
    """A text's template, with its number as it is; an option's, and what stands between options."""
    places = [text.find(one) for one in options]
    once = all(text.count(one) == 1 for one in (question, *options))
    if not once or places != sorted(places) or places[0] < text.find(question) < places[-1]:
        raise NotKnown("a question's text does not hold the question and its options once each")
    first, second, last = places
    steps = text[first + 1 : second], text[second + 1 : last]
    at = next((place for place, pair in enumerate(zip(*steps, strict=False)) if pair == ("B", "C")), None)
    if at is None:  # options without letters
        before, letter, behind = steps[0], "", ""
    else:
        before, letter, behind = steps[0][:at], "{letter}", steps[0][at + 1 :]
    # The first option has its letter too, and begins as the others do: on its line, as far as they agree.
    own = ("A" if letter else "") + behind
    if steps[1] != before + ("C" if letter else "") + behind or not text[:first].endswith(own):
        raise NotKnown("the options do not have the same form")
    lead = text[: first - len(own)]
    line = before.rpartition("\n")[2]
    start = next(line[size:] for size in range(len(line) + 1) if lead.endswith(line[size:]))
    before, begin = before.removesuffix(start), len(lead) - len(start)
    end = next(before[:size] for size in range(len(before), -1, -1) if text.startswith(before[:size], last + 1))
    asked = text[:begin] + "{options}" + text[last + 1 + len(end) :]
    return asked.replace(question, "{question}"), f"{start}{letter}{behind}{{option}}{end}", before.removeprefix(end)
