"""Many parts beside a line's own good parts, whose names mean nothing."""

from types import SimpleNamespace

import pytest
from PIL import Image

from adcopilot.demo.limits import Limits
from adcopilot.demo.service import GoodParts, Service
from adcopilot.demo.tabs.many_parts import ManyParts


@pytest.mark.parametrize("of_line", [True, False])
def test_equal_names_mean_something_of_a_visitors_pictures_alone(tmp_path, of_line):
    good, query = tmp_path / "good", tmp_path / "000.png"
    good.mkdir()
    for number in range(4):
        Image.new("RGB", (32, 32), (60 * number, 0, 0)).save(good / f"{number:03d}.png")
    Image.new("RGB", (32, 32), (1, 0, 0)).save(query)
    good_parts = GoodParts(good) if of_line else None
    service = Service(engine=SimpleNamespace(speaks=True), store=None, limits=Limits(), good_parts=good_parts)
    pools = []
    [pair] = ManyParts(service=service, folder=None)._pairs(tmp_path, [([query], good, True)], pools, {})
    assert pair.template == good / "000.png"
    assert pools[0].chosen == ({"likeness": 1} if of_line else {"equal names": 1})
