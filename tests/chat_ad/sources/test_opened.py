"""Images that a step opens again are decoded once, within a bound of memory."""

import numpy as np
import pytest
from PIL import Image

from adcopilot.chat_ad.sources import opened as module
from adcopilot.chat_ad.sources.opened import OpenedImages
from adcopilot.errors import UserError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for number in range(3):
        Image.fromarray(np.full((10, 20, 3), number, np.uint8)).save(tmp_path / f"{number}.png")
    read = []
    opened = module.open_reference
    monkeypatch.setattr(module, "open_reference", lambda root, name: read.append(name) or opened(root, name))
    return tmp_path, read


def test_once(folder):
    root, read = folder
    images = OpenedImages()
    for name in ("0.png", "1.png", "0.png", "1.png"):
        assert images(root, name).getpixel((0, 0)) == (int(name[0]),) * 3
    assert read == ["0.png", "1.png"]


def test_the_least_used_go_first(folder):
    root, read = folder
    images = OpenedImages(most=2 * 600)
    for name in ("0.png", "1.png", "0.png", "2.png", "0.png", "1.png"):
        images(root, name)
    assert read == ["0.png", "1.png", "2.png", "1.png"]


def test_one_larger_than_the_bound_is_opened_all_the_same(folder):
    root, read = folder
    images = OpenedImages(most=10)
    assert images(root, "0.png").size == (20, 10)
    images(root, "1.png")
    with pytest.raises(UserError, match=r"9\.png"):
        images(root, "9.png")
    assert read == ["0.png", "1.png", "9.png"]
