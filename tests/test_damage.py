"""What is lost is said, and from a stated share on it is an error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adcopilot.damage import Damage, share_of
from adcopilot.errors import UserError


def damage(given_: int, allowed: float = 0.1, **lost: int) -> Damage:
    return Damage(given=given_, unit="images", lost=lost, allowed=allowed, option="--max-left-out")


def test_no_damage_says_nothing():
    assert damage(10).line() == ""
    assert not damage(0).is_too_much


def test_below_the_share_it_is_said_and_allowed():
    found = damage(100, dark=3, small=2)
    assert not found.is_too_much
    assert found.line() == "5 of 100 images lost: 3 dark, 2 small"


def test_above_the_share_the_option_is_named():
    found = damage(30, dark=28)
    assert found.is_too_much
    assert found.line().endswith("allow it with --max-left-out 0.94")


@given(st.integers(1, 10_000), st.data(), st.floats(0, 0.99))
def test_the_share_that_is_named_is_enough(given_, data, allowed):
    count = data.draw(st.integers(0, given_))
    found = damage(given_, allowed=allowed, dark=count)
    if found.is_too_much:
        typed = float(found.line().rpartition(" ")[2])
        assert not damage(given_, allowed=typed, dark=count).is_too_much


@pytest.mark.parametrize("text", ["", "x", "nan", "-0.1", "1.01", "inf"])
def test_a_share_is_from_0_to_1(text):
    with pytest.raises(UserError, match="--max-left-out"):
        share_of(text, "--max-left-out")


def test_shares_are_read():
    assert [share_of(text, "--x") for text in ("0", "0.25", "1")] == [0, 0.25, 1]
