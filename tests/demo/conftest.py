"""An endpoint that says what it is told, the page in front of it, and the page over a small model."""

import pytest

from adcopilot.demo.store import Store
from adcopilot.line.inspection import Inspection

from ..inspect.conftest import (
    part,
    speaking_dir,  # noqa: F401 - a fixture
)
from ..webui.conftest import chromium  # noqa: F401 - a fixture
from .running import demo
from .stub import endpoint

#: Answers of the small model are short, so that they are soon there.
NEW_TOKENS = 12


@pytest.fixture(scope="session")
def stub():
    with endpoint() as running:
        yield running


@pytest.fixture
def said(stub):
    """The endpoint as at its start, for one test."""
    stub.reset()
    yield stub
    stub.reset()


@pytest.fixture(scope="session")
def stub_demo(stub, tmp_path_factory):
    """The page in front of the endpoint. Its limits are small enough to be reached."""
    limits = ["--max-upload-mb", 1, "--max-megapixels", 2, "--max-files", 12, "--max-folder-mb", 8]
    words = ["--endpoint", stub.url, "--model", "ad-copilot", "--concurrency", 1, *limits]
    with demo(tmp_path_factory.mktemp("stub_demo"), *words) as running:
        yield running


@pytest.fixture(scope="session")
def local_demo(speaking_dir, tmp_path_factory):  # noqa: F811 - the fixture
    """The page over a small model, which needs a login."""
    words = ["--model", speaking_dir, "--device", "cpu", "--max-new-tokens", NEW_TOKENS, "--auth", "anna:secret"]
    with demo(tmp_path_factory.mktemp("local_demo"), *words) as running:
        yield running


@pytest.fixture
def page(chromium, stub_demo, said):  # noqa: F811 - the fixture
    """The first tab over the endpoint; afterwards, the browser's console has nothing that is not known."""
    from .browser.part import Part, complaints

    yield Part(driver=chromium, url=stub_demo.url)
    assert complaints(chromium) == []


@pytest.fixture
def store(monkeypatch):
    """The files of the visitor `anna`, in this process."""
    monkeypatch.setattr("tempfile.tempdir", None)
    found = Store(seconds=60, stored_bytes=1 << 30)
    yield found
    found.close()


@pytest.fixture
def upload(store):
    """Makes a visitor's file of a picture."""

    def of(image, name):
        path = store.new_file(name, visitor="anna")
        image.save(path)
        return str(path)

    return of


@pytest.fixture
def pictures(tmp_path):
    """A template and a query of another size."""
    part(1).save(tmp_path / "good.png")
    part(2, size=(300, 200), defect=True).save(tmp_path / "query.png")
    return tmp_path / "good.png", tmp_path / "query.png"


@pytest.fixture
def line_dir(tmp_path):
    """A line without a model, as `adcopilot calibrate none` leaves it: two templates and a threshold."""
    folder = tmp_path / "bracket"
    (folder / "templates").mkdir(parents=True)
    for index in range(2):
        part(index + 1, size=(300, 200)).save(folder / f"templates/00{index}.png")
    Inspection(
        verdict_from="map",
        thresholds={"map": 0.2},
        threshold_from="a test",
        templates=("templates/000.png", "templates/001.png"),
        templates_each=2,
        map={"kind": "pixels"},
    ).write(folder)
    return folder
