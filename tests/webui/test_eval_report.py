"""The page of `adcopilot eval report` in a real browser."""

import pytest

from ..evaluation.benchmarks.mmad.mini_mmad import build
from ..evaluation.report.report_runs import EVIL, make_runs
from ..evaluation.report.report_runs import report as write_report
from .report_pages import cards, choose, count, fits_and_can_be_read, resize

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The address of a page about five runs, one of which says hostile things."""
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        runs = make_runs(patch, build(folder / "MMAD"), folder)
    write_report(*runs, "--output", folder / "out #1 ünï", "--against", "published", "--samples", 40)
    return (folder / "out #1 ünï/report.html").as_uri()


def test_tables_stand_beside_published_rows_and_sort(page):
    rows = page.find_elements("css selector", "#mmad tbody tr")
    assert len(rows) == 3 + 21
    assert [row.find_element("css selector", "th bdi").text for row in rows[:3]] == ["Weak-7B", "Strong-7B", EVIL]
    assert page.find_elements("css selector", "img[src='x']") == []
    heads = page.find_elements("css selector", "#mmad thead th")
    assert [head.text for head in heads][:3] == ["Model", "Anomaly Discrimination", "Defect Classification"]
    heads[8].find_element("tag name", "button").click()
    averages = [row.find_elements("tag name", "td")[7] for row in page.find_elements("css selector", "#mmad tbody tr")]
    values = [float(cell.get_attribute("data-n")) for cell in averages]
    assert values == sorted(values, reverse=True)
    assert heads[8].get_attribute("aria-sort") == "descending"


def test_plots_are_drawn_and_nothing_is_cut_off(page):
    for width in (1400, 390):
        resize(page, width)
        radar, ranking = page.find_elements("css selector", "#mmad .plot .chart")
        for chart in (radar, ranking):
            box = page.execute_script("return arguments[0].getBoundingClientRect().toJSON()", chart)
            for text in chart.find_elements("css selector", "text"):
                inner = page.execute_script("return arguments[0].getBoundingClientRect().toJSON()", text)
                assert box["left"] <= inner["left"] < inner["right"] <= box["right"] + 1, (width, text.text)
                assert box["top"] <= inner["top"] < inner["bottom"] <= box["bottom"] + 1, (width, text.text)
    said = "return [...arguments[0].querySelectorAll('title')].map((one) => one.textContent)"
    lines, bars = (page.execute_script(said, chart) for chart in (radar, ranking))
    assert len(lines) == 3 + 3
    assert len(bars) == 3 + 21
    shares = [float(bar.rpartition(": ")[2]) for bar in bars]
    assert shares == sorted(shares, reverse=True)


def test_charts_are_dark_where_that_is_wanted(page):
    colours = []
    for scheme in ("light", "dark"):
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
        text = page.find_element("css selector", "#mmad .chart text")
        colours.append(page.execute_script("return getComputedStyle(arguments[0]).fill", text))
    light, dark = (sum(map(int, colour.strip("rgb()").split(","))) for colour in colours)
    assert light < 200 < 500 < dark


def test_the_gallery_filters(page):
    everything = len(cards(page))
    assert count(page) == f"{everything} of {everything} shown"
    choose(page, "label", "wrong")
    wrong = cards(page)
    assert 0 < len(wrong) < everything
    assert all(card.find_element("css selector", ".chip.wrong").is_displayed() for card in wrong)
    choose(page, "run", "Strong-7B, mmad-bbox")
    choose(page, "label", "all answers")
    boxes = cards(page)
    assert boxes
    for card in boxes:
        assert "Strong-7B" in card.find_element("css selector", ".where").text
        assert card.find_elements("css selector", ".box.c0.told")  # what was predicted
    assert any(card.find_elements("css selector", ".box.c3:not(.told)") for card in boxes)  # what is true
    view = boxes[0].find_element("css selector", ".boxes")
    assert view.is_displayed()
    page.find_element("id", "show-boxes").click()
    assert not view.is_displayed()
    page.find_element("id", "reset").click()
    assert len(cards(page)) == everything


def test_all_pictures_are_there(page):
    sizes = page.execute_script(
        "return Array.from(document.querySelectorAll('.card img'), (one) => [one.complete, one.naturalWidth])"
    )
    assert len(sizes) >= 80
    assert all(done and width >= 84 for done, width in sizes)


def test_nothing_is_wider_than_the_page_and_text_can_be_read(page):
    page.execute_script("for (const one of document.querySelectorAll('details')) one.open = true")
    fits_and_can_be_read(page)
