"""The goldens of an area: read, compared, written."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import os
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
#: Lines of a diff, and characters of a line.
MOST_LINES, MOST_WIDTH = 60, 400


@dataclass(frozen=True)
class Numbers:
    """What a model computes: compared with a tolerance, since another CPU adds in another order.

    Attributes:
        value: JSON; its numbers may differ by `tolerance` (relative, and absolute below 1), all else is exact.
        tolerance: stored beside them.
    """

    value: Any
    tolerance: float = 1e-3


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
    """What a golden holds of an output: the lines of a short text, `SHA-256 size`, or numbers."""
    if isinstance(content, Numbers):
        return {"tolerance": content.tolerance, "numbers": content.value}
    text = as_text(content)
    if text is not None and len(content) <= short:
        return text.split("\n")
    return f"{hashlib.sha256(content).hexdigest()} {len(content)}"


def same(golden: Any, content: bytes | Numbers, short: int) -> bool:
    """Whether an output is the golden's."""
    if isinstance(content, Numbers) and isinstance(golden, dict):
        return not list(_apart(golden["numbers"], content.value, golden["tolerance"], ""))
    return golden == entry(content, short)


def difference(golden: Any, content: bytes | Numbers) -> str:
    """The difference for a person."""
    if isinstance(content, Numbers):
        held = golden if isinstance(golden, dict) else {"numbers": golden, "tolerance": 0}
        return "\n".join(list(_apart(held["numbers"], content.value, held["tolerance"], ""))[:MOST_LINES])
    before, after = golden_text(golden), as_text(content)
    if after is None or before is None:
        how = "" if after is None else "; for a diff run the harness once on the commit before (see __init__.py)"
        return f"  was {golden!s:.90}, is {hashlib.sha256(content).hexdigest()} {len(content)}{how}"
    lines = difflib.unified_diff(before.split("\n"), after.split("\n"), "golden", "now", lineterm="", n=1)
    shown = [line if len(line) <= MOST_WIDTH else f"{line[:MOST_WIDTH]}…" for line in lines]
    return "\n".join(shown[:MOST_LINES] + (["…"] if len(shown) > MOST_LINES else []))


def golden_text(golden: Any) -> str | None:
    """The text of a golden: its own, or the one kept of a run that passed."""
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


def _apart(golden: Any, found: Any, tolerance: float, where: str):
    """Yield a line for each place where two JSON values differ by more than the tolerance."""
    if isinstance(golden, dict) and isinstance(found, dict) and golden.keys() == found.keys():
        for key in golden:
            yield from _apart(golden[key], found[key], tolerance, f"{where}.{key}")
    elif isinstance(golden, list) and isinstance(found, list) and len(golden) == len(found):
        for index, (one, other) in enumerate(zip(golden, found, strict=True)):
            yield from _apart(one, other, tolerance, f"{where}[{index}]")
    elif isinstance(golden, float) and isinstance(found, float | int) and not isinstance(found, bool):
        if not math.isclose(golden, found, rel_tol=tolerance, abs_tol=tolerance):
            yield f"  {where}: was {golden!r}, is {found!r}"
    elif golden != found or type(golden) is not type(found):
        yield f"  {where}: was {golden!r:.300}, is {found!r:.300}"
