"""The files that every text comes from. A user copies the folder `prompts`, edits it and names it with `--prompts`.

    questions.json   the questions of each task
    wording.json     sentences of the annotations-only generator, with {slots}
    families.json    kinds of defects: their words, causes, consequences; how labels are said
    *.jinja          what endpoints are asked

A folder need hold only the files that differ. The SHA-256 of the files that made a record stands in the record.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import UserError, reason_of

__all__ = ["FILES", "PromptFiles"]

FOLDER = Path(__file__).with_name("prompts")

#: Every file, by name; others in a user's folder are refused, because a misspelt one would do nothing.
FILES = (
    "questions.json",
    "wording.json",
    "families.json",
    "system.jinja",
    "caption.jinja",
    "refine.jinja",
    "verify.jinja",
    "dialogue.jinja",
    "think.jinja",
)

_SLOT = re.compile(r"\{([a-z_]+)\}")


class PromptFiles:
    """The files in effect: a user's where there is one, the package's otherwise.

    Args:
        folder: the user's, None for the package's alone.

    Raises:
        UserError: a file is unknown, unreadable or damaged, lacks a list that is needed, or has an unknown slot.
    """

    def __init__(self, *, folder: str | Path | None = None) -> None:
        self._texts = {name: (FOLDER / name).read_text("utf-8") for name in FILES}
        self._own = {name: json.loads(text) for name, text in self._texts.items() if name.endswith(".json")}
        self._paths = {name: FOLDER / name for name in FILES}
        if folder is not None:
            self._overlay(Path(folder))
        self._json = {name: self._parse(name) for name in self._own}
        self._check_wording()
        self._templates = self._compiled()

    def digest(self, *names: str) -> str:
        """SHA-256 of the files named, or of all of them."""
        digest = hashlib.sha256()
        for name in sorted(names or FILES):
            text = self._texts[name].encode()
            digest.update(f"{name}\0{len(text)}\0".encode() + text)
        return digest.hexdigest()

    def data(self, name: str) -> dict:
        """What a JSON file holds."""
        return self._json[name]

    def pick(self, rng: random.Random, name: str, key: str, slots: Mapping[str, str] | None = None) -> str:
        """One of the sentences `key` of a JSON file, its slots filled."""
        return fill(rng.choice(self._json[name][key]), slots or {})

    def render(self, name: str, context: Mapping[str, Any]) -> str:
        """A `.jinja` file with its variables filled.

        Raises:
            UserError: it uses a variable that does not exist, or something that a prompt may not.
        """
        import jinja2

        try:
            return self._templates[name].render(**context).strip()
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            raise UserError(f"{self._paths[name]}: cannot be filled ({reason_of(error)}); repair the prompt") from None

    def _overlay(self, folder: Path) -> None:
        try:
            found = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        except OSError as error:
            raise UserError(f"{folder}: not a folder of prompts ({reason_of(error)})") from None
        for path in found:
            if path.name not in FILES:
                raise UserError(f"{path}: not a file of prompts, expected {', '.join(FILES)}")
            try:
                self._texts[path.name] = path.read_text("utf-8")
            except (OSError, ValueError) as error:
                raise UserError(f"{path}: cannot be read as UTF-8 text ({reason_of(error)})") from None
            self._paths[path.name] = path

    def _parse(self, name: str) -> dict:
        path = self._paths[name]
        try:
            value = json.loads(self._texts[name])
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: not JSON ({reason_of(error)}); repair it or remove it") from None
        if not isinstance(value, dict):
            raise UserError(f"{path}: a {type(value).__name__}, expected a JSON object like the package's")
        missing = sorted(self._own[name].keys() - value.keys())
        if missing:
            raise UserError(f"{path}: has no {missing[0]!r}, which the package's own has; add it")
        return value

    def _check_wording(self) -> None:
        """Each list of sentences may use the slots that the package's own list uses."""
        for name in ("questions.json", "wording.json"):
            original = self._own[name]
            for key, sentences in self._json[name].items():
                where = f"{self._paths[name]}: {key!r}"
                if not isinstance(sentences, list) or not sentences:
                    raise UserError(f"{where} is {str(sentences)[:40]}, expected a list of sentences")
                if not all(isinstance(one, str) and one.strip() for one in sentences):
                    raise UserError(f"{where} holds something that is no sentence; write each in quotes")
                if key not in original:
                    raise UserError(f"{where} is unknown, expected one of {', '.join(sorted(original))}")
                allowed = {slot for one in original[key] for slot in _SLOT.findall(one)}
                unknown = sorted({slot for one in sentences for slot in _SLOT.findall(one)} - allowed)
                if unknown:
                    known = ", ".join(f"{{{slot}}}" for slot in sorted(allowed)) or "no slot"
                    raise UserError(f"{where} uses {{{unknown[0]}}}, expected {known}")

    def _compiled(self) -> dict[str, Any]:
        import jinja2
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        # Sandboxed: labels and drafts are data. Strict: a misspelt variable is an error, not an empty place.
        texts = {name: text for name, text in self._texts.items() if name.endswith(".jinja")}
        environment = ImmutableSandboxedEnvironment(
            loader=jinja2.DictLoader(texts), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        found = {}
        for name in texts:
            try:
                found[name] = environment.get_template(name)
            except jinja2.TemplateError as error:
                raise UserError(f"{self._paths[name]}: not a Jinja template ({reason_of(error)}); repair it") from None
        return found


def fill(text: str, slots: Mapping[str, str]) -> str:
    """A sentence with its {slots} filled, beginning with a capital letter.

    Not `str.format`: a label with braces in it stays text.
    """
    filled = _SLOT.sub(lambda match: slots[match[1]], text)
    return filled[:1].upper() + filled[1:]


def several(items: Sequence[str], *, last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    return f" {last} ".join(filter(None, [", ".join(items[:-1]), *items[-1:]]))
