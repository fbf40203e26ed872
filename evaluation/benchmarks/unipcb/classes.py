"""What a class of defects or components is called, so that an answer in the other language counts.

The benchmark's repository lists the English and the Chinese names of each source dataset's classes in
`scripts/benchmark_generation/test_prior_knowledge.json`. Without that file a class has the one name that the reference
answer gives it.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from adcopilot.errors import UserError

__all__ = ["ClassNames", "plain_name"]

_FILE = Path("scripts/benchmark_generation/test_prior_knowledge.json")
#: Sections of the file that give a class in English → in Chinese, and what they are about.
_SECTIONS = {"defect_map_chinese": "defect", "map_type": "component"}


@dataclass(frozen=True, kw_only=True)
class ClassNames:
    """Names that mean the same class.

    Attributes:
        same: (dataset, `defect` or `component`) → sets of plain names.
    """

    same: Mapping[tuple[str, str], list[set[str]]] = field(default_factory=dict)

    @classmethod
    def below(cls, root: Path) -> ClassNames:
        """From the benchmark's repository; empty where the file is not there.

        Raises:
            UserError: the file is there and is no such file.
        """
        path = root / _FILE
        if not path.is_file():
            return cls()
        try:
            content = json.loads(path.read_text("utf-8-sig"))
            same = {
                (dataset, kind): [{plain_name(one), plain_name(other)} for one, other in info.get(section, {}).items()]
                for dataset, info in content.items()
                for section, kind in _SECTIONS.items()
            }
        except (OSError, ValueError, RecursionError, AttributeError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{path}: not the benchmark's list of classes ({reason}); copy it again") from None
        return cls(same=same)

    def names(self, label: str, *, dataset: str, kind: str) -> list[str]:
        """All plain names of a class, its own among them.

        Args:
            label: as the reference answer has it.
            dataset: the source dataset.
            kind: the question's `type`.
        """
        found = {plain_name(label)}
        for group in self.same.get((dataset, "defect" if "defect" in kind.lower() else "component"), ()):
            if plain_name(label) in group:
                found |= group
        return sorted(found - {""})


def plain_name(label: str) -> str:
    """A name without what does not matter: case, width, and what stands between words (`Missing_Hole`)."""
    return " ".join(re.split(r"[\s_\-/]+", unicodedata.normalize("NFKC", label).casefold())).strip(" .\"'")
