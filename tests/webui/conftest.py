"""A stock LlamaBoard server and a headless Chromium to drive it with."""

import pytest

from .report_pages import quiet
from .serving import browser, served


@pytest.fixture
def llamaboard(tmp_path):
    """A LlamaBoard of the test's own."""
    with served("webui", folder=tmp_path / "board") as server:
        yield server


@pytest.fixture
def chromium(tmp_path):
    """Selenium's driver of a headless Chromium with an empty profile."""
    with browser(tmp_path / "profile") as session:
        yield session


@pytest.fixture
def page(chromium, report):
    """The driver with the page at the address `report` open; what is on it must be quiet."""
    with quiet(chromium, report) as page:
        yield page
