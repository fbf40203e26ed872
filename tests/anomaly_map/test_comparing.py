"""Maps of pixels: what counts as a difference and what does not; scores, masks and boxes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from adcopilot.anomaly_map.comparing import Mapper, MapSettings
from adcopilot.anomaly_map.marking import map_boxes, pred_mask, pred_score
from adcopilot.boxes import bbox_mask_iou
from adcopilot.errors import UserError
from adcopilot.inspect.judging import Judge
from adcopilot.inspect.mapping import with_map
from adcopilot.inspect.result import Result


def plate(*, defect=False, shift=(0, 0), gain=1.0, offset=0, size=(120, 96)):
    """A plate with a grid of discs, as RGB; the same each time but for what is asked."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    x, y = x + shift[0], y + shift[1]
    pixels = 90 + 60 * (((x % 40 - 20) ** 2 + (y % 32 - 16) ** 2) < 90) + 20 * (x > 75)
    if defect:
        pixels = np.where((abs(x - 60) < 5) & (abs(y - 48) < 5), 230, pixels)
    return Image.fromarray(np.clip(pixels * gain + offset, 0, 255).astype(np.uint8)).convert("RGB")


def test_a_defect_is_found_at_its_place():
    found = Mapper(MapSettings()).compare(plate(defect=True), [plate()])
    assert found.anomaly_map.shape == (96, 120)
    y, x = np.unravel_index(found.anomaly_map.argmax(), found.anomaly_map.shape)
    assert (x, y) == pytest.approx((60, 48), abs=5)
    [box] = found.boxes()
    assert box == pytest.approx([55, 43, 66, 54], abs=4)
    [grown] = Mapper(MapSettings(growth=3)).compare(plate(defect=True), [plate()]).boxes()
    assert grown == [box[0] - 3, box[1] - 3, box[2] + 3, box[3] + 3]


@pytest.mark.parametrize("change", [{"shift": (2, 1)}, {"gain": 0.75, "offset": 20}, {"shift": (5, 3), "gain": 1.2}])
def test_pose_and_light_are_no_defects(change):
    mapper = Mapper(MapSettings())
    good = mapper.compare(plate(**change), [plate()]).pred_score
    bad = mapper.compare(plate(defect=True, **change), [plate()]).pred_score
    assert good < 0.08
    assert bad > 4 * good


def test_the_nearest_of_several_templates_counts():
    mapper = Mapper(MapSettings())
    query, own, other = plate(), plate(), plate(defect=True)
    assert mapper.compare(query, [other, own]).pred_score <= mapper.compare(query, [own]).pred_score
    assert mapper.compare(query, [other]).pred_score > 0.2


def test_other_sizes_are_resized_and_other_shapes_refused():
    found = Mapper(MapSettings()).compare(plate(), [plate().resize((240, 192))])
    assert found.size == (120, 96)
    with pytest.raises(UserError, match="another shape than the query's 120×96"):
        Mapper(MapSettings()).compare(plate(), [plate().resize((96, 120))])


def test_large_pictures_are_compared_small_and_boxes_come_back():
    query = plate(defect=True).resize((1200, 960))
    found = Mapper(MapSettings(max_pixels=240 * 192)).compare(query, [plate()])
    assert found.values.shape == (192, 240)
    assert found.anomaly_map.shape == (960, 1200)
    [box] = found.boxes()
    assert box == pytest.approx([550, 430, 660, 540], abs=40)


def test_tiny_pictures_have_a_map():
    one, other = (plate(defect=defect).resize((9, 8)) for defect in (True, False))
    assert np.isfinite(Mapper(MapSettings()).compare(one, [other]).values).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "words"}, "--map is 'words'"),
        ({"search": 100}, "--map-search is 100"),
        ({"growth": -1}, "--box-growth is -1"),
        ({"backbone": "x"}, "--map-backbone x: goes with --map features"),
        ({"max_pixels": 3}, "--image-max-pixels is 3"),
    ],
)
def test_settings_out_of_range(values, message):
    with pytest.raises(UserError, match=message):
        MapSettings(**values)


def test_settings_are_written_by_what_differs():
    assert MapSettings().to_dict() == {"kind": "pixels"}
    kept = MapSettings(kind="features", backbone="somewhere", growth=2).to_dict()
    assert MapSettings(**kept) == MapSettings(kind="features", backbone="somewhere", growth=2)


def test_score_is_the_mean_of_the_highest():
    values = np.zeros((10, 100), np.float32)
    values[3, 4:8] = (1, 2, 3, 4)
    assert pred_score(values, top=0.002) == 3.5
    assert pred_score(values, top=1e-9) == 4


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(2, 40),
    st.integers(2, 40),
    st.integers(1, 300),
    st.integers(1, 300),
    st.integers(0, 9),
)
def test_boxes_lie_in_the_query_and_hold_what_is_marked(seed, height, width, across, down, growth):
    values = np.random.default_rng(seed).random((height, width)).astype(np.float32)
    mask = pred_mask(values, 0.9)
    assert mask[values >= 0.9].all() or (values[values >= 0.9] < 0.35 * values.max()).any()
    boxes = map_boxes(mask, size=(across, down), growth=growth)
    assert all(0 <= x1 < x2 <= across and 0 <= y1 < y2 <= down for x1, y1, x2, y2 in boxes)
    covered = np.zeros((down, across), bool)
    for x1, y1, x2, y2 in boxes:
        covered[y1:y2, x1:x2] = True
    for y, x in np.argwhere(mask):
        assert covered[min(int(y * down / height), down - 1), min(int(x * across / width), across - 1)]


def test_nothing_is_marked_where_nothing_differs():
    assert map_boxes(pred_mask(np.zeros((8, 8), np.float32), 0.0), size=(8, 8)) == []


def test_deeppcb_boards(deeppcb_root):
    """Whole boards of the public set: places by the map alone, without any model (docs/results/anomaly-map.md)."""
    root = deeppcb_root / "PCBData"
    mapper, shares = Mapper(MapSettings(growth=7)), []
    for line in (root / "test.txt").read_text().split("\n")[:6]:
        images, boxes = line.split()
        query, template = (Image.open(root / images.replace(".jpg", f"_{kind}.jpg")) for kind in ("test", "temp"))
        found = mapper.compare(query.convert("RGB"), [template.convert("RGB")])
        rows = (root / boxes).read_text().splitlines()
        truth = [[int(one) for one in row.replace(",", " ").split()[:4]] for row in rows]
        shares.append(bbox_mask_iou(found.boxes(0.48), truth, found.size))
    assert np.mean(shares) > 0.6


def test_a_normal_picture_has_no_box():
    """A few pixels may be marked where the score, a mean of more, is below the threshold."""
    found = Mapper(MapSettings()).compare(plate(defect=True), [plate()])
    threshold = found.pred_score * 1.01
    assert found.boxes(threshold)
    assert found.places(threshold) == []
    assert found.places(None) == found.boxes()
    assert found.places(found.pred_score) == found.boxes(found.pred_score)
    result = with_map(Result(query="q", template="t"), found, threshold=threshold, alone=True)
    assert Judge(source="map", map_threshold=threshold).judged(result).verdict == "normal"
    assert result.boxes == []
