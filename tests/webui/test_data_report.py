"""The page of `adcopilot data report` in a real browser."""

import io
import itertools
import json

import numpy as np
import pytest
from PIL import Image

from adcopilot.chat_ad.report.report import write_report
from adcopilot.drawing import BOX_COLOURS

from ..chat_ad.reported import BOX, EVIL, SIZE, bad_record, draw, make_folder, pair_record, write_lines
from .report_pages import cards, choose, count, fits_and_can_be_read, resize

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The address of a page about three datasets, one of which is hostile."""
    folder = make_folder(
        tmp_path_factory.mktemp("report"),
        Caption=[bad_record("caption", [("What?", "A crack.")], key=index) for index in range(3)]
        + [pair_record("caption", [("What?", f"Nothing at all {index}.")]) for index in range(2)],
        Chat=[bad_record(), pair_record(), pair_record("mc", [("Which?\nA. a\nB. b", "A")])],
        Evil=[{**bad_record(EVIL, [(EVIL, EVIL * 20)], category=EVIL, source=EVIL, labels=[EVIL]), EVIL: EVIL}],
        drops=[{"image": EVIL, "reason": EVIL, "value": 1, "limit": 2}],
    )
    draw(folder, "images/large.png", size=(2000, 1000))
    draw(folder, "images/tall.png", size=(60, 240))
    write_lines(
        folder / "Sizes.jsonl",
        [
            bad_record("loc", images=["images/t.png", "images/large.png"], boxes=[[400, 200, 1000, 700]]),
            bad_record("loc", images=["images/t.png", "images/tall.png"], boxes=[[10, 100, 50, 200]]),
        ],
    )
    (folder / "manifest.json").write_text(json.dumps({EVIL: EVIL}))
    output = folder / "report #1 ünï.html"
    write_report(folder=folder, output=output)
    return output.as_uri()


def shown(page):
    """(heading, label chip) of the cards that can be seen."""
    return [card.find_element("css selector", ".where").text.split(",")[0] for card in cards(page)]


def test_hostile_text_is_text(page):
    (evil,) = [card for card in cards(page) if "window.pwned" in card.text]
    assert evil.find_element("tag name", "h3").text == EVIL
    assert evil.find_element("css selector", ".turn.user p").text.endswith(EVIL)
    assert len(page.find_elements("tag name", "script")) == 1
    assert page.find_elements("css selector", "img[src='x']") == []
    # An event that somebody smuggled in would not run either.
    probe = "<i id=probe onclick='window.pwned = 2'>x</i>"
    page.execute_script("document.body.insertAdjacentHTML('beforeend', arguments[0])", probe)
    page.execute_script("document.getElementById('probe').click()")
    (refused,) = page.get_log("browser")
    assert "Content Security Policy" in refused["message"]


def test_filters(page):
    everything = shown(page)
    assert sorted(everything) == ["Caption"] * 5 + ["Chat"] * 3 + ["Evil"] + ["Sizes"] * 2
    assert count(page) == "11 of 11 shown"
    choose(page, "dataset", "Caption")
    assert shown(page) == ["Caption"] * 5
    choose(page, "label", "normal")
    assert shown(page) == ["Caption"] * 2
    assert count(page) == "2 of 11 shown"
    choose(page, "dataset", "all datasets")
    assert shown(page) == ["Caption"] * 2 + ["Chat"] * 2
    choose(page, "task", "mc")
    assert shown(page) == ["Chat"]
    choose(page, "dataset", "Caption")
    assert shown(page) == []
    assert page.find_element("id", "nothing").is_displayed()
    page.find_element("id", "reset").click()
    assert shown(page) == everything
    assert not page.find_element("id", "nothing").is_displayed()
    page.find_element("id", "by-text").send_keys("NOTHING at all")
    assert shown(page) == ["Caption"] * 2


def test_filters_by_keyboard(page):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    ActionChains(page).send_keys(Keys.TAB).perform()
    assert page.switch_to.active_element.text == "To the content"
    ActionChains(page).send_keys(Keys.ENTER).perform()
    assert page.switch_to.active_element.get_attribute("id") == "main"
    select = page.find_element("id", "by-dataset")
    for _ in range(60):
        if page.switch_to.active_element == select:
            break
        ActionChains(page).send_keys(Keys.TAB).perform()
    else:
        pytest.fail("the filter cannot be reached by the Tab key")
    # The focus can be seen.
    assert page.execute_script("return getComputedStyle(document.activeElement).outlineWidth") == "3px"
    ActionChains(page).send_keys("Chat").perform()
    assert shown(page) == ["Chat"] * 3


def test_boxes_are_at_the_right_pixels(page):
    shapes = [(SIZE, BOX), ((2000, 1000), [400, 200, 1000, 700]), ((60, 240), [10, 100, 50, 200])]
    for screen, (size, box) in itertools.product([1400, 390], shapes):
        resize(page, screen)
        image = page.find_element("css selector", f".picture:has(svg) img[width='{size[0]}'][height='{size[1]}']")
        view = image.find_element("xpath", "..")
        page.execute_script("arguments[0].scrollIntoView({block: 'center'})", view)
        picture = np.asarray(Image.open(io.BytesIO(view.screenshot_as_png)).convert("RGB")).astype(int)
        height, width = picture.shape[:2]
        assert abs(width / height - size[0] / size[1]) < 0.02 * size[0] / size[1]
        line = np.abs(picture - BOX_COLOURS[0]).max(axis=2) <= 24
        rows, columns = np.flatnonzero(line.any(axis=1)), np.flatnonzero(line.any(axis=0))
        found = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        wanted = [value * width / size[0] for value in box]
        # The line is two pixels wide and lies on the edge, half of it outside.
        for at, want, side in zip(found, wanted, (-1, -1, 1, 1), strict=True):
            assert abs(at - (want + side)) <= 1.5, (screen, size, found, wanted)
        # Inside there is the picture alone.
        inside = picture[int(wanted[1]) + 5 : int(wanted[3]) - 5, int(wanted[0]) + 5 : int(wanted[2]) - 5]
        assert inside.size
        assert np.abs(inside - 128).max() <= 4


def test_boxes_can_be_hidden_and_pictures_enlarged(page):
    view = page.find_element("css selector", ".boxes")
    assert view.is_displayed()
    page.find_element("id", "show-boxes").click()
    assert not view.is_displayed()
    page.find_element("id", "show-boxes").click()
    card = page.find_element("css selector", ".card")
    before = card.find_element("tag name", "img").size["width"]
    card.find_element("css selector", ".zoom").click()
    assert card.find_element("css selector", ".zoom").get_attribute("aria-expanded") == "true"
    assert card.find_element("tag name", "img").size["width"] > 1.8 * before


def test_tables_sort(page):
    table = page.find_element("css selector", "[aria-label='Datasets'] table")

    def column(index):
        rows = table.find_elements("css selector", "tbody tr")
        return [row.find_elements("css selector", "th, td")[index].text for row in rows]

    heads = table.find_elements("css selector", "thead th")
    assert column(1) == ["5", "3", "2", "1"]
    assert heads[1].get_attribute("aria-sort") == "descending"
    heads[1].find_element("tag name", "button").click()
    assert column(1) == ["1", "2", "3", "5"]
    assert heads[1].get_attribute("aria-sort") == "ascending"
    heads[0].find_element("tag name", "button").click()
    assert column(0) == ["Caption", "Chat", "Evil", "Sizes"]
    assert heads[1].get_attribute("aria-sort") is None
    assert heads[0].get_attribute("aria-sort") == "ascending"
    for head in heads[1:]:
        assert head.value_of_css_property("text-align") == "right"


def test_nothing_is_wider_than_the_page_and_text_can_be_read(page):
    fits_and_can_be_read(page)


def test_without_javascript(chromium, report):
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    chromium.get(report)
    assert len(shown(chromium)) == 11
    assert not chromium.find_element("id", "filters").is_displayed()
    assert not chromium.find_element("css selector", ".zoom").is_displayed()
