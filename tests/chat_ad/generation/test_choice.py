"""Multiple choice: exactly one option is right by the annotation, and letters are balanced."""

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from adcopilot.chat_ad.generation.choice import KINDS, NO_DEFECT, Letters, choose
from adcopilot.chat_ad.generation.facts import cell
from adcopilot.chat_ad.generation.words import Words

from .conftest import make_normal, make_pair
from .test_annotations import PROMPTS, pairs, run

WORDS = Words(prompts=PROMPTS)
NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def ask(pair, seed=0):
    return choose(pair, random.Random(seed), letters=Letters(seed=seed), prompts=PROMPTS, words=WORDS)


def is_right(kind, option, pair):
    """Whether an option is true of a pair, from its annotation, written apart from the code that makes options."""
    if kind == "discrimination":
        return option == ("only the second image" if pair.anomalous else "neither of them")
    if kind in ("kind", "presence"):
        if option == NO_DEFECT:
            return not pair.anomalous
        true = {WORDS.label(label) for label in (pair.labels or pair.defect.split(", "))} if pair.anomalous else set()
        return option in true
    if kind == "place":
        return any(option == cell(box, pair.size) for box in pair.boxes)
    if kind == "count":
        return NUMBERS.index(option) == len(pair.boxes)
    return option == WORDS.category(pair.category)


@settings(max_examples=600, deadline=None)
@given(pair=pairs(), seed=st.integers(0, 10**6))
def test_exactly_one_option_is_right(pair, seed):
    choice = ask(pair, seed)
    assert list(choice.options) == ["A", "B", "C", "D"]
    assert len(set(choice.options.values())) == 4
    right = [letter for letter, option in choice.options.items() if is_right(choice.kind, option, pair)]
    assert right == [choice.answer], (choice, pair)
    for letter, option in choice.options.items():
        assert f"\n{letter}. {option}\n" in choice.question


@settings(max_examples=300, deadline=None)
@given(pair=pairs(), seed=st.integers(0, 10**6))
def test_a_place_is_asked_only_where_no_other_option_is_touched(pair, seed):
    choice = ask(pair, seed)
    if choice.kind != "place":
        return
    for letter, option in choice.options.items():
        row = {"t": 0, "b": 2}.get(option[0], 1)
        column = 0 if "left" in option else 2 if "right" in option else 1
        part = [pair.size[0] * column / 3, pair.size[1] * row / 3]
        part += [pair.size[0] * (column + 1) / 3, pair.size[1] * (row + 1) / 3]
        touched = any(
            max(box[0], part[0]) < min(box[2], part[2]) - 1e-6 and max(box[1], part[1]) < min(box[3], part[3]) - 1e-6
            for box in pair.boxes
        )
        assert touched == (letter == choice.answer)


def kinds_of(pair, count=300):
    return Counter(ask(pair, seed).kind for seed in range(count))


def test_which_questions_a_pair_allows():
    plain = {"kind", "presence", "place", "discrimination", "count"}
    assert set(kinds_of(make_pair())) == plain
    assert set(kinds_of(make_pair(other_categories=("cable", "zipper", "pill")))) == set(KINDS)
    assert set(kinds_of(make_normal())) == {"presence", "discrimination"}
    # "Combined" leaves open which types there are; so do labels that say nothing.
    assert set(kinds_of(make_pair(defect="combined", labels=("combined",)))) == {"place", "discrimination", "count"}
    assert set(kinds_of(make_pair(boxes=(), labels=(), defect="bad"))) == {"discrimination"}
    # Specks are not counted; the middle of everything is nowhere.
    assert "count" not in kinds_of(make_pair(boxes=((20, 10, 22, 12),)))
    assert "place" not in kinds_of(make_pair(boxes=((20, 10, 290, 190),)))


def test_wrong_options_are_the_category_s_own_defects_first():
    for seed in range(200):
        choice = ask(make_pair(), seed)
        if choice.kind == "kind":
            assert set(choice.options.values()) == {"scratch", "bent", "color", "flip"}
        if choice.kind == "presence":
            assert set(choice.options.values()) - {"bent", "color", "flip"} == {"scratch", NO_DEFECT}


def test_other_words_for_the_right_option_are_no_wrong_ones():
    pair = make_pair(
        defect="scratch_head",
        labels=("scratch_head",),
        other_defects=("scratch", "Scratches", "scratch-head", "combined", "bad"),
    )
    for seed in range(200):
        choice = ask(pair, seed)
        if choice.kind in ("kind", "presence"):
            wrong = [option for letter, option in choice.options.items() if letter != choice.answer]
            assert not any(word in option for option in wrong for word in ("scratch", "abrasion", "combined", "bad"))


def test_an_image_with_several_types_without_boxes():
    pair = make_pair(defect="dent, scratch", boxes=(), labels=(), other_defects=("bent", "hole", "rust"))
    seen = set()
    for seed in range(200):
        choice = ask(pair, seed)
        assert choice.kind in ("kind", "presence", "discrimination")
        assert len({"dent", "scratch"} & set(choice.options.values())) == (choice.kind != "discrimination")
        seen.add(choice.options[choice.answer])
    assert {"dent", "scratch"} < seen


def test_a_part_of_the_right_option_is_no_wrong_one():
    pair = make_pair(
        defect="bend_and_parts_mismatch", labels=("bend_and_parts_mismatch",), other_defects=("parts_mismatch",)
    )
    for seed in range(100):
        choice = ask(pair, seed)
        assert "parts mismatch" not in choice.options.values()


def test_letters_are_balanced_within_each_kind_and_verdict():
    some = [make_pair(n) if n % 3 else make_normal(n) for n in range(1000)]
    records, _ = run(some, ["mc"])
    assert len(records) == 1000
    letters = Counter((record["kind"], record["anomalous"], record["answer"]) for record in records)
    for kind, anomalous in {(kind, anomalous) for kind, anomalous, _ in letters}:
        counts = [letters[kind, anomalous, letter] for letter in "ABCD"]
        assert max(counts) - min(counts) <= 1
    total = Counter(record["answer"] for record in records)
    assert max(total.values()) - min(total.values()) <= len(KINDS) * 2


def test_the_order_of_letters_is_no_cycle():
    letters = Letters(seed=0)
    dealt = "".join(letters.deal("kind", True) for _ in range(400))
    fours = {dealt[index : index + 4] for index in range(0, 400, 4)}
    assert len(fours) >= 20
