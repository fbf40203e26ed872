"""A stand-in for a copy of MMAD's repository."""

import pytest

from .mini_mmad_repository import build


@pytest.fixture(scope="package")
def checkout(tmp_path_factory):
    return build(tmp_path_factory.mktemp("checkout"))


@pytest.fixture
def own(tmp_path):
    """A checkout that a test may change."""
    return build(tmp_path / "MMAD")
