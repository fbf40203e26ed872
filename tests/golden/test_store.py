"""The comparison itself: it fails where it should, and says what and where."""

import pytest

from .normal import normalised
from .store import Area, Numbers, entry


@pytest.fixture
def held(monkeypatch):
    """An area that holds a text, a digest and numbers."""
    monkeypatch.delenv("ADCOPILOT_GOLDEN", raising=False)
    area = Area("none such", short=20)
    contents = {"short": b"one\ntwo\n", "long": b"line\n" * 9, "numbers": Numbers('{"score": 0.123456}')}
    area._held = {"group": {name: entry(content, 20) for name, content in contents.items()}}
    return area, contents


def test_what_is_the_same(held):
    area, contents = held
    area.check("group", contents)
    area.check("group", {**contents, "numbers": Numbers('{"score": 0.123499}')})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"short": b"one\nthree\n"}, "group/short: differs from none such.json\n--- golden\n"),
        ({"long": b"line\n" * 8}, "group/long: differs"),
        ({"numbers": Numbers('{"score": 0.125}')}, "group/numbers: differs"),
        ({"numbers": Numbers('{"mean": 0.123456}')}, "group/numbers: differs"),
        ({"more": b""}, "group/more: is new"),
        ({"short": None}, "group/short: is no longer made"),
    ],
)
def test_what_differs_is_named(held, changes, said):
    area, contents = held
    found = {name: one for name, one in {**contents, **changes}.items() if one is not None}
    with pytest.raises(AssertionError) as error:
        area.check("group", found)
    assert said in str(error.value)
    assert str(error.value).count(": ") < 6  # and nothing else


def test_a_text_whose_golden_is_a_digest_is_shown_after_a_run_that_kept_it(held):
    area, contents = held
    area.check("group", contents)
    with pytest.raises(AssertionError, match=r"\+other"):
        area.check("group", {**contents, "long": b"line\n" * 8 + b"other\n"})


def test_what_varies():
    text = b'{"seconds": 1.25, "url": "http://127.0.0.1:4321/v1", "mean": 0.30000000000000004} /tmp/a/here/x'
    found = normalised("a.json", text, {"/tmp/a/here": "<here>"})
    assert found == b'{"seconds": "<seconds>", "url": "http://<endpoint>/v1", "mean": 0.3} <here>/x'
    assert normalised("a.png", b"\x89PNG 127.0.0.1:4321", {}) == b"\x89PNG 127.0.0.1:4321"
