"""Sets that lie as MVTec's does, and what is peculiar to each."""

import shutil

import pytest

from ..pictures import BOX
from ..trees import build
from .reading import one, read


def test_mvtec(tmp_path):
    found = read("mvtec", build("mvtec", tmp_path))
    assert found.counts == {("train", "normal"): 6, ("test", "normal"): 4, ("test", "anomalous"): 6}
    entry = one(found.entries, "bottle/test/broken_large/000.png")
    assert (entry.category, entry.defect, entry.view, entry.group) == ("bottle", "broken_large", "", "")
    assert entry.mask == "bottle/ground_truth/broken_large/000_mask.png"
    assert (entry.boxes, entry.box_labels) == ((BOX,), ("broken_large",))


def test_a_single_category_may_be_the_root(tmp_path):
    root = build("mvtec", tmp_path) / "wood"
    found = read("mvtec", root)
    assert {entry.category for entry in found.entries} == {"wood"}
    assert one(found.entries, "hole/000.png").mask == "ground_truth/hole/000_mask.png"


def test_categories_of_one_name_keep_their_folders(tmp_path):
    root = build("mvtec", tmp_path)
    shutil.copytree(root / "wood", root / "more/wood")
    assert {entry.category for entry in read("mvtec", root).entries} == {"bottle", "wood", "more/wood"}


def test_ds_mvtec_in_either_spelling(tmp_path):
    found = read("mvtec", build("ds-mvtec", tmp_path))
    assert found.counts == {("test", "normal"): 4, ("test", "anomalous"): 4}
    assert one(found.entries, "pill/image/crack/001.png").mask == "pill/mask/crack/001_mask.png"


@pytest.mark.parametrize(("category", "colours"), [("bottle", "rbg_mask"), ("pill", "rgb_mask")])
def test_ds_mvtec_s_coloured_masks_stand_in(tmp_path, category, colours):
    root = build("ds-mvtec", tmp_path)
    shutil.rmtree(root / category / "mask")
    entry = one(read("mvtec", root).entries, f"{category}/image/crack/000.png")
    assert entry.mask == f"{category}/{colours}/crack/000_{colours}.png"
    assert entry.boxes == (BOX,)


@pytest.mark.parametrize(("layout", "ending"), [("goodsad", ""), ("goodsad-mask", "_mask")])
def test_goodsad_in_either_spelling(tmp_path, layout, ending):
    found = read("goodsad", build(layout, tmp_path))
    entry = one(found.entries, "straw_missing/068_001.jpg")
    assert entry.mask == f"drink_can/ground_truth/straw_missing/068_001{ending}.png"
    # `GoodsAD` has "good" in it: only a whole folder's name may say so.
    assert found.counts["test", "anomalous"] == 2


def test_mpdd_s_anomalous_tubes_have_no_kind_of_defect(tmp_path):
    found = read("mpdd", build("mpdd", tmp_path))
    assert {(entry.category, entry.defect) for entry in found.anomalous} == {
        ("metal_plate", "scratches"),
        ("metal_plate", "total_rust"),
        ("tubes", ""),
    }


def test_3cad(tmp_path):
    found = read("3cad", build("3cad", tmp_path))
    entry = one(found.entries, "test/aotu/000001.png")
    assert (entry.category, entry.defect) == ("Copper_Stator", "aotu")
    assert entry.mask == "Copper_Stator/ground_truth/aotu/000001.png"


def test_viaduct_has_views_of_parts(tmp_path):
    found = read("viaduct", build("viaduct", tmp_path))
    assert found.counts == {
        ("train", "normal"): 4,
        ("val", "normal"): 4,
        ("test", "normal"): 4,
        ("test", "anomalous"): 2,
    }
    first, second = found.anomalous
    assert (first.category, first.view, second.view) == ("cable_end_sleeve", "0", "1")
    assert first.group == second.group
    assert len({entry.group for entry in found.entries}) == 7
