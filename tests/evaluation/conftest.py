"""Fixtures of the evaluation tests."""

import pytest

from .mini_mmad import build


@pytest.fixture(scope="session")
def mini_mmad(tmp_path_factory):
    """MMAD in miniature: 16 images of four sources, 72 questions. Not to be written to."""
    return build(tmp_path_factory.mktemp("mini") / "MMAD")
