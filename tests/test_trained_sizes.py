"""What sizes a model was trained on, and what is far outside."""

import pytest

from adcopilot.errors import UserError
from adcopilot.trained_sizes import FAR, far_outside, merge_sizes, read_sizes, sizes_of

pytestmark = pytest.mark.forward


def test_the_range_of_some_sizes():
    assert sizes_of([(56, 84), (28, 280)]) == {"pixels": [4704, 7840], "sides": [28, 280]}
    assert sizes_of([]) is None


def test_ranges_of_several_stages_are_one():
    one, other = sizes_of([(56, 56)]), sizes_of([(112, 28), (280, 280)])
    assert merge_sizes(one, None, {}, other) == {"pixels": [3136, 78400], "sides": [28, 280]}
    assert merge_sizes(None, {}) is None


@pytest.mark.parametrize(
    ("size", "far"),
    [
        ((100, 100), False),
        ((200, 200), False),  # four times the pixels
        ((200, 204), True),
        ((50, 50), False),
        ((50, 48), True),
        ((400, 40), False),  # four times the side
        ((404, 40), True),
        ((100, 25), False),
        ((110, 24), True),
    ],
)
def test_far_is_more_than_a_factor(size, far):
    assert FAR == 4
    assert (far_outside(size, sizes_of([(100, 100)])) is not None) == far


def test_without_a_field_there_is_no_check():
    assert far_outside((10**6, 1), read_sizes(None, folder="m")) is None
    assert read_sizes({}, folder="m") is None


@pytest.mark.parametrize(
    "value",
    ["x", 3, [], {"pixels": [1, 2]}, {"pixels": [2, 1], "sides": [1, 2]}, {"pixels": [1, True], "sides": [1, 2]},
     {"pixels": [0, 1], "sides": [1, 2]}, {"pixels": [1.5, 2], "sides": [1, 2]}, {"pixels": [1], "sides": [1, 2]}],
)  # fmt: skip
def test_a_damaged_field_is_one_line(value):
    with pytest.raises(UserError, match=r"m: trained_sizes in processor_config.json is .*, expected"):
        read_sizes(value, folder="m")
