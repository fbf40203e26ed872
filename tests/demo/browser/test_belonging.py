"""In a real browser: no verdict ever stands beside a picture that it is not about, whatever changes and whenever."""

import time
import zipfile

import pytest

from adcopilot.demo.belonging import files_of, mark

from ...inspect.conftest import part
from .part import Part, ready
from .test_many import Many, slot
from .test_page import SAID, SIZE

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1200)]

#: Looks at the page after each change of it, before it is painted, as an inspector would: by the names of files.
WATCH = r"""
window.wrong = [];
const name = (id) => {
  const image = document.querySelector(`#${id} img[src]`);
  return image ? decodeURIComponent(image.getAttribute("src").split("/").pop()) : "";
};
const seen = (one) => one.checkVisibility({visibilityProperty: true});
const look = () => requestAnimationFrame(() => {
  const said = [...document.querySelectorAll(".adc-about")].filter(seen);
  for (const one of said) {
    const about = [...one.querySelectorAll("b")].map((bold) => bold.innerText);
    if (about[0] !== name("adc-part") || about[1] !== name("adc-good"))
      window.wrong.push([about, name("adc-good"), name("adc-part")]);
  }
  const marked = document.querySelector("#adc-marked");
  if (marked.querySelector("img") && seen(marked) && !said.length) window.wrong.push("a picture alone");
});
new MutationObserver(look).observe(document.body, {subtree: true, childList: true, attributes: true});
"""


@pytest.fixture
def page(chromium, stub_demo, said):
    found = Part(driver=chromium, url=stub_demo.url)
    chromium.execute_script(WATCH)
    yield found
    assert chromium.execute_script("return window.wrong") == []
    assert "Warning" not in found.text()


@pytest.fixture
def pictures(tmp_path):
    """A good part, two parts to inspect."""
    for name, seed in (("good", 1), ("query", 2), ("other", 3)):
        part(seed, size=(84, 56) if name == "good" else SIZE, defect=name == "query").save(tmp_path / f"{name}.png")
    return [tmp_path / f"{name}.png" for name in ("good", "query", "other")]


def answered(page, words):
    page.wait(words, lambda: words in page.said("verdict"))
    page.wait("the picture", lambda: page.shown("Marked places"))


def is_empty(page):
    """Nothing is left of an answer, and nothing of it can be saved."""
    nothing = [page.said(name) for name in ("verdict", "marked-about", "conversation")] == [""] * 3
    pictures = [page.shown(label) for label in ("Marked places", "Where it differs")]
    return nothing and not any(pictures) and not can_save(page)


def can_save(page):
    button = page.button("Save as JSON")
    return button is not None and button.is_enabled()


def take_out(page, label, button):
    """Empty an upload component."""
    page.click(f"{button} of {label}", lambda: slot(page, label, button))


def test_changes_after_an_answer(page, pictures, said):
    good, query, other = pictures
    said.text, said.yes = SAID, 0.9
    ready(page, (good, query))

    def ask():
        page.press("Is it defective?")
        answered(page, "Defect found")

    ask()
    assert "About query.png, compared with good.png." in page.said("verdict")
    assert page.said("marked-about") == "query.png"
    page.add("Part to inspect", other)
    page.wait("an empty page", lambda: is_empty(page))
    ask()
    assert "About other.png, compared with good.png." in page.said("verdict")
    page.add("Good part", query)
    page.wait("an empty page", lambda: is_empty(page))
    ask()
    take_out(page, "Good part", "Remove Image")
    page.wait("an empty page", lambda: is_empty(page))
    page.add("Good part", good)
    ask()
    page.press("More pictures of good parts (optional)")
    page.upload("Up to 8 pictures", query)
    page.wait("an empty page", lambda: is_empty(page))
    ask()
    assert "About other.png, compared with good.png, query.png." in page.said("verdict")
    take_out(page, "Up to 8 pictures", "Clear")
    page.wait("an empty page", lambda: is_empty(page))
    ask()
    page.press("Gear: stain")
    page.wait("an empty page", lambda: is_empty(page))
    page.wait("the example", lambda: "inspect.png" in page.source("Part to inspect"))
    ask()
    page.press("Start again")
    page.wait("an empty page", lambda: is_empty(page) and not page.shown("Good part"))


