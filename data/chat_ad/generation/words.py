"""Labels and category names as datasets write them, as words: `broken_large` → `a large breakage`, `pcb1` → `PCB`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from adcopilot.kinds import defect_name

from ..sources.products import PART, is_product
from .prompt_files import PromptFiles

__all__ = ["Words", "normalise", "number", "stem"]

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_CAPITALS = {"pcb", "usb", "led", "ic", "sim", "cpu"}


def number(count: int) -> str:
    """`two`, `11`."""
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)


@lru_cache(maxsize=4096)
def normalise(name: str) -> str:
    """A name with spaces between its words, in lower case: `BendAnd_parts-mismatch ` → `bend and parts mismatch`."""
    text = unicodedata.normalize("NFC", name)
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    return " ".join(re.sub(r"[_\-\s/\\]+", " ", text).split()).lower()


def article(noun: str) -> str:
    """`a scratch`, `an open circuit`, `an LED`, `a USB adaptor`."""
    spoken = noun.split()[0].lower()
    vowel = spoken[0] in "aeiou" and not re.match(r"u$|usb|uni|use|one\b|eu", spoken)
    return f"{'an' if vowel or spoken == 'led' or spoken in set('fhlmnrsx') else 'a'} {noun}"


class Words:
    """How labels and categories are said.

    Args:
        prompts: its `families.json` says what is known about words.
    """

    def __init__(self, *, prompts: PromptFiles) -> None:
        data = prompts.data("families.json")
        self.families: dict[str, dict] = data["families"]
        self._vague = frozenset(data["vague"])
        self._aliases: dict[str, str] = data["aliases"]
        self._spoken: dict[str, Sequence[str]] = data["spoken"]
        self._no_article = frozenset(data["categories_without_article"])
        self._countable, self._mass, self._plural = (frozenset(data[name]) for name in ("countable", "mass", "plural"))
        # A word may belong to several: a pinhole is a pit, and on a circuit board a kind of its own.
        self._family_of: dict[str, set[str]] = {}
        for name, family in self.families.items():
            for word in family["words"]:
                self._family_of.setdefault(stem(word), set()).add(name)
        # The same few labels are asked about for every pair.
        self.label = lru_cache(maxsize=4096)(self._label)
        self.families_of = lru_cache(maxsize=4096)(self._families)
        self.forms = lru_cache(maxsize=4096)(self._forms)
        self.stems = lru_cache(maxsize=4096)(self._stems)

    def vague(self, label: str) -> bool:
        """Whether a label says no more than that something is wrong."""
        text = normalise(label)
        return text in self._vague or not defect_name(text)

    def _label(self, label: str) -> str:
        """A label as an option or in JSON: `broken large`; `defect` when it says nothing."""
        text = normalise(label)
        return "defect" if self.vague(label) else self._aliases.get(text, text)

    def one(self, label: str) -> str:
        """`a scratch`, `contamination`, `scratches`, `a missing straw`, `a defect of the type “aotu”`."""
        return self.forms(label)[0]

    def many(self, label: str, count: int) -> str:
        """`two scratches`, `three areas of contamination`, `scratches in two places`; `one` for a count of 1."""
        one, before, after = self.forms(label)
        return one if count == 1 else f"{before}{number(count)}{after}"

    def _forms(self, label: str) -> tuple[str, str, str]:
        """How a label is said of one defect, and what stands before and after the number of several."""
        text = self.label(label)
        if text in self._spoken:
            one, more = self._spoken[text]
            return one, "", f" {more}"
        lost = re.fullmatch(r"(.+) (?:is |are )?missing", text)
        if lost:
            one = f"missing {lost[1]}" if self.is_plural(lost[1]) else f"a missing {lost[1]}"
            return one, f"{one} in ", " places"
        noun, tail = re.fullmatch(r"(.+?)((?: (?:on|in|of|at|inside|from|around) .+)?)", text).groups()
        if text == "defect" or (self._is_countable(noun) and " and " not in text):
            return article(text), "", f" {plural(noun)}{tail}"
        if self._is_mass(noun):
            return text, "", f" areas of {text}"
        if self.is_plural(noun):
            return text, f"{text} in ", " places"
        return f"a defect of the type “{text}”", "", f" defects of the type “{text}”"

    def _families(self, label: str) -> frozenset[str]:
        """The families that a label's words belong to; none when nothing is known about them."""
        words = f"{self.label(label)} {' '.join(self._spoken.get(self.label(label), ())[:1])}".split()
        return frozenset().union(*(self._family_of.get(stem(word), ()) for word in words))

    def _stems(self, label: str) -> frozenset[str]:
        """Beginnings of words by which a text may name a label: its own words and those of its families."""
        text = self.label(label)
        own = re.findall(r"\w+", f"{text} {' '.join(self._spoken.get(text, ()))}")
        found = {stem(word) for word in own if len(word) > 2 and word not in _LITTLE}
        for family in self.families_of(label):
            found.update(stem(word) for word in self.families[family]["words"])
        return frozenset(found)

    def names(self, label: str) -> list[str]:
        """The phrases that stand for a label in texts, longest first."""
        text = self.label(label)
        forms = {text, *(re.sub(r"^an? ", "", form) for form in self._spoken.get(text, ()))}
        return sorted(forms, key=lambda form: (-len(form), form))

    def category(self, name: str) -> str:
        """A product's name: without the numbers around it, abbreviations in capitals; `part` where it is none's."""
        text = normalise(name)
        text = re.sub(r"\s*\(\d+\)$", "", text)  # "copy (2)"
        text = re.sub(r"^\d+\s+|(?<=[^\W\d])\s*\d+$", "", text) or text
        return (
            " ".join(word.upper() if word in _CAPITALS else word for word in text.split())
            if is_product(text)
            else PART
        )

    def a_category(self, name: str) -> str:
        """A product's name with its article: `a metal nut`, `wood`, `goji berries`."""
        text = self.category(name)
        last = text.split()[-1].lower()
        several = last.endswith("s") and not last.endswith(("ss", "us", "is", "lens", "gas"))
        return text if several or text.lower() in self._no_article else article(text)

    def _is_mass(self, text: str) -> bool:
        return text.split()[-1] in self._mass

    def _is_countable(self, text: str) -> bool:
        return text.split()[-1] in self._countable

    def is_plural(self, text: str) -> bool:
        """Whether a label is said in the plural: `missing parts`, `scratches on the side`."""
        return re.split(r" (?:on|in|of|at|inside|from|around) ", text)[0].split()[-1] in self._plural


# Words of labels that do not tell a type from another.
_LITTLE = frozenset(
    re.findall(
        r"\w+",
        "defect defects the and area areas large small part parts with all over inside side top place places inner "
        "outer major total front type surface",
    )
)


def plural(noun: str) -> str:
    """`scratches`, `impurities`, `leads`."""
    if re.search(r"(s|x|z|ch|sh)$", noun):
        return noun + "es"
    return noun[:-1] + "ies" if re.search(r"[^aeiou]y$", noun) else noun + "s"


@lru_cache(maxsize=16384)
def stem(word: str) -> str:
    """The beginning that a word's forms share: scratch, scratches, scratched."""
    word = word.lower()
    for ending in ("ations", "ation", "ings", "ing", "ment", "ities", "ity", "ies", "ed", "es", "s", "y", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            break
    return word if len(word) < 4 or word[-1] != word[-2] else word[:-1]
