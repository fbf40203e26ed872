"""The prompt that a script of MMAD's repository builds, read off its syntax tree.

A script has a class with `get_query(self, conversation)`, which puts a prompt together out of string literals, and
`parse_conversation`, which writes questions and options out; either may come from a class that it imports from another
script.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from adcopilot.answering.items import Part
from adcopilot.errors import UserError, shortened

from .script_module import Module, NotKnown, methods
from .script_question import flags_of, question_text, texts_of
from .script_reader import KNOWLEDGE, QUESTIONS, TOKEN, Image, Off, Returned, ScriptReader, Unknown
from .words import PromptWords

__all__ = ["read_words"]


def read_words(module: Module, *, shots: int) -> tuple[PromptWords, list[str]]:
    """The words of a script's prompt with so many templates.

    Returns:
        The words, and notes on what a reader of scores has to know about them.

    Raises:
        UserError: the script has no such methods, or its text holds what is not known here; it names the line.
    """
    queries, parsers = (next(methods(module, name), None) for name in ("get_query", "parse_conversation"))
    for name, there in (("get_query", queries), ("parse_conversation", parsers)):
        if there is None:
            constants = ", ".join(sorted(module.constants())[:8]) or "none"
            raise UserError(
                f"{module.path}: has no method {name}, expected a script that builds MMAD's prompt (constants found: "
                f"{constants}); give another with --protocol-file"
            )
    notes: list[str] = []
    place = queries[0]
    try:
        prefixes = {}
        for told in (False, True):
            place = queries[0]
            reader = ScriptReader(place, shots=shots, told=told, notes=notes)
            parts = _parts(reader, queries[1], QUESTIONS[:1])
            prefixes[told], tail = _cut(parts, shots=shots, picture_words=_picture_words(module), notes=notes)
            if told and not any(isinstance(part, str) and KNOWLEDGE in part for part in prefixes[told]):
                prefixes[told] = ()
        two, last = _cut(_parts(ScriptReader(place, shots=shots, told=False, notes=[]), queries[1], QUESTIONS),
                         shots=shots, picture_words=_picture_words(module), notes=[])  # fmt: skip
        between = last.partition(QUESTIONS[1])[0].removeprefix(QUESTIONS[0]) if two == prefixes[False] else ""
        place = parsers[0]
        reader = ScriptReader(place, shots=shots, told=False, notes=[])
        asked, option, separator = question_text(texts_of(reader, parsers[1], flags_of(module, parsers[1], notes)))
    except NotKnown as error:
        line = f", line {error.line}" if error.line else ""
        top = ", ".join(sorted(place.constants())[:8]) or "nothing"
        known = f" (set at the top of the file: {top})" if "not known here" in str(error) else ""
        raise UserError(f"{place.path}{line}: {error}{known}; give another script with --protocol-file") from None
    except RecursionError:
        raise UserError(f"{place.path}: nested too deeply; give another script with --protocol-file") from None
    words = PromptWords(
        untold=prefixes[False],
        told=tuple(part.replace(KNOWLEDGE, "{text}") if isinstance(part, str) else part for part in prefixes[True]),
        question=asked,
        after=tail.removeprefix(QUESTIONS[0]),
        option=option,
        option_separator=separator,
        between=between,
    )
    return words, list(dict.fromkeys(notes))


def _parts(reader: ScriptReader, function: ast.FunctionDef, questions: Sequence[str]) -> list[str | Image]:
    """What `get_query` returns for some questions: texts and images in order."""
    names = [one.arg for one in function.args.args]
    if len(names) < 2:
        raise NotKnown("get_query takes no questions", function)
    env: dict[str, Any] = dict.fromkeys(names[2:], Off())
    env[names[1]] = [{"type": "text", "text": one} for one in questions]
    found = reader.run(function.body, env)
    if not isinstance(found, Returned):
        raise NotKnown("get_query returns nothing that is known", function)
    return _flat(found.value, function, reader.notes)


def _flat(value: Any, node: ast.AST, notes: list[str]) -> list[str | Image]:
    """Texts and images of whatever form of messages a script makes, in order."""
    if isinstance(value, Off) or value is None:
        return []
    if isinstance(value, (str, Image)):
        return [value]
    if isinstance(value, list):
        return [part for one in value for part in _flat(one, node, notes)]
    if isinstance(value, dict):
        if value.get("role") == "system":
            notes.append("the text of its system message stands first in the user's")
        for key in ("messages", "content", "parts", "text", "image", "image_url", "url", "inline_data", "data"):
            if key in value:
                return _flat(value[key], node, notes)
        raise NotKnown(f"a message has {', '.join(value) or 'nothing'}, expected a text or an image", node)
    what = value.what if isinstance(value, Unknown) else str(value)
    raise NotKnown(f"{shortened(what)!r} is part of the prompt and is not known here", node)


def _picture_words(module: Module) -> bool:
    """Whether the chat template is told to number the pictures."""
    nodes = (node for _, one in methods(module, "generate_answer") for node in ast.walk(one))
    return any(
        isinstance(node, ast.keyword)
        and node.arg == "add_vision_id"
        and isinstance(node.value, ast.Constant)
        and node.value.value is True
        for node in nodes
    )


def _cut(
    parts: Sequence[str | Image], *, shots: int, picture_words: bool, notes: list[str]
) -> tuple[tuple[Part, ...], str]:
    """(what stands before the first question, the text from there on); images by their places."""
    texts = [part for part in parts if isinstance(part, str)]
    tokens = sum(text.count(TOKEN) for text in texts)
    images = [part.index for part in parts if isinstance(part, Image)]
    if tokens and images:
        raise NotKnown("images stand both as parts and as words")
    if not tokens and not images:
        notes.append("the text names no place for images: they stand first")
        parts = [*map(Image, range(shots + 1)), *parts]
    elif tokens:
        split: list[str | Image] = []
        for text in texts:
            for number, piece in enumerate(text.split(TOKEN)):
                split += [Image(sum(isinstance(one, Image) for one in split))] if number else []
                split += [piece] if piece else []
        parts = split
    places = [part.index for part in parts if isinstance(part, Image)]
    if places != list(range(shots + 1)):
        raise NotKnown(f"shows the images {places}, expected {shots} templates and then the query")
    before: list[Part] = []
    after = ""
    for part in parts:
        if isinstance(part, Image):
            if after:
                raise NotKnown("an image stands behind the question")
            before += [f"Picture {part.index + 1}: "] if picture_words else []
            before.append(part.index)
        elif after or QUESTIONS[0] in part:
            head, mark, tail = ("", "", part) if after else part.partition(QUESTIONS[0])
            before += [head] if head else []
            after += mark + tail
        elif part:
            before.append(part)
    if after.count(QUESTIONS[0]) != 1:
        raise NotKnown("the question does not stand in the text once")
    return tuple(before), after
