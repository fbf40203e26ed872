"""The page of `adcopilot inspect --report` in a real browser: counts, order, filters, marks, hostile names."""

import json

import pytest

from adcopilot.cli import main
from adcopilot.line.marks import find_marked, read_marks
from adcopilot.sample.photographs import photographs

from ..chat_ad.reported import EVIL
from .report_pages import cards, choose, count, fits_and_can_be_read

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The address of a page about a folder that says what is right, one of whose pictures is broken and one has a
    hostile name."""
    folder = tmp_path_factory.mktemp("shift")
    photographs(folder / "line", good=7, bad=0)
    today = photographs(folder / "today", good=3, bad=2, first=50)
    for file in (today / "ground_truth").rglob("*.png"):
        file.unlink()
    (today / "good" / "broken.png").write_bytes(b"no picture")
    (today / "good" / "000.png").rename(today / "good" / f"{EVIL.replace('/', '')}.png"[-60:])
    words = ["inspect", "--model", "none", "--template-dir", folder / "line/good", "--query-dir", today]
    assert main([str(word) for word in (*words, "--threshold", "0.15", "--report", folder / "page.html")]) == 1
    return (folder / "page.html").as_uri()


def test_what_a_shift_lead_reads(page):
    tiles = [one.text.split("\n") for one in page.find_elements("css selector", "body > header .tiles div")]
    told = {name: number for number, name in (sorted(tile, key=lambda text: not text.isdigit()) for tile in tiles)}
    assert told == {"Pictures": "6", "Anomalous": "2", "Undecided": "0", "Normal": "3", "Not inspected": "1"}
    order = [card.get_attribute("data-verdict") for card in cards(page)]
    assert order == ["error", "anomalous", "anomalous", "normal", "normal", "normal"]
    assert "0 of 2" in page.find_element("id", "measures").text
    assert count(page) == "6 of 6 shown"
    choose(page, "verdict", "anomalous")
    assert count(page) == "2 of 6 shown"
    assert all(len(card.find_elements("css selector", ".boxes .box")) >= 1 for card in cards(page))
    assert len(page.find_elements("tag name", "script")) == 1
    fits_and_can_be_read(page)


def test_marks_are_handed_over_as_a_file(page, tmp_path):
    page.execute_script(
        "URL.createObjectURL = (blob) => { window.saved = blob; return 'data:,'; };"
        "HTMLAnchorElement.prototype.click = () => {};"
    )
    save = page.find_element("id", "save-marks")
    assert not save.is_enabled()
    first, second = [card for card in cards(page) if card.get_attribute("data-verdict") == "normal"][:2]
    defective, good = (
        card.find_element("css selector", f".marks button[data-good='{value}']")
        for card, value in ((first, "false"), (second, "true"))
    )
    defective.click()
    first.find_element("css selector", ".marks input").send_keys("dent")
    good.click()
    assert page.find_element("id", "marked").text == "2 pictures marked"
    good.click()  # taken back
    assert page.find_element("id", "marked").text == "1 picture marked"
    save.click()
    text = page.execute_async_script("window.saved.text().then(arguments[0])")
    file = tmp_path / "marks.jsonl"
    file.write_text(text)
    [line] = map(json.loads, text.splitlines())
    assert (line["good"], line["kind"]) == (False, "dent")

    [(found, mark)] = find_marked(read_marks(file), [])
    assert found.name == first.get_attribute("data-query").rpartition("/")[2]
    assert mark.kind == "dent"
