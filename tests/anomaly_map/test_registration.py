"""Templates are moved under the query: by what, and when not."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from adcopilot.anomaly_map.registration import Movement, place, register


def scene(seed=0, side=120):
    """Soft blobs: (1, 1, side, side)."""
    noise = torch.rand(1, 1, side // 8, side // 8, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(noise, size=(side, side), mode="bicubic", align_corners=False).clamp(0, 1)


def moved(picture, *, angle=0.0, scale=1.0, shift=(0.0, 0.0)):
    """The query in which the template lies as `Movement` says."""
    return place(picture, Movement(angle=math.radians(angle), scale=scale, shift=shift))[0]


@pytest.mark.parametrize(
    ("angle", "scale", "shift"),
    [(0, 1, (5.0, -3.0)), (3, 1, (0.0, 0.0)), (-6, 1.05, (4.0, 2.0)), (0, 0.94, (-2.5, 6.5)), (1, 1, (12.0, 10.0))],
)
def test_a_movement_is_found(angle, scale, shift):
    template = scene()
    found = register(moved(template, angle=angle, scale=scale, shift=shift), template)
    assert math.degrees(found.angle) == pytest.approx(angle, abs=0.3)
    assert found.scale == pytest.approx(scale, abs=0.01)
    assert found.shift == pytest.approx(shift, abs=0.6)


@pytest.mark.parametrize("shift", [40, 80, 100, 110])
def test_boards_are_found_up_to_the_shift_that_is_promised(deeppcb_root, shift):
    """A board repeats itself: the highest correlation of a thumbnail is often another place."""
    with Image.open(deeppcb_root / "PCBData/group00041/00041/00041001_temp.jpg") as image:
        pixels = torch.from_numpy(np.array(image.convert("L"))).float()[None, None] / 255
    query, template = pixels[..., 80:560, :480], pixels[..., 80:560, shift : shift + 480]
    assert register(query, template).shift == pytest.approx((-shift, 0), abs=0.6)


def test_light_does_not_move_a_template():
    template = scene(1)
    found = register(moved(template, shift=(4.0, 1.0)) * 0.6 + 0.2, template)
    assert found.shift == pytest.approx((4.0, 1.0), abs=0.5)


def test_the_same_picture_stays_where_it_is():
    assert register(scene(), scene()).is_none


@pytest.mark.parametrize("side", [8, 20, 57, 300])
def test_any_size_and_flat_pictures_give_numbers(side):
    flat = torch.full((1, 3, side, side + 3), 0.5)
    assert register(flat, flat).is_none
    noise = torch.from_numpy(np.random.default_rng(0).random((1, 3, side, side + 3))).float()
    for one in (register(noise, flat), register(flat, noise), register(noise, noise.flip(-1))):
        assert all(map(math.isfinite, (one.angle, one.scale, *one.shift)))


def test_what_no_template_shows_is_known():
    template = scene(2)
    _, seen = place(template, Movement(shift=(20.0, 0.0)))
    assert not seen[:, -20:].any()
    assert seen[2:-2, 2:-24].all()
    # and costs: nothing is found where nothing is compared, so a movement must earn it
    half = torch.cat([template[..., :60], torch.full_like(template[..., 60:], 0.5)], dim=-1)
    found = register(half, template)
    assert max(map(abs, found.shift)) < 3
