"""MANTA's strips of five views."""

from collections import Counter

from adcopilot.chat_ad.readers import index

from ..pictures import mask_of, picture, save
from ..trees import build
from .reading import read


def test_manta_s_strips_are_five_views(tmp_path):
    found = read("manta", build("manta", tmp_path))
    assert found.counts == {("train", "normal"): 5, ("test", "normal"): 9, ("test", "anomalous"): 1}
    entry = found.anomalous[0]
    assert entry.image == "medicine/capsule/test/crack/b.png#view=2/5"
    assert entry.mask == "medicine/capsule/ground_truth/crack/b.png#view=2/5&over=half"
    assert (entry.category, entry.view, entry.boxes) == ("capsule", "2", ((10, 20, 22, 30),))
    assert (entry.width, entry.height) == (48, 48)
    views = [other for other in found.entries if other.group == entry.group]
    assert [other.view for other in views] == list("01234")
    assert views[0].notes == "a view without the defect of its part (crack)"


def test_manta_s_strips_must_be_strips_and_their_masks_show_something(tmp_path):
    root = build("manta", tmp_path)
    base = root / "medicine/capsule"
    save(base / "train/good/square.png", picture(b"square", (48, 48)))
    save(base / "train/good/odd.png", picture(b"odd", (242, 48)))
    save(base / "ground_truth/crack/b.png", mask_of(size=(240, 48)))
    found = read("manta", root)
    assert Counter(problem.kind for problem in found.blocking) == {"not-a-strip": 2, "empty-mask": 1}
    assert found.counts == {("train", "normal"): 5, ("test", "normal"): 5}


def test_a_view_with_a_region_too_small_for_a_box_is_not_normal(tmp_path):
    root = build("manta", tmp_path)
    mask = mask_of((106, 20, 118, 30), (10, 5, 12, 6), size=(240, 48))
    save(root / "medicine/capsule/ground_truth/crack/b.png", mask)
    entries = [entry for entry in index("manta", root, min_area=3) if "crack" in entry.image]
    assert [(entry.label, len(entry.boxes)) for entry in entries] == [
        ("anomalous", 0),
        ("normal", 0),
        ("anomalous", 1),
        ("normal", 0),
        ("normal", 0),
    ]
    assert entries[0].notes == "only regions of fewer than 3 pixels, no boxes"