def test_a_late_answer_is_dropped(page, pictures, said):
    good, query, other = pictures
    said.may_answer.clear()
    ready(page, (good, query))
    page.press("Is it defective?")
    page.wait("the question", lambda: len(said.requests) == 1)
    page.add("Part to inspect", other)
    said.may_answer.set()
    page.wait("words", lambda: "An answer about query.png, good.png came when other" in page.problem())
    assert is_empty(page)
    page.press("Earlier answers")
    page.wait("the history", lambda: "About query.png, compared with good.png" in page.said("earlier"))

    # pressed again while the answer about other pictures is under way: these get theirs
    said.may_answer.clear()
    page.press("Is it defective?")
    page.wait("the question", lambda: len(said.requests) == 2)
    page.add("Part to inspect", query)
    said.text, said.yes = SAID, 0.9
    page.press("Is it defective?")
    said.may_answer.set()
    answered(page, "Defect found")
    assert "About query.png" in page.said("verdict")
    assert len(said.requests) == 3
    # the pictures are exchanged, and put back: the answer is about those that are there
    said.may_answer.clear()
    page.press("Where are the defects?")
    page.wait("the question", lambda: len(said.requests) == 4)
    page.add("Part to inspect", other)
    page.wait("an empty page", lambda: is_empty(page))
    page.add("Part to inspect", query)
    said.may_answer.set()
    answered(page, "Answer")
    assert "About query.png" in page.said("verdict")


def test_an_endpoint_that_fails_takes_the_old_verdict_away(page, pictures, said):
    good, query, other = pictures
    ready(page, (good, query))
    page.press("Is it defective?")
    answered(page, "No defect found")
    talk = page.said("conversation")
    assert talk
    said.status = 503
    page.ask("The model's server does not answer just now")
    page.wait("no verdict", lambda: page.said("verdict") == "")
    assert not page.shown("Marked places")
    assert not can_save(page)
    assert page.said("conversation") == talk  # it is about these pictures, and can go on
    said.status = 200
    page.field("Your own question (goes on with the conversation)").send_keys("Is it fine?")
    said.text, said.yes = "Yes.", 0.99
    page.press("Ask")
    page.wait("the answer", lambda: "Is it fine?" in page.said("conversation"))
    assert talk in page.said("conversation")
    assert page.said("verdict").startswith("Answer\n")  # its yes is no defect
    # an error about pictures that are gone is none about these
    said.status = 503
    said.may_answer.clear()
    page.press("Is it defective?")
    page.wait("the question", lambda: "Looking at the pictures" in page.waiting())
    page.add("Part to inspect", other)
    page.wait("an empty page", lambda: is_empty(page))
    said.may_answer.set()
    page.wait("words", lambda: "came when other pictures were here" in page.problem())
    assert is_empty(page)


def test_another_zip_while_rows_arrive(chromium, stub_demo, said, tmp_path):
    page = Many(driver=chromium, url=stub_demo.url)
    part(1).save(tmp_path / "good.png")
    part(2).save(tmp_path / "part.png")
    for name in ("first", "second"):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as opened:
            for index in range(10 if name == "first" else 2):
                opened.write(tmp_path / "part.png", f"{name} {index}.png")
    page.give("Good parts: pictures or a zip", tmp_path / "good.png")
    page.give("Parts to inspect: pictures or a zip", tmp_path / "first.zip")
    said.may_answer.clear()
    page.press("Inspect all")
    page.wait("the first question", lambda: said.requests)
    page.take_out("Parts to inspect: pictures or a zip")
    page.give("Parts to inspect: pictures or a zip", tmp_path / "second.zip")
    page.wait("an empty page", lambda: page.said("progress") == "")
    page.press("Inspect all")
    said.may_answer.set()
    seen, give_up = set(), time.monotonic() + 300
    while "2 of 2 pictures inspected. Done." not in page.said("progress") and time.monotonic() < give_up:
        seen |= {page.said("progress").split(" pictures")[0], *(row[1].split()[0] for row in page.rows())}
    assert seen <= {"", "0 of 2", "1 of 2", "2 of 2", "second"}
    page.wait("the table", lambda: [row[1] for row in page.rows()] == ["second 0.png", "second 1.png"])
    assert "Defect found: 0, Undecided: 0, No defect found: 2." in page.said("progress")
    # afterwards
    with page.told():  # until then the page hides the results, and their buttons too
        page.take_out("Good parts: pictures or a zip")
    page.wait("an empty page", lambda: page.said("progress") == "" and page.rows() == [])
    assert not page.button("Save the table (CSV)").is_enabled()


def test_a_mark_is_another_one_for_other_files():
    """That the browser's is the same, the tests above tell: they would see no answer."""
    slots = [
        files_of("a", [], "b"),
        files_of("a", [("b", "x")], None),
        files_of(None, [("a", "x"), ("b", "x")], None),
        files_of("b", [], "a"),
        files_of("a", [], None),
        files_of(None, [], "a"),
        files_of(None, [], None),
        files_of("ä\U0001f600", [], "b"),
    ]
    assert len({mark(one) for one in slots}) == len(slots)
    assert mark(files_of("x/1/a.tif", [], None)) == mark(files_of("x/1/shown/a.png", [], None))
    assert mark(files_of("x/1/a.tif", [], None)) != mark(files_of("x/2/shown/a.png", [], None))
    assert slots[1] == (("a",), ("b",), ())
