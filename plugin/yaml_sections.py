"""A YAML file read key by key: every mistake is one line that names the key, the value found and what was expected."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .errors import UserError, did_you_mean, one_line, reason_of, shortened

__all__ = ["REQUIRED", "Section", "assign_all", "read_yaml", "short"]

#: The default of a key that must be there.
REQUIRED = object()

#: No file of settings is larger: PyYAML needs ten seconds for so much.
MAX_BYTES = 1 << 20
#: Nor has it more values, each counted as often as aliases repeat it.
MAX_VALUES = 100_000

_KINDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", dict: "keys with values"}


class Section:
    """The keys below one key of a file; `take` them all, then call `done`.

    Args:
        value: what stands there; None (nothing written) counts as no keys.
        where: the file and the keys above, for messages.

    Raises:
        UserError: something other than keys with values stands there.
    """

    def __init__(self, value: Any, *, where: str) -> None:
        self.where = where
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise UserError(f"{where} is {short(value)}, expected {_KINDS[dict]}")
        for key in value:
            if not isinstance(key, str):
                raise UserError(f"{where}: key {short(key)}, expected a text; write it in quotes")
        self._values = value
        self._known: list[str] = []

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def name(self, key: str) -> str:
        """The full name of a key, for messages."""
        return f"{self.where}.{key}" if not self.where.endswith(":") else f"{self.where} {key}"

    def take(
        self,
        key: str,
        kind: type,
        default: Any = REQUIRED,
        *,
        choices: Sequence[Any] | None = None,
        low: float | None = None,
        high: float | None = None,
    ) -> Any:
        """The value of a key, checked.

        Args:
            key: its name.
            kind: `str`, `int`, `float` or `bool`; a whole number counts as a `float` too.
            default: without the key, or where nothing is written behind it.
            choices: what else it must be one of.
            low, high: the least and the largest number.

        Raises:
            UserError: it is missing or something else.
        """
        value = self.raw(key)
        if value is None:
            if default is REQUIRED:
                raise UserError(f"{self.name(key)} is missing, expected {_expected(kind, choices, low, high)}")
            return default
        if kind is float and type(value) is int and abs(value) < 1e300:
            value = float(value)
        wrong = type(value) is not kind or (kind is float and not math.isfinite(value))
        if not wrong and choices is not None:
            wrong = value not in choices
        if not wrong and kind in (int, float):
            wrong = (low is not None and value < low) or (high is not None and value > high)
        if not wrong and kind is str:
            wrong = not value.strip()
        if wrong:
            hint = did_you_mean(value, map(str, choices)) if choices is not None and isinstance(value, str) else ""
            expected = _expected(kind, choices, low, high)
            raise UserError(f"{self.name(key)} is {short(value)}, expected {expected}{hint}")
        return value

    def raw(self, key: str) -> Any:
        """The value of a key as it stands there, None without it."""
        if key not in self._known:
            self._known.append(key)
        return self._values.get(key)

    def texts(self, key: str, *, choices: Sequence[str] | None = None) -> list[str]:
        """The value of a key as a list of texts; a single text is a list of one.

        Raises:
            UserError: it is something else.
        """
        value = self.raw(key)
        if value is None:
            return []
        values = value if isinstance(value, list) else [value]
        for one in values:
            if not isinstance(one, str) or (choices is not None and one not in choices):
                expected = f"some of {', '.join(map(repr, choices))}" if choices is not None else "a list of texts"
                raise UserError(f"{self.name(key)} holds {short(one)}, expected {expected}")
        if len(set(values)) < len(values):
            raise UserError(f"{self.name(key)} names something twice: {short(values)}; remove one")
        return values

    def section(self, key: str) -> Section:
        """The keys below a key.

        Raises:
            UserError: something else stands there.
        """
        return Section(self.raw(key), where=self.name(key))

    def done(self) -> None:
        """Refuse keys that nobody has asked for.

        Raises:
            UserError: naming the first, and what was probably meant.
        """
        for key in self._values:
            if key not in self._known:
                hint = did_you_mean(key, self._known, otherwise=f"there are: {', '.join(self._known)}")
                raise UserError(f"{self.name(key)}: no such key{hint}")


def read_yaml(path: Path) -> Any:
    """What a YAML file holds; nothing in it is executed.

    Raises:
        UserError: it cannot be read, is no YAML, has a key twice, or is larger, deeper or more often repeated by
            aliases than any file of settings.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
        text = content[:MAX_BYTES].decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if len(content) <= MAX_BYTES:
            kind = ", but UTF-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else ""
            raise UserError(f"{path}: cannot be read (not UTF-8 text{kind}); save it as UTF-8") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise UserError(f"{path}: cannot be read ({reason_of(error)}); check the path") from None
    if len(content) > MAX_BYTES:
        raise UserError(f"{path}: more than {MAX_BYTES >> 10} KiB, expected a file of settings; is it the right one?")
    return _load(text, str(path))


