"""Fixtures of the evaluation tests."""

import shutil
from functools import partial

import pytest

from .benchmarks.mmad.mini_mmad import build
from .seeing import Bench


@pytest.fixture(scope="session")
def mini_mmad(tmp_path_factory):
    """MMAD in miniature: 16 images of four sources, 72 questions. Not to be written to."""
    return build(tmp_path_factory.mktemp("mini") / "MMAD")


@pytest.fixture
def bench(tmp_path, monkeypatch, capsys):
    """`bench(benchmark)`: a `seeing.Bench`, its run in `tmp_path / "run"`."""
    if shutil.which("java"):
        monkeypatch.setenv("PATH", str(tmp_path))  # METEOR takes a quarter of a minute
    return partial(Bench, folder=tmp_path, monkeypatch=monkeypatch, capsys=capsys)
