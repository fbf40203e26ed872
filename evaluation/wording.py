"""Whose words a run asks with. Scores depend on them: the text itself stands in the run, and whose it is in tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adcopilot.jsonl import content_key

__all__ = ["MMAD", "OWN", "UNKNOWN", "Wording"]

#: Of this package, as tables call it.
OWN = "AD-Copilot's wording"
#: Of MMAD's own scripts.
MMAD = "MMAD's wording"
#: Of answers whose questions are not known.
UNKNOWN = "wording not known"


@dataclass(frozen=True, kw_only=True)
class Wording:
    """What questions are asked with.

    Attributes:
        whose: as tables call it.
        text: the templates as used, by what they are.
        file, commit: where another's words were read: a path below a checkout, and its commit; "" where not known.
        notes: what a reader of scores has to know about them.
    """

    whose: str
    text: Mapping[str, Any]
    file: str = ""
    commit: str = ""
    notes: tuple[str, ...] = ()

    def describe(self) -> dict[str, Any]:
        """JSON values; `sha256` is of the text."""
        found: dict[str, Any] = {"whose": self.whose, "sha256": content_key(self.text), "text": dict(self.text)}
        for name in ("file", "commit"):
            if getattr(self, name):
                found[name] = getattr(self, name)
        return {**found, "notes": list(self.notes)} if self.notes else found

    @staticmethod
    def brief(described: Mapping[str, Any]) -> dict[str, Any]:
        """What `describe` gives, without the text: for results, beside which the manifest has it."""
        return {name: value for name, value in described.items() if name != "text"}

    @staticmethod
    def line(described: Mapping[str, Any] | None) -> str:
        """Whose words, and of which file and commit, in a few words; from `describe`, or what a run has of it."""
        if not isinstance(described, Mapping) or not isinstance(described.get("whose"), str):
            return UNKNOWN
        where = [str(described[name]) for name in ("file",) if described.get(name)]
        if described.get("commit"):
            where.append(f"commit {str(described['commit'])[:12]}")
        return f"{described['whose']} ({', '.join(where)})" if where else described["whose"]
