"""Letters read from what models write: MMAD's rule, and the strict one."""

import difflib
import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adcopilot.evaluation.benchmarks.mmad.choices import LETTERS, logprob_answer, official_answer
from adcopilot.evaluation.ranking import anomaly_score
from adcopilot.tasks.choice import strict_answer

OPTIONS = {"A": "A scratch on the cap.", "B": "No defect", "C": "Broken glass", "D": "Stain."}


@pytest.mark.parametrize(
    ("text", "official", "strict"),
    [
        ("A", "A", "A"),
        ("B.", "B", "B"),
        ("(C)", "C", "C"),
        ("**D**", "D", "D"),
        ("[B]", "B", "B"),
        ("\\boxed{C}", "C", "C"),
        ("Answer: B", "B", "B"),
        ("The correct answer is C.", "C", "C"),
        ("The best option is (D).", "D", "D"),
        ("So the answer is: **A**", "A", "A"),
        ("C. Broken glass", "C", "C"),
        ("C: broken glass.", "C", "C"),
        ("B) No defect", "B", "B"),
        ("Broken glass.", "nearest C", "C"),
        ("no defect", "nearest B", "B"),
        ("b", "nearest", "B"),
        ("<think>A or B? A.</think>\n<answer>C</answer>", "C", "C"),
        ("A is wrong, so it is B</think>D", "D", "D"),
        ("<answer>Broken glass</answer>", "nearest C", "C"),
        # What only MMAD's rule reads
        ("A scratch runs over the cap, so B", "B", None),
        ("I think A, or perhaps C", "C", None),
        ("There is A scratch", "A", None),
        ("C. Stain.", "C", None),  # the letter of one, the words of another
        ("E", "E", None),  # a letter, but no option
        ("The glass is broken", "nearest C", None),
        ("A.\nExplanation: the cap is scratched.", "A", None),
        # What no rule reads
        ("", None, None),
        ("<think>A scratch, so A", None, None),
        ("<answer></answer>", None, None),
    ],
)
def test_answers_that_occur(text, official, strict):
    found = official_answer(text, OPTIONS)
    if official is None:
        assert (found.letter, found.how) == (None, "none")
    elif official.startswith("nearest"):
        assert found.how == "nearest"
        assert found.letter == (official[8:] or found.letter)
    else:
        assert (found.letter, found.how) == (official, "letter")
    assert strict_answer(text, OPTIONS).letter == strict


def test_without_options_nothing_is_guessed():
    assert official_answer("no idea", None).how == "none"
    assert official_answer("it is B then", None).letter == "B"


words = st.text(st.characters(codec="utf-8", exclude_characters="<>"), max_size=60)
pieces = st.lists(st.one_of(words, st.sampled_from([*"ABCDEFabc", " ", ". ", "\n", "(", "é", "_", "1"])), max_size=12)


@settings(max_examples=400, deadline=None)
@given(pieces.map("".join))
def test_the_official_rule_letter_by_letter(text):
    """The last letter whose neighbours are no word characters, found without regular expressions."""
    stripped = text.strip()

    def part_of_a_word(place):
        return 0 <= place < len(stripped) and (stripped[place].isalnum() or stripped[place] == "_")

    alone = [
        letter
        for place, letter in enumerate(stripped)
        if letter in LETTERS and not part_of_a_word(place - 1) and not part_of_a_word(place + 1)
    ]
    # Python's \w also takes marks that str.isalnum does not; such texts are compared by the pattern alone.
    if any(re.match(r"\w", one) and not (one.isalnum() or one == "_") for one in stripped):
        return
    found = official_answer(text, OPTIONS)
    if alone:
        assert (found.letter, found.how) == (alone[-1], "letter")
    elif stripped:
        ratios = [difflib.SequenceMatcher(None, option, stripped).ratio() for option in OPTIONS.values()]
        assert found.how == "nearest"
        assert ratios[list(OPTIONS).index(found.letter)] == max(ratios)
    else:
        assert found.how == "none"


@settings(max_examples=400, deadline=None)
@given(pieces.map("".join), st.integers(2, 5))
def test_the_strict_rule_reads_options_only_and_never_more_than_the_official(text, count):
    options = dict(zip(LETTERS[:count], ("Yes.", "No.", "Maybe", "A B", "…"), strict=False))
    found = strict_answer(text, options)
    assert found.letter is None or found.letter in options
    assert (found.letter is None) == (found.how == "none")
    if found.how == "letter":
        # The letter is the only one that stands alone outside the option's own words.
        assert re.search(rf"(?i)(?<![a-z]){found.letter}(?![a-z])", text)
        others = set(re.findall(r"\b[A-E]\b", text)) - {found.letter}
        assert not others or any(letter in options[found.letter] for letter in others)


@given(st.sampled_from("ABCD"), st.sampled_from(["{}", "{}.", "({})", " {} \n", "Answer: {}", "The answer is {}."]))
def test_a_stated_letter_is_read_by_both(letter, form):
    text = form.format(letter)
    assert strict_answer(text, OPTIONS).letter == official_answer(text, OPTIONS).letter == letter
    assert strict_answer(f"{text}", {"A": "x", "B": "y"}).letter == (letter if letter in "AB" else None)


@pytest.mark.parametrize("letter", "ABCD")
def test_an_options_own_words_are_its_answer(letter):
    assert strict_answer(OPTIONS[letter], OPTIONS).letter == letter
    assert strict_answer(f"{letter}. {OPTIONS[letter]}", OPTIONS).letter == letter
    twice = {**OPTIONS, "E": OPTIONS[letter].upper()}
    assert strict_answer(OPTIONS[letter], twice).letter is None


def test_hostile_texts_take_no_time():
    for text in ("(" * 20_000, "answer " * 20_000, "A" * 100_000, " A" * 50_000, "<think>" * 20_000, "{" * 50_000):
        official_answer(text, {"A": "x"})
        strict_answer(text, OPTIONS)


def test_probabilities():
    options = {"A": "Yes.", "B": "No."}
    assert logprob_answer({"A": -1.0, "B": -0.5}, options) == "B"
    assert logprob_answer({"A": -1.0, "B": -1.0}, options) == "A"
    assert logprob_answer({"B": -9.0, "C": -0.1}, options) == "B"
    assert logprob_answer({"C": -0.1}, options) is None
    assert logprob_answer(None, options) is None
    score = anomaly_score({"A": math.log(0.3), "B": math.log(0.1)}, options, "A")
    assert score == pytest.approx(0.75)
    assert anomaly_score({"A": -2000.0, "B": -2001.0}, options, "A") == pytest.approx(1 / (1 + math.exp(-1)))
    assert anomaly_score({"B": -3.0}, options, "A") == 0.0
    assert anomaly_score({}, options, "A") is None
