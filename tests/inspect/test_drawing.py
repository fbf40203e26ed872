"""Pictures: sizes, and colour exactly where the boxes are."""

import numpy as np
import pytest
from PIL import Image

from adcopilot.anomaly_map.comparing import AnomalyMap
from adcopilot.anomaly_map.picture import map_over
from adcopilot.drawing import (
    ANOMALOUS,
    BOX_COLOURS,
    LINE,
    MARGIN,
    NORMAL,
    PANEL_MAX,
    PANEL_MIN,
    UNDECIDED,
    _font,
    _lines,
    draw_boxes,
    draw_result,
    save_picture,
)
from adcopilot.errors import UserError

GREY = (128, 128, 128)


def grey(width, height):
    return Image.new("RGB", (width, height), GREY)


@pytest.mark.parametrize(
    ("size", "panel"), [((56, 28), (448, 224)), ((640, 480), (640, 480)), ((2400, 1200), (1200, 600))]
)
def test_box_edges_are_coloured(size, panel):
    width, height = size
    box = [width // 4, height // 4, width // 2, height * 3 // 4]
    drawn = draw_boxes(grey(*size), [{"bbox_2d": box, "label": ""}])
    assert drawn.size == panel
    factor = panel[0] / width
    x1, y1, x2, y2 = (round(value * factor) for value in box)
    middle = ((x1 + x2) // 2, (y1 + y2) // 2)
    for point in ((x1, middle[1]), (x2 - 1, middle[1]), (middle[0], y1), (middle[0], y2 - 1)):
        assert drawn.getpixel(point) == BOX_COLOURS[0], point
    assert drawn.getpixel(middle) == GREY
    changed = np.argwhere((np.asarray(drawn) != GREY).any(-1))
    # the white edge lies one pixel outside
    assert changed.min(0).tolist() == [y1 - 1, x1 - 1]
    assert changed.max(0).tolist() == [y2, x2]


def test_each_label_has_its_colour_and_its_words():
    boxes = [
        {"bbox_2d": [100, 100, 200, 200], "label": "scratch"},
        {"bbox_2d": [300, 100, 400, 200], "label": "dent"},
        {"bbox_2d": [100, 300, 200, 400], "label": "scratch"},
    ]
    drawn = draw_boxes(grey(500, 500), boxes)
    assert [drawn.getpixel(point) for point in ((100, 150), (300, 150), (100, 350))] == [
        BOX_COLOURS[0],
        BOX_COLOURS[1],
        BOX_COLOURS[0],
    ]
    above = np.asarray(drawn.crop((100, 75, 200, 98)))
    assert (above == BOX_COLOURS[0]).all(-1).any()
    assert (above == (255, 255, 255)).all(-1).any()


def test_labels_at_the_edges_and_of_any_length_stay_in_the_picture():
    boxes = [
        {"bbox_2d": [0, 0, 56, 56], "label": "everything " * 30},
        {"bbox_2d": [55, 55, 56, 56], "label": "corner"},
        {"bbox_2d": [0, 0, 1, 1], "label": "划痕"},
    ]
    assert draw_boxes(grey(56, 56), boxes).size == (PANEL_MIN, PANEL_MIN)


@pytest.mark.parametrize(
    ("anomalous", "score", "reason", "colour"),
    [
        (True, 0.25, None, ANOMALOUS),
        (False, 0.25, None, NORMAL),
        (None, 0.25, "the answer is empty " * 40, UNDECIDED),
        (None, None, None, UNDECIDED),
    ],
)
def test_result_has_both_images_and_the_verdict(anomalous, score, reason, colour):
    template = Image.new("RGB", (100, 50), (10, 200, 10))
    picture = draw_result(
        template=template, query=grey(3000, 3000), boxes=[], anomalous=anomalous, score=score, reason=reason
    )
    lines = 4 * bool(reason)  # 800 letters
    top = 56 + LINE * lines
    assert picture.size == (PANEL_MIN + PANEL_MAX + 3 * MARGIN, top + PANEL_MAX + 40)
    assert picture.getpixel((MARGIN + 20, top + 100)) == (10, 200, 10)
    assert picture.getpixel((2 * MARGIN + PANEL_MIN + 500, top + 600)) == GREY
    assert picture.getpixel((MARGIN + 8, 12)) == colour


@pytest.mark.parametrize("reason", ["why " * 300, "why" * 300, "因为两张图片的大小不同" * 30, "short"])
def test_a_reason_is_there_to_its_end(reason):
    """Each of its letters, in lines that are no wider than the picture."""
    font = _font(16, latin=False)
    lines = _lines(reason, font, 400)
    assert "".join(lines).replace(" ", "") == reason.replace(" ", "")
    assert max(map(font.getlength, lines)) <= 400


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_saved_whole_in_a_new_folder(tmp_path, suffix):
    path = tmp_path / "new" / f"a.{suffix}"
    save_picture(grey(40, 30), path)
    with Image.open(path) as image:
        assert image.size == (40, 30)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_unknown_suffix(tmp_path):
    with pytest.raises(UserError, match="cannot write"):
        save_picture(grey(40, 30), tmp_path / "a.xyz")


@pytest.mark.parametrize(("threshold", "wanted"), [(0.5, "yellow"), (0.25, "red"), (None, "red")])
def test_a_map_is_a_panel_of_its_own_and_its_colours_are_tied_to_the_threshold(threshold, wanted):
    values = np.zeros((50, 100), np.float32)
    values[10:20, 30:60] = 0.5
    found = AnomalyMap(values=values, size=(500, 250), pred_score=0.5)
    given = {"template": grey(500, 250), "query": grey(500, 250), "boxes": [], "anomalous": None, "score": 0.5}
    without = draw_result(**given)
    drawn = draw_result(**given, anomaly_map=found, map_threshold=threshold)
    assert drawn.width == without.width + 500 + MARGIN
    left = drawn.width - 500 - MARGIN
    red, green, blue = drawn.getpixel((left + 225, 56 + 75))
    assert red > 160
    assert (green > 140) == (wanted == "yellow")
    assert blue < 110
    assert max(drawn.getpixel((left + 20, 56 + 200))) < GREY[0]
    assert np.array_equal(np.asarray(drawn)[56:300, : left - MARGIN], np.asarray(without)[56:300, : left - MARGIN])
    flat = AnomalyMap(values=np.zeros((5, 5), np.float32), size=(50, 50), pred_score=0.0)
    assert max(np.ptp(np.asarray(map_over(grey(50, 50), flat, threshold=threshold)), axis=(0, 1))) == 0
