"""The map and the marks in a real browser, with a line's folder and no model."""

import numpy as np
import pytest
from PIL import Image

from adcopilot.anomaly_map.comparing import Mapper, MapSettings
from adcopilot.drawing import draw_map
from adcopilot.line.marks import find_marked, read_marks

from ...inspect.conftest import part
from ..running import demo
from .looks import check
from .part import Part, complaints
from .test_many import Many

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1200)]

SIZE = (300, 200)
WHICH = "Was a verdict wrong? Choose the part and mark it"
KIND = "Was the verdict wrong? Kind of defect (may be empty)"


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
        page.ask("Defect found")
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
        check(chromium, "marks", folder=tmp_path, sizes=((1280, 900),))
        page.add("Part to inspect", good)
        page.wait("an empty place", lambda: page.said("told-one") == "" and not page.shown("Where it differs"))
        page.ask("No defect found")

        page = Many(driver=chromium, url=running.url)
        page.give("Parts to inspect: pictures or a zip", bad, good)
        page.inspect("2 of 2 pictures inspected. Done.")
        rows = page.rows()
        assert [row[1:3] for row in rows] == [["part 6.png", "Defect found"], ["part 11.png", "No defect found"]]
        assert rows[0][3] == f"{found.pred_score:.3f}"
        page.choose(WHICH, "part 11.png")
        page.press("Mark as good")
        page.wait("what is marked", lambda: "part 11.png is marked as good." in page.said("told-many"))
        check(chromium, "many-marks", folder=tmp_path, sizes=((1280, 900),))
        assert str(tmp_path) not in page.driver.page_source.replace(str(tmp_path / "run"), "")
    assert [line for line in complaints(chromium) if running.url in line] == []
    found = [(path.read_bytes(), mark.good, mark.kind) for path, mark in find_marked(read_marks(marks), [])]
    assert found == [(bad.read_bytes(), False, "scratch"), (good.read_bytes(), True, "")]
    assert {path.parent for path, _ in find_marked(read_marks(marks), [])} == {tmp_path / "kept" / "marks-pictures"}
