"""What a user is told: one line."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from adcopilot.errors import UserError


@contextmanager
def refused(match: str | None = None) -> Iterator[pytest.ExceptionInfo]:
    """Within, a `UserError` of one line, which this expression matches; yields what `pytest.raises` does."""
    with pytest.raises(UserError, match=match) as error:
        yield error
    assert "\n" not in str(error.value)
