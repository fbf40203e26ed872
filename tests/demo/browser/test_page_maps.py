"""The map and the marks in a real browser: with a line's folder and no model, and beside an endpoint."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("gradio", reason="needs gradio: the extra web")
pytest.importorskip("selenium", reason="needs selenium: the extra dev")

from adcopilot.anomaly_map.comparing import Mapper, MapSettings
from adcopilot.drawing import draw_map
from adcopilot.line.marks import find_marked, read_marks

from ...inspect.conftest import part
from ..running import demo
from .part import PAINTED, Part, complaints
from .test_many import Many

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1200)]

SIZE = (300, 200)
WHICH = "Was a verdict wrong? Choose the part and mark it"
KIND = "Was the verdict wrong? Kind of defect (may be empty)"


def pictures_of(page, name, *, at="adc-verdict", label="Where it differs"):
    """The page with its results, light and dark, where ADCOPILOT_SCREENSHOTS names a folder for them."""
    folder = os.environ.get("ADCOPILOT_SCREENSHOTS")
    for scheme in ("light", "dark") if folder else ():
        page.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False},
        )
        page.driver.execute_script("document.body.classList.toggle('dark', arguments[0])", scheme == "dark")
        page.driver.execute_script("document.getElementById(arguments[0]).scrollIntoView({block: 'center'})", at)
        if image := page.shown(label):
            assert page.driver.execute_async_script(PAINTED, image) == "painted"
        page.driver.save_screenshot(str(Path(folder, f"{name}-{scheme}.png")))
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    page.driver.execute_script("document.body.classList.remove('dark')")


def map_of(query, templates):
    with Image.open(query) as image:
        opened = [Image.open(one).convert("RGB") for one in templates]
        return image.convert("RGB"), Mapper(MapSettings()).compare(image.convert("RGB"), opened)


def test_a_line_without_a_model_and_its_marks(chromium, line_dir, tmp_path):
    """The part alone is brought; both tabs say the same, and what is marked is found by `--marks`."""
    for index, defect in ((6, True), (11, False)):
        part(index, size=SIZE, defect=defect).save(tmp_path / f"part {index}.png")
    bad, good = tmp_path / "part 6.png", tmp_path / "part 11.png"
    marks = tmp_path / "kept" / "marks.jsonl"
    with demo(tmp_path / "run", "--model", line_dir, "--marks", marks) as running:
        page = Part(driver=chromium, url=running.url)
        assert page.button("What kind of defect?") is None
        page.add("Part to inspect", bad)
        page.press("Is it defective?")
        page.wait("the verdict", lambda: "Defect found" in page.said("verdict"))
        assert "compared with 000.png" in page.said("verdict")
        assert "From 0.2 on a part counts as defective." in page.said("verdict")
        query, found = map_of(bad, [line_dir / f"templates/00{index}.png" for index in range(2)])
        assert f"Map's score {found.pred_score:.3f}" in page.said("differs-about")
        assert "Yellow is the threshold 0.2" in page.said("differs-about")
        shown = page.picture("Where it differs")
        assert np.array_equal(shown, np.asarray(draw_map(query, found, threshold=0.2)).astype(int))
        page.write(KIND, "scratch")
        page.press("Mark as defective")
        page.wait("what is marked", lambda: "is marked as defective: scratch." in page.said("told-one"))
        pictures_of(page, "demo-marks", at="adc-marked")
        page.add("Part to inspect", good)
        page.wait("an empty place", lambda: page.said("told-one") == "" and not page.shown("Where it differs"))
        page.press("Is it defective?")
        page.wait("the verdict", lambda: "No defect found" in page.said("verdict"))

        page = Many(driver=chromium, url=running.url)
        page.give("Parts to inspect: pictures or a zip", bad, good)
        page.press("Inspect all")
        page.wait("the end", lambda: "2 of 2 pictures inspected. Done." in page.said("progress"))
        rows = page.rows()
        assert [row[1:3] for row in rows] == [["part 6.png", "Defect found"], ["part 11.png", "No defect found"]]
        assert rows[0][3] == f"{found.pred_score:.3f}"
        page.choose(WHICH, "part 11.png")
        page.press("Mark as good")
        page.wait("what is marked", lambda: "part 11.png is marked as good." in page.said("told-many"))
        pictures_of(page, "demo-many-marks", at="adc-told-many")
        assert str(tmp_path) not in page.driver.page_source.replace(str(tmp_path / "run"), "")
    assert [line for line in complaints(chromium) if running.url in line] == []
    found = [(path.read_bytes(), mark.good, mark.kind) for path, mark in find_marked(read_marks(marks), [])]
    assert found == [(bad.read_bytes(), False, "scratch"), (good.read_bytes(), True, "")]
    assert {path.parent for path, _ in find_marked(read_marks(marks), [])} == {tmp_path / "kept" / "marks-pictures"}


def test_a_map_beside_an_endpoint(chromium, stub_demo, said, tmp_path):
    """No threshold of it is known, which the page says; marks cannot be made, so there are no buttons for them."""
    part(1, size=SIZE).save(tmp_path / "good.png")
    part(6, size=SIZE, defect=True).save(tmp_path / "part.png")
    said.text, said.yes = 'Yes. [{"bbox_2d": [10, 10, 40, 40], "label": "scratch"}]', 0.9
    page = Part(driver=chromium, url=stub_demo.url)
    page.add("Good part", tmp_path / "good.png")
    page.add("Part to inspect", tmp_path / "part.png")
    page.press("Is it defective?")
    page.wait("the verdict", lambda: "Defect found" in page.said("verdict"))
    assert "No threshold is known: yellow is a difference of 0.25, red 0.5" in page.said("differs-about")
    query, found = map_of(tmp_path / "part.png", [tmp_path / "good.png"])
    shown = page.picture("Where it differs")
    assert np.array_equal(shown, np.asarray(draw_map(query, found, threshold=0.25)).astype(int))
    assert page.button("Mark as good") is None
    pictures_of(page, "demo-map", at="adc-marked")
    page.add("Part to inspect", tmp_path / "good.png")
    page.wait("an empty place", lambda: not page.shown("Where it differs"))


@pytest.mark.parametrize("words", [["--map", "off"], ["--model-alone"]])
def test_a_page_without_a_map_and_one_without_a_threshold(chromium, stub, said, tmp_path, words):
    part(1, size=SIZE).save(tmp_path / "good.png")
    part(6, size=SIZE, defect=True).save(tmp_path / "part.png")
    off = words == ["--map", "off"]
    model = ["--endpoint", stub.url, "--model", "ad-copilot", *words] if off else ["--model", "none"]
    with demo(tmp_path / "run", *model) as running:
        page = Part(driver=chromium, url=running.url)
        page.add("Good part", tmp_path / "good.png")
        page.add("Part to inspect", tmp_path / "part.png")
        page.press("Is it defective?")
        page.wait("the verdict", lambda: "About part.png" in page.said("verdict"))
        if off:
            assert "No defect found" in page.said("verdict")
            assert "Where it differs" not in page.text()
        else:
            assert page.said("verdict").startswith("Undecided\n")
            assert page.shown("Where it differs")
            pictures_of(page, "demo-undecided")
