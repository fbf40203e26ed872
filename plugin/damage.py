"""A share of damage that is an error: what a command left out, could not read, or found twice.

A command that was given a thousand things and could use ten must not end as if all were well. It says what was lost
before it says what came out, and from a stated share on it ends non-zero and names the option that allows more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .errors import UserError

__all__ = ["Damage", "share_of"]


def share_of(text: str | float, option: str) -> float:
    """A share from 0 to 1, as an option gives it.

    Raises:
        UserError: it is none.
    """
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:  # NaN too
        raise UserError(f"{option} is {text!r}, expected a share from 0 to 1, such as 0.1")
    return share


@dataclass(frozen=True, kw_only=True)
class Damage:
    """What was lost of what a command was given.

    Attributes:
        given: how many things there were.
        unit: what they are, in the plural: "images", "answers".
        lost: why → how many; reasons of which one thing can have two at a time are counted by the caller as one.
        allowed: the largest share that is no error.
        option: the option that allows more, as it is typed: "--max-left-out".
        said: the counts in the caller's own sentence, in place of "… of … lost: …".
    """

    given: int
    unit: str
    lost: Mapping[str, int] = field(default_factory=dict)
    allowed: float
    option: str
    said: str = ""

    @property
    def count(self) -> int:
        """How many are lost, for any reason."""
        return sum(self.lost.values())

    @property
    def share(self) -> float:
        """The share that is lost, 0 to 1."""
        return self.count / self.given if self.given else 0.0

    @property
    def is_too_much(self) -> bool:
        """Whether the command must end non-zero."""
        return self.share > self.allowed

    def line(self) -> str:
        """One line: the counts, and, where they are too many, the option that allows them. Empty without damage."""
        if not self.count:
            return ""
        reasons = ", ".join(f"{count} {why}" for why, count in self.lost.items() if count)
        line = self.said or f"{self.count} of {self.given} {self.unit} lost: {reasons}"
        if not self.is_too_much:
            return line
        # Rounded up, so that what is printed is enough when it is typed.
        enough = min(1.0, -(-self.count * 100 // self.given) / 100)
        return f"{line}; at most {self.allowed:g} of them may be: mend them, or allow it with {self.option} {enough:g}"
