"""A machine without Java, for the tests of captions."""

import pytest


@pytest.fixture
def no_java(monkeypatch, tmp_path):
    """METEOR takes a quarter of a minute to read its tables."""
    monkeypatch.setenv("PATH", str(tmp_path))
