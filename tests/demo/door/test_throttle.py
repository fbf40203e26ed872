"""Wrong passwords are slowed, others are not kept out for long, and no number of addresses fills the memory."""

import pytest

from adcopilot.demo.door.throttle import (
    FREE,
    FREE_TOGETHER,
    INTERVAL,
    INTERVAL_TOGETHER,
    LONGEST,
    MOST_ADDRESSES,
    Throttle,
)


class Clock:
    """A clock that a test turns."""

    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def throttle(clock):
    return Throttle(clock=clock)


def test_a_few_are_free_then_each_waits_and_then_none_is_looked_at(throttle, clock):
    waits = [throttle.attempt("1.2.3.4") for _ in range(200)]
    at_once, waiting = waits[:FREE], [wait for wait in waits if wait]
    assert at_once == [0.0] * FREE
    assert waiting == [INTERVAL * turn for turn in range(1, int(LONGEST / INTERVAL) + 1)]
    assert waits[FREE + len(waiting) :] == [None] * (200 - FREE - len(waiting))
    clock.now += throttle.retry_after("1.2.3.4")
    assert throttle.attempt("1.2.3.4") == LONGEST


def test_two_hundred_wrong_passwords_take_minutes(throttle, clock):
    start, looked_at = clock.now, 0
    while looked_at < 200:
        wait = throttle.attempt("1.2.3.4")
        looked_at += wait is not None
        clock.now += throttle.retry_after("1.2.3.4") if wait is None else 0.01
    assert clock.now - start > 300


def test_another_address_is_not_held_up_and_the_same_not_for_long(throttle, clock):
    while throttle.attempt("1.2.3.4") is not None:
        pass
    assert throttle.attempt("5.6.7.8") == 0.0
    clock.now += LONGEST + INTERVAL
    assert throttle.attempt("1.2.3.4") == 0.0  # behind one proxy that is everybody


def test_right_passwords_do_not_count(throttle):
    for _ in range(500):
        assert throttle.attempt("1.2.3.4") == 0.0
        throttle.was_right("1.2.3.4")
    # but they give nobody more attempts
    waits = [throttle.attempt("1.2.3.4") for _ in range(FREE + 1)]
    assert waits == [0.0] * FREE + [INTERVAL]


def test_many_addresses_are_slowed_together_but_not_one_that_has_logged_in(throttle, clock):
    assert throttle.attempt("9.9.9.9") == 0.0
    throttle.was_right("9.9.9.9")
    waits = [throttle.attempt(f"10.{number // 250}.{number % 250}.1") for number in range(1000)]
    assert waits[:FREE_TOGETHER] == [0.0] * FREE_TOGETHER
    assert sum(wait is not None for wait in waits) == FREE_TOGETHER + LONGEST / INTERVAL_TOGETHER
    assert throttle.attempt("9.9.9.9") == 0.0
    clock.now += LONGEST + INTERVAL_TOGETHER
    assert throttle.attempt("11.1.1.1") == 0.0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),  # what one subscriber has
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:1.2.3.4", "1.2.3.4", True),
        ("1.2.3.4", "1.2.3.5", False),
        ("", "", True),
        ("x" * 100_000, "x" * 64, True),
    ],
)
def test_whose_address_it_is(throttle, one, other, same):
    for _ in range(FREE):
        throttle.attempt(one)
    assert (throttle.attempt(other) > 0) == same


def test_memory_is_bounded(throttle, clock):
    for number in range(3 * MOST_ADDRESSES):
        clock.now += 1
        address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        throttle.attempt(address)
        throttle.was_right(address)
    assert len(throttle._turns) == len(throttle._known) == MOST_ADDRESSES
