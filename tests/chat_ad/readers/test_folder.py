"""Folders of one's own photographs."""

import shutil

from ..pictures import picture, save
from ..trees import build
from .reading import one, read


def test_a_folder_of_good_and_bad_parts(tmp_path):
    found = read("folder", build("folder", tmp_path))
    assert found.counts == {("", "normal"): 2, ("", "anomalous"): 4}
    assert {(entry.category, entry.defect) for entry in found.anomalous} == {("folder", "dent"), ("folder", "")}
    assert one(found.entries, "dent 1.png").mask == "masks/dent/dent 1.png"


def test_a_folder_s_masks_may_all_lie_in_one(tmp_path):
    root = build("folder", tmp_path)
    for path in list((root / "masks").rglob("*.png")):
        path.rename(root / "masks" / path.name)
    for kind in ("dent", "bad"):
        (root / f"masks/{kind}").rmdir()
    found = read("folder", root)
    assert len(found.anomalous) == 4
    assert found.problems == []


def test_a_folder_of_categories(tmp_path):
    root = build("folder", tmp_path)
    inner = root / "clip"
    inner.mkdir()
    for name in ("good", "dent", "bad", "masks"):
        (root / name).rename(inner / name)
    assert {entry.category for entry in read("folder", root).entries} == {"clip"}


def test_a_folder_without_masks_is_taken_when_asked(tmp_path):
    root = build("folder", tmp_path)
    shutil.rmtree(root / "masks")
    found = read("folder", root)
    assert [problem.kind for problem in found.blocking] == ["missing-mask"] * 4
    assert "--set datasets.SET.options.masks=optional" in found.blocking[0].reason
    found = read("folder", root, masks="optional")
    assert found.blocking == []
    assert {(entry.mask, entry.boxes, entry.notes) for entry in found.anomalous} == {("", (), "no mask")}


def test_every_image_below_a_folder(tmp_path):
    root = tmp_path / "pictures"
    for name in ("a.png", "b/c.jpg", "b/d/e.bmp", ".hidden/f.png"):
        save(root / name, picture(name.encode()))
    (root / "b/loop").symlink_to(root / "b")
    (root / "again").symlink_to(root / "b/d")
    found = read("folder", root, label="normal", split="test")
    assert [entry.image for entry in found.entries] == ["a.png", "again/e.bmp", "b/c.jpg"]
    assert {(entry.label, entry.split) for entry in found.entries} == {("normal", "test")}
    assert found.blocking == []
