"""Maps of textures: nothing has a place, and what no good picture shows anywhere stands out."""

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from adcopilot.anomaly_map.comparing import Mapper, MapSettings
from adcopilot.anomaly_map.texture import Texture
from adcopilot.errors import UserError
from adcopilot.inspect.judging import MOST_MAP

SETTINGS = MapSettings(kind="texture")


def tile(seed, *, size=(120, 96), defect=False, gain=1.0, shade=0.0, colour=(1.0, 1.0, 1.0)):
    """Brushed metal, another piece for each seed; with a hole at (60, 48)."""
    width, height = size
    noise = np.random.default_rng(seed).normal(size=(height, width))
    pixels = 120 + 160 * gaussian_filter(noise, (6, 1)) + 6 * gaussian_filter(noise[::-1], 0.8)
    y, x = np.mgrid[:height, :width]
    if defect:
        pixels = np.where((x - 60) ** 2 + (y - 48) ** 2 < 30, 40, pixels)
    pixels = pixels * gain + shade * (x / width - 0.5)
    return Image.fromarray((pixels[..., None] * colour).clip(0, 255).astype(np.uint8))


GOOD = [tile(seed) for seed in range(8)]


def score(query, templates=GOOD):
    return Mapper(SETTINGS).compare(query, templates).pred_score


def test_a_hole_in_a_piece_never_seen_is_found_at_its_place():
    found = Mapper(SETTINGS).compare(tile(50, defect=True), GOOD)
    assert found.anomaly_map.shape == (96, 120)
    y, x = np.unravel_index(found.anomaly_map.argmax(), found.anomaly_map.shape)
    assert (x, y) == pytest.approx((60, 48), abs=8)
    good = [score(tile(seed)) for seed in range(50, 56)]
    assert found.pred_score > 1.5 * max(good)
    [box] = found.places(2 * float(np.median(good)))
    assert box[0] < 60 < box[2]
    assert box[1] < 48 < box[3]
    # what pixels laid over each other say of such pieces is nothing
    pixels = Mapper(MapSettings())
    without = [pixels.compare(tile(seed), GOOD[:4]).pred_score for seed in range(50, 56)]
    assert pixels.compare(tile(50, defect=True), GOOD[:4]).pred_score < 1.5 * max(without)


@pytest.mark.parametrize("change", [{"gain": 0.8}, {"shade": 60.0}, {"size": (96, 140)}])
def test_light_and_shape_are_no_defects(change):
    assert score(tile(60, **change)) < score(tile(60, defect=True)) / 1.5
    if "size" in change:
        return
    assert score(tile(60, defect=True, **change)) > 1.5 * score(tile(60, **change))


def test_a_stain_of_equal_brightness_is_seen_in_colour():
    stained = np.asarray(tile(61)).copy()
    stained[40:56, 50:70] = (stained[40:56, 50:70] * (1.3, 0.9, 0.7)).clip(0, 255).astype(np.uint8)
    coloured = [tile(seed, colour=(1.0, 0.95, 0.9)) for seed in range(8)]
    assert score(Image.fromarray(stained), coloured) > 1.3 * score(tile(61, colour=(1.0, 0.95, 0.9)), coloured)


def test_one_template_will_do_and_a_run_is_like_another():
    assert score(tile(62, defect=True), GOOD[:1]) > 1.3 * score(tile(62), GOOD[:1])
    texture = Texture(max_pixels=768 * 768)
    first = texture.distances(tile(62), GOOD)
    # kept patches are the same as those made anew, whatever was compared in between
    texture.distances(tile(63), GOOD[3:])
    assert (texture.distances(tile(62), GOOD) == first).all()
    assert (Texture(max_pixels=768 * 768).distances(tile(62), GOOD) == first).all()


def test_large_pictures_are_shrunk_by_one_factor():
    small = Texture(max_pixels=120 * 96 // 4).distances(tile(64), GOOD)
    assert small.shape == pytest.approx((12, 15), abs=2)


def test_what_cannot_be_looked_at_so():
    with pytest.raises(
        UserError, match=r"picture of 8×8 pixels .* smaller than the patches of --map texture \(11×11\)"
    ):
        score(tile(65).resize((8, 8)))
    assert score(tile(65, size=(16, 16)), [tile(66, size=(16, 16))]) >= 0  # at full size alone
    assert score(Image.new("RGB", (64, 64), "grey"), [Image.new("RGB", (64, 64), "grey")] * 2) == 0
    with pytest.raises(UserError, match="--map-search 3: --map texture looks everywhere"):
        MapSettings(kind="texture", search=3)


def test_a_query_far_larger_than_its_templates_is_refused():
    """Time and memory of a comparison stay within bounds, whatever somebody brings."""
    with pytest.raises(UserError, match="the query has 400×400 pixels and its largest template 120×96"):
        Texture(max_pixels=120 * 96).distances(tile(67, size=(400, 400)), GOOD)


def test_no_score_is_above_what_a_threshold_can_be():
    """Good pictures that are all but plain have patches that are all but equal; all else is very far."""
    dice = np.random.default_rng(0)
    plain = [Image.fromarray((200 + dice.integers(0, 2, (84, 84, 3))).astype(np.uint8)) for _ in range(3)]
    assert score(tile(68, size=(84, 84), defect=True), plain) == MOST_MAP
