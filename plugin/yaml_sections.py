"""A YAML file of settings, and values that replace some of its own: every mistake in them is one line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import UserError, one_line, reason_of, shortened

__all__ = ["assign_all", "read_yaml", "short"]

#: No file of settings is larger: PyYAML needs ten seconds for so much.
MAX_BYTES = 1 << 20
#: Nor has it more values, each counted as often as aliases repeat it.
MAX_VALUES = 100_000


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
