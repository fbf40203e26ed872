"""What one-line messages are put together from."""

import pytest

from adcopilot.errors import changed_settings


@pytest.mark.parametrize(
    ("before", "now", "says"),
    [
        ({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 2}}, []),
        ({"a": 1, "b": {"c": "x", "d": 1}}, {"a": 2, "b": {"c": "y", "d": 1}}, ["a 1, now 2", 'b.c "x", now "y"']),
        ({"old": True}, {"new": [1, 2]}, ["old true, now null", "new null, now [1, 2]"]),
        ({"a": {"b": 1}}, {"a": None}, ['a {"b": 1}, now null']),
        ({"a": "x" * 100}, {"a": ""}, [f'a "{"x" * 58}…, now ""']),
    ],
)
def test_settings_that_differ_are_named_with_both_values(before, now, says):
    assert changed_settings(before, now) == says
