"""Multiple choice: four options of which the annotation makes exactly one right, its letter balanced."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..draws import dice
from ..sources.products import PART
from .facts import CELLS, cell, cells_touched
from .pair_view import PairView, split_types
from .prompt_files import PromptFiles
from .words import Words, normalise, number, stem

__all__ = ["KINDS", "LETTERS", "NO_DEFECT", "Choice", "Letters", "choose"]

LETTERS = "ABCD"
NO_DEFECT = "no defect"
_BOTH = {False: "neither of them", True: "only the second image"}
_DISCRIMINATION = ("only the first image", "only the second image", "both images", "neither of them")

#: Kinds of questions, and how often each is drawn among those that a pair allows.
KINDS = {"kind": 0.3, "presence": 0.3, "place": 0.15, "discrimination": 0.15, "count": 0.05, "object": 0.05}

_MOST_COUNTED = 6


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A question.

    Attributes:
        kind: one of `KINDS`.
        question: with its options, each on a line of its own.
        options: by letter.
        answer: the letter of the right one.
    """

    kind: str
    question: str
    options: dict[str, str]
    answer: str


class Letters:
    """Deals the letters of right answers: each of the four comes once in every four questions alike.

    Balanced within each kind of question and within normal and anomalous pairs, so that no letter goes with an answer.

    Args:
        seed: of the order within each four.
    """

    def __init__(self, *, seed: int) -> None:
        self._seed = seed
        self._dealt: Counter[tuple[str, bool]] = Counter()

    def deal(self, kind: str, anomalous: bool) -> str:
        """The next letter."""
        index = self._dealt[kind, anomalous]
        self._dealt[kind, anomalous] += 1
        order = list(LETTERS)
        dice(self._seed, kind, anomalous, index // len(LETTERS)).shuffle(order)
        return order[index % len(LETTERS)]


def choose(pair: PairView, rng: random.Random, *, letters: Letters, prompts: PromptFiles, words: Words) -> Choice:
    """A question about a pair; `discrimination` can always be asked, so there always is one."""
    made = {kind: options for kind, make in _MAKERS.items() if (options := make(pair, rng, words)) is not None}
    kind = rng.choices(list(made), weights=[KINDS[name] for name in made])[0]
    right, wrong = made[kind]
    letter = letters.deal(kind, pair.anomalous)
    wrong = list(wrong)
    rng.shuffle(wrong)
    texts = [*wrong[: LETTERS.index(letter)], right, *wrong[LETTERS.index(letter) :]]
    options = dict(zip(LETTERS, texts, strict=True))
    lines = "".join(f"\n{name}. {text}" for name, text in options.items())
    asked = prompts.pick(rng, "questions.json", f"mc_{kind}")
    ending = prompts.pick(rng, "questions.json", "mc_ending")
    return Choice(kind=kind, question=f"{asked}{lines}\n{ending}", options=options, answer=letter)


# Each maker returns (the right option, three wrong ones), or None where the annotation does not decide.
_Options = tuple[str, Sequence[str]] | None


def _discrimination(pair: PairView, rng: random.Random, words: Words) -> _Options:
    right = _BOTH[pair.anomalous]
    return right, [text for text in _DISCRIMINATION if text != right]


def _presence(pair: PairView, rng: random.Random, words: Words) -> _Options:
    """What the second image has: one of its defects, another one, or none."""
    true = _true_labels(pair, words)
    if true is None:
        return None
    wrong = _wrong_labels(pair, rng, words, true, 2 if pair.anomalous else 3)
    if wrong is None:
        return None
    if not pair.anomalous:
        return NO_DEFECT, wrong
    # With several types in view only one is offered, or two letters would be right.
    return rng.choice(true), [NO_DEFECT, *wrong]


def _kind(pair: PairView, rng: random.Random, words: Words) -> _Options:
    true = _true_labels(pair, words)
    if not true:
        return None
    wrong = _wrong_labels(pair, rng, words, true, 3)
    return None if wrong is None else (rng.choice(true), wrong)


def _place(pair: PairView, rng: random.Random, words: Words) -> _Options:
    """Where all boxes are, when they are in one part of the image; parts that a box reaches into are no options."""
    centres = {cell(box, pair.size) for box in pair.boxes}
    touched = set().union(*(cells_touched(box, pair.size) for box in pair.boxes))
    free = [part for row in CELLS for part in row if part not in touched]
    if len(centres) != 1 or len(free) < 3:
        return None
    return centres.pop(), rng.sample(free, 3)


def _count(pair: PairView, rng: random.Random, words: Words) -> _Options:
    """How many regions: not asked of specks, which nobody would count."""
    least = [max(3, length // 100) for length in pair.size]
    if not 1 <= len(pair.boxes) <= _MOST_COUNTED:
        return None
    if any(box[2] - box[0] < least[0] or box[3] - box[1] < least[1] for box in pair.boxes):
        return None
    first = max(1, len(pair.boxes) - rng.randrange(4))
    return number(len(pair.boxes)), [number(n) for n in range(first, first + 4) if n != len(pair.boxes)]


def _object(pair: PairView, rng: random.Random, words: Words) -> _Options:
    right = words.category(pair.category)
    if right == PART:  # nobody has said what it is
        return None
    others = [name for one in pair.other_categories if (name := words.category(one)) != PART]
    distinct = _distinct([right], others)
    return (right, rng.sample(distinct, 3)) if len(distinct) >= 3 else None


_MAKERS: dict[str, Callable[[PairView, random.Random, Words], _Options]] = {
    "kind": _kind,
    "presence": _presence,
    "place": _place,
    "discrimination": _discrimination,
    "count": _count,
    "object": _object,
}


def _true_labels(pair: PairView, words: Words) -> list[str] | None:
    """The types that are right, in words; None when the annotation says only that something is wrong."""
    if not pair.anomalous:
        return []
    if any(map(words.vague, (*pair.types, *split_types(pair.defect)))):
        return None  # "combined": other types may be there too
    return list(dict.fromkeys(map(words.label, pair.types)))


def _wrong_labels(
    pair: PairView, rng: random.Random, words: Words, true: Sequence[str], count: int
) -> list[str] | None:
    """Types that the query does not have: those of its category first, then plausible ones of other families."""
    known = list(dict.fromkeys([*true, *map(words.label, split_types(pair.defect))]))
    own = [words.label(label) for label in pair.other_defects if not words.vague(label)]
    found = _distinct(known, own)
    rng.shuffle(found)
    found = found[:count]
    if len(found) < count:
        # Nothing that might be another word for what is there: no family of a true type is drawn from.
        taken = frozenset().union(*(words.families_of(label) for label in known)) if known else frozenset()
        general = [label for name, family in words.families.items() if name not in taken for label in family["others"]]
        general = [label for label in general if not words.families_of(label) & taken]
        # Nor is a wrong option another word for a wrong one, for the sake of the question.
        used = frozenset().union(*(words.families_of(label) for label in found)) if found else frozenset()
        fresh = [label for label in general if not words.families_of(label) & used] or general
        more = _distinct([*known, *found], fresh)
        rng.shuffle(more)
        found += more[: count - len(found)]
    return found if len(found) == count else None


def _distinct(taken: Sequence[str], names: Sequence[str]) -> list[str]:
    """Those of `names` that neither contain nor are contained in one of `taken` or of each other's earlier ones.

    "Scratches" is "scratch", and where "bend and mismatch" is right "mismatch" is not wrong.
    """
    sets, kept = [_word_set(name) for name in taken], []
    for name in names:
        words = _word_set(name)
        if words and not any(words <= other or other <= words for other in sets):
            sets.append(words)
            kept.append(name)
    return kept


def _word_set(name: str) -> frozenset[str]:
    return frozenset(stem(word) for word in normalise(name).split() if word not in ("a", "an", "and", "of", "the"))
