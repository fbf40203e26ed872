"""The one exception for mistakes a user can fix, and what the disk says in one line."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

__all__ = [
    "UserError",
    "changed_settings",
    "did_you_mean",
    "one_line",
    "os_reason",
    "reason_of",
    "shortened",
    "writing",
]


class UserError(ValueError):
    """A mistake in a user's input. The message is one line: the file, the value found, what was expected, the fix.

    The command line prints it without a traceback and exits with code 2.
    """


def one_line(error: BaseException) -> str:
    """What an exception of a library says, on one line of at most 300 characters; its kind where it says nothing."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def shortened(text: str, most: int = 60) -> str:
    """A text that a user gave, on one line of at most `most` characters."""
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


def changed_settings(before: Mapping[str, Any], now: Mapping[str, Any], *, within: str = "") -> list[str]:
    """The settings that differ, as `name old, now new`; of nested ones their dotted names."""
    found = []
    for name in dict.fromkeys([*before, *now]):
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found += changed_settings(old, new, within=f"{within}{name}.")
        elif old != new:
            both = (shortened(json.dumps(value, ensure_ascii=False, default=str)) for value in (old, new))
            found.append(f"{within}{name} {', now '.join(both)}")
    return found


def did_you_mean(name: object, known: Iterable[str], *, otherwise: str = "") -> str:
    """The end of a message about a name that is not among the known ones: "; did you mean …?", else "; " and
    `otherwise`, else nothing."""
    near = get_close_matches(str(name), list(known), n=1)
    said = f"did you mean {near[0]}?" if near else otherwise
    return f"; {said}" if said else ""


def reason_of(error: BaseException) -> str:
    """Why a file that the message names cannot be read or written: the system's words, where there are some."""
    return getattr(error, "strerror", None) or one_line(error)


def os_reason(error: OSError) -> str:
    """What the system says about a file that cannot be read or written, with its name where the system gives it."""
    reason = reason_of(error)
    return reason if error.filename is None else f"{os.fsdecode(error.filename)}: {reason}"


@contextmanager
def writing(path: os.PathLike | str, advice: str) -> Iterator[None]:
    """Writing something to `path` in many files: a disk that is full, read-only or gone is one line.

    Raises:
        UserError: instead of any OSError; it ends with `advice`, which says what is kept and how to go on.
    """
    try:
        yield
    except OSError as error:
        reason = reason_of(error)
        where = "" if error.filename in (None, os.fspath(path)) else f" at {os.fsdecode(error.filename)}"
        raise UserError(f"{os.fspath(path)}: cannot be written ({reason}{where}); {advice}") from error
