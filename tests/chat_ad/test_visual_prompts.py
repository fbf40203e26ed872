"""Pictures for the generator: contours around defects, boxes around contours, the image itself unharmed."""

import numpy as np
import pytest
from PIL import Image

from adcopilot.chat_ad.visual_prompts import CONTOUR, draw_visual_prompt
from adcopilot.drawing import panel_scale
from adcopilot.sample.pairs import draw_pair, stream


def close(pixels, colour, by=12):
    return (np.abs(pixels.astype(int) - colour) <= by).all(axis=-1)


@pytest.mark.parametrize("size", [160, 448, 700, 1600])
def test_the_picture_is_a_marked_copy(size):
    pair = draw_pair(stream(3, size), category="pcb", size=size, anomalous=True)
    before = pair.query.tobytes()
    labels = [pair.kind] * len(pair.boxes)
    picture = draw_visual_prompt(pair.query, mask=pair.mask, boxes=pair.boxes, labels=labels)
    assert pair.query.tobytes() == before
    assert picture.size == (round(size * panel_scale((size, size))),) * 2
    again = draw_visual_prompt(pair.query, mask=pair.mask, boxes=pair.boxes, labels=labels)
    assert picture.tobytes() == again.tobytes()


def test_a_contour_surrounds_the_defect_and_leaves_its_pixels_alone():
    image = Image.new("RGB", (500, 500), (40, 60, 90))
    mask = np.zeros((500, 500), bool)
    mask[100:140, 200:260] = True
    mask[400:402, 50:52] = True
    picture = np.asarray(draw_visual_prompt(image, mask=mask))
    assert (picture[mask] == (40, 60, 90)).all()
    contour = close(picture, CONTOUR, by=0)
    for y1, y2, x1, x2 in ((100, 140, 200, 260), (400, 402, 50, 52)):
        middle_y, middle_x = (y1 + y2) // 2, (x1 + x2) // 2
        for ray in (
            contour[y1 - 6 : y1, middle_x], contour[y2 : y2 + 6, middle_x],
            contour[middle_y, x1 - 6 : x1], contour[middle_y, x2 : x2 + 6],
        ):  # fmt: skip
            assert ray.sum() == 2  # a line of two pixels in each direction
    assert contour.sum() == contour[92:148, 192:268].sum() + contour[392:410, 42:60].sum()  # and nowhere else


def test_a_box_lies_outside_the_contour_and_is_cut_at_the_pictures_edge():
    image = Image.new("RGB", (500, 400), (40, 60, 90))
    mask = np.zeros((400, 500), bool)
    mask[100:140, 200:260] = True
    mask[0:30, 0:30] = True
    boxes = [[200, 100, 260, 140], [0, 0, 30, 30]]
    picture = np.asarray(draw_visual_prompt(image, mask=mask, boxes=boxes, labels=["scratch", "hole"]))
    without = np.asarray(draw_visual_prompt(image, mask=mask))
    contour = close(without, CONTOUR, by=0)
    contour[:100] = False  # where labels are
    assert (picture[contour] == CONTOUR).all()
    assert (picture[101:139, 201:259] == (40, 60, 90)).all()
    assert (picture != without).any()


def test_a_tiny_defect_of_a_large_image_is_still_surrounded():
    image = Image.new("RGB", (4000, 3000), (40, 60, 90))
    mask = np.zeros((3000, 4000), bool)
    mask[1501, 2003] = True
    picture = draw_visual_prompt(image, mask=mask)
    assert picture.size == (1200, 900)
    rows, columns = np.nonzero(close(np.asarray(picture), CONTOUR, by=0))
    assert rows.min() < 1501 * 0.3 < rows.max()
    assert columns.min() < 2003 * 0.3 < columns.max()
    assert max(np.ptp(rows), np.ptp(columns)) < 20


def test_nothing_to_mark_is_the_picture_itself():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (500, 500, 3)).astype(np.uint8))
    for mask in (None, np.zeros((500, 500), bool)):
        assert draw_visual_prompt(image, mask=mask).tobytes() == image.tobytes()


def test_what_does_not_fit_is_refused():
    image = Image.new("RGB", (50, 40))
    with pytest.raises(ValueError, match="for an image of 50×40"):
        draw_visual_prompt(image, mask=np.zeros((50, 40), bool))
    with pytest.raises(ValueError, match="1 boxes but 2 labels"):
        draw_visual_prompt(image, boxes=[[0, 0, 9, 9]], labels=["a", "b"])
