"""The base of what a recipe may say, and the one line that a mistake in it is told in.

A key's value is checked by its type (pydantic, strictly: "1" is no number); what stands with nothing behind it counts
as not written. `checked` names the key, what was found, and what was expected or probably meant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from ...errors import UserError, did_you_mean
from ...yaml_sections import short

__all__ = [
    "NAME",
    "Count",
    "Folder",
    "Folders",
    "Grey",
    "Share",
    "Spec",
    "Text",
    "Texts",
    "checked",
    "choices",
    "dotted",
    "keys_of",
    "no_such_key",
]

_KINDS = {str: "a text", Path: "a text", int: "a whole number", float: "a number", bool: "true or false"}
_SECTION = "keys with values"

#: The field that says what a section is called; no key that can be written in it.
NAME = "name"


class Spec(BaseModel):
    """A section of a recipe; its fields are the keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _written(cls, values: Any) -> Any:
        if values is None:
            return {}
        return {key: one for key, one in values.items() if one is not None} if isinstance(values, Mapping) else values


_T = TypeVar("_T", bound=Spec)


def _texts(value: Any) -> Any:
    """A single text is a list of one."""
    found = tuple(value) if isinstance(value, list) else (value,) if isinstance(value, str) else value
    if isinstance(found, tuple) and len(set(map(repr, found))) < len(found):
        raise ValueError(f" names something twice: {short(value)}; remove one")
    return found


def _folders(value: Any) -> Any:
    found = _texts(value)
    return tuple(Path(one) if isinstance(one, str) else one for one in found) if isinstance(found, tuple) else found


Text = Annotated[str, Field(pattern=r"\S")]
Texts = Annotated[tuple[str, ...], BeforeValidator(_texts)]
Folder = Annotated[Path, BeforeValidator(lambda text: Path(text) if isinstance(text, str) and text.strip() else text)]
Folders = Annotated[tuple[Path, ...], BeforeValidator(_folders)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Grey = Annotated[float, Field(ge=0, le=255)]


def choices(*names: str) -> Any:
    """A list of some of these names."""
    return Annotated[tuple[Literal[names], ...], BeforeValidator(_texts)]


def checked(kind: type[_T], values: Any, where: str) -> _T:
    """The section `kind` that some values of a file are.

    Args:
        kind: of it.
        values: as YAML gives them.
        where: the file and the keys above, for messages.

    Raises:
        UserError: one line about the first mistake.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        # What is missing or wrong comes before what is not known, which may be a slip of it.
        found = min(error.errors(include_url=False), key=lambda one: one["type"] == "extra_forbidden")
        raise UserError(_line(found, kind, where)) from None


def keys_of(kind: Any) -> dict[str, FieldInfo]:
    """The keys that may stand in a section, each with its field."""
    fields = getattr(kind, "model_fields", {})
    return {field.alias or name: field for name, field in fields.items() if name != NAME}


def no_such_key(where: str, key: str, known: Iterable[str]) -> UserError:
    """That a key is not known, and what was probably meant."""
    known = list(known)
    hint = did_you_mean(key, known, otherwise=f"there are: {', '.join(known)}")
    return UserError(f"{dotted(where, key)}: no such key{hint}")


def dotted(where: str, *keys: str) -> str:
    """The full name of a key, for messages."""
    for key in keys:
        key = key if key.isprintable() else repr(key)
        where = f"{where} {key}" if where.endswith(":") else f"{where}.{key}"
    return where


def _line(error: Mapping[str, Any], kind: Any, where: str) -> str:
    *above, last = ["", *error["loc"]]
    above = [str(key) for key in above[1:]]
    place, field = kind, None
    for key in error["loc"]:
        if key in (fields := keys_of(place)):
            field = fields[key]
            place = _inner(field.annotation)
    if error["type"] == "extra_forbidden":
        return str(no_such_key(dotted(where, *above), str(last), keys_of(place)))
    name = dotted(where, *(str(key) for key in error["loc"] if isinstance(key, str)))
    if error["type"] == "value_error":
        text = str(error["ctx"]["error"])
        return f"{name}{text}" if text.startswith((" ", ".")) else f"{name}: {text}"
    if error["type"] == "missing":
        return f"{name} is missing, expected {_expected(field)}"
    found = short(error["input"])
    if isinstance(last, int) and field is not None:
        names = get_args(get_args(_inner(field.annotation))[0])
        expected = f"some of {', '.join(map(repr, names))}" if names else "a list of texts"
        return f"{name} holds {found}, expected {expected}"
    expected = _SECTION if error["type"] in ("model_type", "dict_type") else _expected(field)
    hint = ""
    if error["type"] == "literal_error" and isinstance(error["input"], str):
        hint = did_you_mean(error["input"], get_args(_inner(field.annotation)))
    return f"{name} is {found}, expected {expected}{hint}"


def _inner(annotation: Any) -> Any:
    """A type without `Annotated` and without `| None`."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
            continue
        options = [one for one in get_args(annotation) if one is not type(None)]
        if len(options) == 1 and type(None) in get_args(annotation):
            annotation = options[0]
            continue
        return annotation


def _expected(field: Any) -> str:
    """What a field takes, in words."""
    if field is None:
        return "something else"
    kind, bounds = _inner(field.annotation), {}
    marks = [*field.metadata]
    for one in (field.annotation, *get_args(field.annotation)):
        marks += get_args(one)[1:] if get_origin(one) is Annotated else ()
    for mark in marks:
        for inner in (mark, *getattr(mark, "metadata", ())):
            bounds |= {name: getattr(inner, name) for name in ("ge", "le", "gt") if hasattr(inner, name)}
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    text = _KINDS.get(kind, "a list of texts" if get_origin(kind) is tuple else _SECTION)
    if "gt" in bounds:
        text += f" above {bounds['gt']:g}"
    if "ge" in bounds and "le" in bounds:
        return f"{text} from {bounds['ge']:g} to {bounds['le']:g}"
    return f"{text}, {bounds['ge']:g} or more" if "ge" in bounds else text
