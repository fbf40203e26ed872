"""The page of `adcopilot eval report --plan` in a real browser: ablation tables, and the curve over samples."""

import pytest

from ..evaluation.benchmarks.mmad.mini_mmad import build
from ..evaluation.report.report_runs import EVIL, Scripted, evaluate
from ..evaluation.report.report_runs import report as write_report
from .report_pages import fits_and_can_be_read, resize

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

#: Training samples → share of right answers.
SHARES = {100: 0.2, 1000: 0.5, 10_000: 0.8}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The address of a page about three planned runs, with a hostile label."""
    folder = tmp_path_factory.mktemp("plan")
    data = build(folder / "MMAD")
    lines = ["run,name,samples,Comparison Encoder"]
    names = dict.fromkeys(SHARES, "") | {1000: EVIL.replace('"', '""')}
    with pytest.MonkeyPatch.context() as patch:
        for samples, share in SHARES.items():
            evaluate(patch, "mmad", data, folder / f"run{samples}", Scripted(name="Tiny", share=share))
            lines.append(f'run{samples},"{names[samples]}",{samples},yes')
    (folder / "plan.csv").write_text("\n".join(lines), "utf-8")
    write_report("--plan", folder / "plan.csv", "--output", folder / "out", "--against", "published", "--samples", 0)
    return (folder / "out/report.html").as_uri()


def rectangle(page, element):
    return page.execute_script("return arguments[0].getBoundingClientRect().toJSON()", element)


def test_the_ablation_stands_above_the_papers(page):
    tables = [one.get_attribute("id") for one in page.find_elements("css selector", "section[id]")]
    assert tables.index("ablation-mmad") < tables.index("ablation-paper-vii")
    rows = page.find_elements("css selector", "#ablation-mmad tbody tr")
    assert [row.find_element("tag name", "th").is_displayed() for row in rows] == [True] * 3
    text = page.find_element("id", "ablation-mmad").text
    for samples in (100, 10_000):
        assert f"Comparison Encoder, {samples:,} samples" in text
    assert EVIL in text
    assert page.find_elements("css selector", "img[src='x']") == []


def test_the_curve_rises_and_nothing_of_it_is_cut_off(page, report):
    for width in (1400, 390):
        resize(page, width)
        figure = page.find_element("css selector", "#scaling-mmad img")
        assert figure.get_property("naturalWidth") > 0
        assert 250 < rectangle(page, figure)["width"] <= width
    page.get(report.replace("report.html", "scaling-mmad.svg"))  # the same picture as a file, whose parts can be asked
    resize(page, 1400)
    outer = rectangle(page, page.find_element("css selector", "svg"))
    texts = page.find_elements("css selector", "svg text")
    assert len(texts) > 5
    for text in texts:
        inner = rectangle(page, text)
        assert outer["left"] <= inner["left"] < inner["right"] <= outer["right"], text.text
        assert outer["top"] <= inner["top"] < inner["bottom"] <= outer["bottom"], text.text
    heights = [rectangle(page, one)["top"] for one in page.find_elements("css selector", "svg use[stroke='#0072b2']")]
    assert len(heights) >= 3
    assert heights[:3] == sorted(heights[:3], reverse=True)


def test_nothing_is_wider_than_the_page_and_text_can_be_read(page):
    page.execute_script("for (const one of document.querySelectorAll('details')) one.open = true")
    fits_and_can_be_read(page)
