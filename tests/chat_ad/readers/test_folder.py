"""Folders of one's own photographs."""

import shutil

import pytest

from ..pictures import BOX, mask_of, picture, save
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


def test_photographs_that_are_not_read_are_problems(tmp_path):
    root = build("folder", tmp_path)
    for name in ("good/z.heic", "dent/z.NEF", "dent/dent 1.nef"):  # the last lies beside its PNG
        (root / name).write_bytes(b"raw")
    found = read("folder", root)
    assert [(problem.kind, problem.file) for problem in found.blocking] == [
        ("unread-format", "dent/z.NEF"),
        ("unread-format", "good/z.heic"),
    ]


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


@pytest.mark.parametrize(
    "name", ["Masks", "Ground-Truth", "groundtruth", "GT", "mask_images", "labels", "segmentation"]
)
def test_folders_of_masks_under_other_names_hold_no_photographs(tmp_path, name):
    for tree, inner in (("folder", ""), ("folder-tree", "gasket/")):
        root = build(tree, tmp_path / tree)
        expected = read("folder", root).anomalous
        (root / f"{inner}{'ground_truth' if inner else 'masks'}").rename(root / f"{inner}{name}")
        for masks in ("required", "optional"):
            found = read("folder", root, masks=masks)
            assert found.blocking == []
            assert [(row.image, row.boxes) for row in found.anomalous] == [(row.image, row.boxes) for row in expected]


def test_a_second_mask_of_an_image_is_not_lost(tmp_path):
    root = build("folder", tmp_path)
    save(root / "masks/dent/dent 0_mask_1.png", mask_of((40, 30, 50, 40)))
    save(root / "masks/dent/dent 1_1.png", mask_of((40, 30, 50, 40)))
    (root / "masks/dent/dent 1.png").rename(root / "masks/dent/dent 1_2.png")
    found = read("folder", root)
    assert [(p.kind, p.file) for p in found.blocking] == [
        ("ambiguous-mask", f"dent/dent {number}.png") for number in (0, 1)
    ]
    assert "masks/dent/dent 0/" in found.blocking[0].reason
    # What it advises.
    (root / "masks/dent/dent 0").mkdir()
    for name in ("dent 0.png", "dent 0_mask_1.png"):
        (root / "masks/dent" / name).rename(root / "masks/dent/dent 0" / name)
    (root / "masks/dent/dent 0/._dent 0.png").write_bytes(b"of macOS")
    assert one(read("folder", root).entries, "dent 0.png").boxes == (BOX, (40, 30, 50, 40))
    save(root / "masks/dent/dent 0/more/dent.png", mask_of(BOX))
    assert any("a folder among the masks" in problem.reason for problem in read("folder", root).blocking)


def test_numbered_photographs_have_their_own_masks(tmp_path):
    root = build("folder", tmp_path)
    for name in ("part.png", "part (1).png", "part_2.png"):
        save(root / "dent" / name, picture(name.encode(), box=BOX))
        save(root / "masks/dent" / name, mask_of(BOX))
    found = read("folder", root)
    assert (found.problems, len(found.anomalous)) == ([], 7)


def test_a_mask_beside_its_photograph_is_no_photograph(tmp_path):
    root = build("folder", tmp_path)
    save(root / "dent/dent 0_mask.png", mask_of(BOX))
    found = read("folder", root, masks="optional")
    assert [(p.kind, p.file) for p in found.blocking] == [("misplaced-mask", "dent/dent 0_mask.png")]
    assert "move it to masks/dent/dent 0_mask.png" in found.blocking[0].reason
    assert len(found.anomalous) == 4


@pytest.mark.parametrize(
    ("place", "kind", "where"),
    [
        ("plate/scratch/a.png", "unread-folder", "plate/scratch"),  # a product without good parts
        ("line/plate/good/a.png", "unread-folder", "line/plate/good"),
        ("gasket/tear/a.png", "unread-folder", "gasket/tear"),  # beside train and test
        ("a.png", "unread-folder", "."),
        ("clip/test/a.png", "unlabelled", "clip/test"),  # good and bad ones
        ("clip/good/monday/a.png", "unexpected-folder", "clip/good/monday"),
    ],
)
def test_images_that_no_place_is_for_are_named(tmp_path, place, kind, where):
    if place.startswith("gasket"):
        root = build("folder-tree", tmp_path)
    else:
        build("folder", tmp_path).rename(tmp_path / "clip")
        root = tmp_path / "root"
        root.mkdir()
        (tmp_path / "clip").rename(root / "clip")
    before = read("folder", root, masks="optional")
    assert before.problems == []
    save(root / place, picture(b"one more"))
    for name in ("__MACOSX", "@eaDir"):
        save(root / name / place, picture(b"of a system"))
    found = read("folder", root, masks="optional")
    assert [(p.kind, p.file) for p in found.blocking] == [(kind, where)]
    assert found.entries == before.entries