def _load(text: str, name: str) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """Refuses a second value for a key, which YAML would silently prefer."""

    def mapping(loader, node):
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = loader.construct_object(key_node, deep=True)
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} stands there twice", key_node.start_mark
                )
            seen.add(key_node.value)
        loader.flatten_mapping(node)
        return loader.construct_mapping(node, deep=True)

    Loader.add_constructor("tag:yaml.org,2002:map", mapping)
    try:
        loader = Loader(text)  # a subclass of SafeLoader
        try:
            node = loader.get_single_node()
            _refuse_many(node, name)
            return None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except UserError:
        raise
    except RecursionError:
        raise UserError(f"{name}: not YAML (nested too deeply), expected keys with values") from None
    # AttributeError, KeyError: PyYAML at a tag that does not fit its value, such as `!!float x` or `!!bool 3`.
    except (yaml.YAMLError, TypeError, ValueError, OverflowError, AttributeError, KeyError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        reason = shortened(getattr(error, "problem", None) or one_line(error), 160)
        raise UserError(f"{name}{line}: not YAML ({reason})") from None


def _refuse_many(node: Any, name: str) -> None:
    """Refuse what aliases repeat too often, by counting the values that a reader would see, each node once.

    Nine lines of nine aliases each stand for a thousand million values, which any walk over them would go through.
    """
    if node is None:
        return
    counts: dict[int, int | None] = {}  # None while a node's children are being counted
    stack = [(node, False)]
    while stack:
        one, counted = stack.pop()
        below = [] if isinstance(one.value, str) else one.value
        below = [child for entry in below for child in (entry if isinstance(entry, tuple) else (entry,))]
        if counted:
            counts[id(one)] = 1 + sum(counts[id(child)] or 0 for child in below)
        elif id(one) not in counts:
            counts[id(one)] = None
            stack.append((one, True))
            for child in below:
                if counts.get(id(child), 0) is None:
                    raise UserError(f"{name}: an alias (*) stands within what it names; write it out")
                stack.append((child, False))
    if counts[id(node)] > MAX_VALUES:
        raise UserError(
            f"{name}: its aliases (*) repeat values more than {MAX_VALUES} times, expected a file of settings; write "
            "out what is needed"
        )


def assign_all(
    values: Any, assignments: Sequence[str], *, option: str = "--set ", example: str = "datasets.mpdd.root=/data/MPDD"
) -> None:
    """Apply each `a.b.c=VALUE` to what `read_yaml` gave; VALUE is read as YAML.

    Args:
        values: changed in place.
        assignments: what a user typed.
        option: what stands before each.
        example: of one.

    Raises:
        UserError: one has another form, a key above is no section, or a key is given twice, of which the last would
            win silently.
    """
    given: dict[str, str] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        name = name.strip()
        if name in given:
            raise UserError(f"{name} is given twice, {short(given[name])} and {short(assignment)}; expected once")
        given[name] = assignment
        said, keys = f"{option}{shortened(assignment)}", name.split(".")
        if not equals or not all(keys):
            raise UserError(f"{said}: expected KEY=VALUE, as in {example}")
        try:
            value = _load(text, name)
        except UserError as error:
            raise UserError(f"{said}: {error}; put it in quotes") from None
        place = values
        for depth, key in enumerate(keys[:-1], 1):
            place = place.setdefault(key, {}) if isinstance(place, dict) else None
            if not isinstance(place, dict):
                raise UserError(f"{said}: there are no keys below {'.'.join(keys[:depth])!r}")
        place[keys[-1]] = value


def short(value: Any) -> str:
    """A value for a message."""
    try:
        text = " ".join(repr(value).split())
    except (ValueError, RecursionError):  # an integer of thousands of digits, which YAML reads in hexadecimal
        text = f"a {type(value).__name__} too large to be shown"
    return text if len(text) <= 60 else text[:57] + "…"


def _expected(kind: type, choices, low, high) -> str:
    if choices is not None:
        return f"one of {', '.join(map(str, choices))}"
    text = _KINDS[kind]
    if low is not None and high is not None:
        text += f" from {low:g} to {high:g}"
    elif low is not None:
        text += f", {low:g} or more"
    elif high is not None:
        text += f", {high:g} or less"
    return text
