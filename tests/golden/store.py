"""The goldens of an area: read, compared, written."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .normal import as_text

__all__ = ["Area", "Numbers", "writing"]

FOLDER = Path(__file__).parent
#: Texts of runs that passed, named by their SHA-256: what a diff is made from where a golden is a digest.
KEPT = FOLDER.parents[1] / ".pytest_cache" / "golden"
#: Bytes of the longest text that a golden holds in full, and of the longest that is kept for a diff.
SHORT, LONG = 1500, 4 << 20
#: A number that is no whole one.
NUMBER = re.compile(r"-?(?<![\w.])\d+\.\d+(?:e-?\d+)?(?![\w.])|-?(?<![\w.])\d+e-\d+(?![\w.])")
#: Lines of a diff, and characters of a line.
MOST_LINES, MOST_WIDTH = 60, 400


@dataclass(frozen=True)
class Numbers:
    """A text with numbers that a model computed: another CPU adds in another order, so they may differ a little.

    Attributes:
        text: all of it but the numbers is exact.
        tolerance: of each number, relative, and absolute below 1; stored beside them. One unit of the last digit that
            is written is always allowed.
    """

    text: str
    tolerance: float = 1e-3

    def rounded(self) -> str:
        """To the digits that are worth keeping."""
        return NUMBER.sub(lambda match: repr(float(f"{float(match[0]):.6g}")), self.text)

    def like(self, golden: str) -> bool:
        """Whether it is the golden's, but for the tolerance."""
        if NUMBER.split(golden) != NUMBER.split(self.text):
            return False
        pairs = zip(NUMBER.findall(golden), NUMBER.findall(self.text), strict=True)
        return all(
            math.isclose(float(one), float(other), rel_tol=self.tolerance, abs_tol=self.tolerance + 1.1 * unit(one))
            for one, other in pairs
        )


def unit(number: str) -> float:
    """One of the last digit of a number as it is written: 0.01 of `3.14`, 0 where it has an exponent."""
    return 0.0 if "e" in number else 10.0 ** -len(number.partition(".")[2])


def writing() -> bool:
    """Whether goldens are written, not compared: `python -m tests.golden --write`."""
    return os.environ.get("ADCOPILOT_GOLDEN") == "write"


class Area:
    """One file of goldens: group → name → what it is, as `entry` makes it."""

    def __init__(self, name: str, *, short: int = SHORT) -> None:
        self.path = FOLDER / f"{name}.json"
        self.short = short
        self._new: dict[str, dict[str, Any]] = {}
        self._held = {} if writing() or not self.path.exists() else json.loads(self.path.read_text("utf-8"))

    def check(self, group: str, outputs: Mapping[str, bytes | str | Numbers]) -> None:
        """Compare a group of outputs with the goldens. Where they are written, a second time with the first.

        Raises:
            AssertionError: it names every output that is new, missing or differs, texts with a diff.
        """
        outputs = {name: one.encode() if isinstance(one, str) else one for name, one in sorted(outputs.items())}
        if writing() and group not in self._new:
            self._new[group] = {name: entry(one, self.short) for name, one in outputs.items()}
        goldens = (self._new if writing() else self._held).get(group, {})
        said = [f"{group}/{name}: is no longer made" for name in goldens if name not in outputs]
        said += [f"{group}/{name}: is new" for name in outputs if name not in goldens]
        for name, content in outputs.items():
            if name in goldens and not same(goldens[name], content, self.short):
                said.append(f"{group}/{name}: differs from {self.path.name}\n{difference(goldens[name], content)}")
        for content in outputs.values():
            keep(content)  # also where others differ: the texts of this run may be the next one's goldens
        if said:
            raise AssertionError("\n".join([*said, "if this is wanted, see tests/golden/__init__.py"]))

    def write(self) -> None:
        """Write what `check` has been given."""
        text = json.dumps(dict(sorted(self._new.items())), ensure_ascii=False, indent=1)
        self.path.write_text(text + "\n", "utf-8")


def entry(content: bytes | Numbers, short: int) -> Any:
    """What a golden holds of an output: the lines of a short text, `SHA-256 size`, or lines with a tolerance."""
    if isinstance(content, Numbers):
        return {"tolerance": content.tolerance, "lines": content.rounded().split("\n")}
    text = as_text(content)
    if text is not None and len(content) <= short:
        return text.split("\n")
    return f"{hashlib.sha256(content).hexdigest()} {len(content)}"


def same(golden: Any, content: bytes | Numbers, short: int) -> bool:
    """Whether an output is the golden's."""
    if isinstance(content, Numbers) and isinstance(golden, dict):
        return content.like("\n".join(golden["lines"]))
    return golden == entry(content, short)


def difference(golden: Any, content: bytes | Numbers) -> str:
    """The difference for a person."""
    if isinstance(content, Numbers):
        content = content.rounded().encode()
    before, after = golden_text(golden), as_text(content)
    if after is None or before is None:
        how = "" if after is None else "; for a diff run the harness once on the commit before (see __init__.py)"
        return f"  was {golden!s:.90}, is {hashlib.sha256(content).hexdigest()} {len(content)}{how}"
    lines = difflib.unified_diff(before.split("\n"), after.split("\n"), "golden", "now", lineterm="", n=1)
    shown = [line if len(line) <= MOST_WIDTH else f"{line[:MOST_WIDTH]}…" for line in lines]
    return "\n".join(shown[:MOST_LINES] + (["…"] if len(shown) > MOST_LINES else []))


def golden_text(golden: Any) -> str | None:
    """The text of a golden: its own, or the one kept of a run that passed."""
    if isinstance(golden, dict):
        golden = golden["lines"]
    if isinstance(golden, list):
        return "\n".join(golden)
    path = KEPT / str(golden).partition(" ")[0]
    return path.read_text("utf-8") if path.is_file() else None


def keep(content: bytes | Numbers) -> None:
    """Keep a text for a later diff."""
    if isinstance(content, Numbers) or len(content) > LONG or as_text(content) is None:
        return
    path = KEPT / hashlib.sha256(content).hexdigest()
    if not path.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        half = path.with_suffix(f".{os.getpid()}")
        half.write_bytes(content)
        half.replace(path)
