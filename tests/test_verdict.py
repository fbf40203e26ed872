"""A verdict has three values, and is made in one place."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adcopilot.verdict import LEAST_MASS, Verdict, decide, first_word_says, repeated_word


def test_a_score_decides_where_the_model_meant_yes_or_no():
    said = {"yes_no_mass": 0.9, "threshold": 0.5, "answer": "No."}
    assert decide(score=0.5, **said) == Verdict(anomalous=True)
    assert decide(score=0.49, **said) == Verdict(anomalous=False)


def test_little_mass_is_undecided():
    found = decide(score=0.035, yes_no_mass=0.004, threshold=0.5, answer="")
    assert found.word == "undecided"
    assert "0.004" in found.reason
    assert "empty" in found.reason


@pytest.mark.parametrize(("score", "mass"), [(math.nan, 0.9), (0.5, math.nan), (math.inf, 0.9)])
def test_what_is_not_finite_is_undecided(score, mass):
    found = decide(score=score, yes_no_mass=mass, threshold=0.5, answer="No.")
    assert found.word == "undecided"
    assert "not finite" in found.reason


@pytest.mark.parametrize(
    ("answer", "word"),
    [("Yes, a scratch", "anomalous"), ("**no**", "normal"), ("Nothing to see", "undecided"), ("", "undecided")],
)
def test_without_probabilities_the_first_word_decides(answer, word):
    assert decide(score=None, yes_no_mass=None, threshold=0.5, answer=answer).word == word


def test_a_doubt_comes_before_any_answer():
    found = decide(score=0.99, yes_no_mass=1.0, threshold=0.5, answer="Yes", doubts=["the template is the query"])
    assert found == Verdict(anomalous=None, reason="the template is the query")


@given(
    st.none() | st.floats(),
    st.none() | st.floats(),
    st.floats(0, 1),
    st.text(max_size=40),
)
def test_any_answer_gives_one_of_three_words_and_a_reason_for_the_third(score, mass, threshold, answer):
    found = decide(score=score, yes_no_mass=mass, threshold=threshold, answer=answer)
    assert found.word in ("anomalous", "normal", "undecided")
    assert (found.word == "undecided") == bool(found.reason)
    if found.reason:
        assert "\n" not in found.reason
    if found.word != "undecided" and score is not None and mass is not None:
        assert mass >= LEAST_MASS


def test_first_words():
    assert first_word_says("Yes.") is True
    assert first_word_says("“No”, it is fine") is False
    assert first_word_says("Yesterday") is None


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        ("No" * 60 + "N", "No"),  # cut at the limit
        ("No. " * 8, "No."),
        ("Yes Yes Yes Yes Yes Yes Yes Yes Ye", "Yes"),
        ("!" * 64, "!"),
        ("NoNoNoNoNoNoNo", None),  # seven
        ("No.", None),
        ("No. There is no defect, no scratch, no dent, no hole, no stain, no crack, no chip, no burr.", None),
        ("No" * 20 + " defect", None),
        ("", None),
    ],
)
def test_an_answer_of_one_word_again_and_again_is_no_answer(answer, word):
    assert repeated_word(answer) == word
    found = decide(score=0.1, yes_no_mass=0.99, threshold=0.5, answer=answer)
    if word is None:
        assert found == Verdict(anomalous=False)
    else:
        assert found.word == "undecided"
        assert found.reason.startswith(f"the answer repeats {word!r} and nothing else: the model has not learnt to")


def test_long_answers_are_read_in_linear_time():
    for answer in ("ab" * 100_000 + "c", "a" * 100_000 + " b", " " * 100_000 + "b"):
        assert repeated_word(answer) is None


@pytest.mark.parametrize("answer", ["Yes or No", "yes/no", "No | Yes", "**Yes** or **No**?"])
def test_both_words_are_no_verdict(answer):
    assert first_word_says(answer) is None


@pytest.mark.parametrize("answer", ["Yes, and no other part is there", "Yes. Or so it seems", "Yes or yes"])
def test_one_word_is_one(answer):
    assert first_word_says(answer) is True
