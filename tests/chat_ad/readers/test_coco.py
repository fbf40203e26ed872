"""COCO's form, and VISION, which has it."""

import json
import shutil
from collections import Counter

import pytest

from adcopilot.errors import UserError

from ..pictures import BOX
from ..trees import build
from .reading import one, read


def test_vision_s_first_category_is_real_and_its_inference_split_is_not_trusted(tmp_path):
    root = build("vision", tmp_path)
    found = read("vision", root)
    assert found.counts == {("train", "anomalous"): 2, ("val", "anomalous"): 2}
    entry = one(found.entries, "train/000000.jpg")
    assert (entry.boxes, entry.box_labels) == ((BOX, (40, 30, 50, 40)), ("break", "thunderbolt"))
    assert (entry.category, entry.defect) == ("Cable", "break, thunderbolt")
    assert entry.mask == "Cable/train/_annotations.coco.json#coco=0"
    assert [(p.kind, p.file) for p in found.problems] == [("unannotated", "Cable/inference/_annotations.coco.json")]
    assert "2 of 2 images carry no annotation: left out" in found.problems[0].reason
    assert read("vision", root, unannotated="normal").counts["test", "normal"] == 2


def test_coco_takes_polygons_boxes_and_images_without_either(tmp_path):
    root = build("coco", tmp_path)
    found = read("coco", root)
    assert found.counts == {("train", "normal"): 1, ("train", "anomalous"): 2}
    polygons, boxes = found.anomalous
    assert (polygons.mask, polygons.boxes) == ("annotations/instances_train.json#coco=0", (BOX,))
    assert (boxes.mask, boxes.boxes, boxes.box_labels) == ("", (BOX,), ("break",))
    assert {entry.category for entry in read("coco", root, category="plug").entries} == {"plug"}
    assert read("coco", root, unannotated="skip").counts["train", "normal"] == 0
    named = read("coco", root, annotations="annotations/instances_train.json")
    assert named.entries == found.entries
    with pytest.raises(UserError, match="no such file"):
        read("coco", root, annotations="annotations/other.json")


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda content: content["images"][0].update(width=63), "mask-size"),
        (lambda content: content["images"][0].update(width=63.0, height="48"), "mask-size"),
        (lambda content: content["images"][0].update(file_name="1.png"), "annotation"),
        (lambda content: content["annotations"][1].update(bbox=[20, 10, 32, 18], area=96), "box"),
        (lambda content: content["categories"].append({**content["categories"][0], "name": "other"}), "broken-json"),
        (lambda content: content["images"][0].update(file_name="../../etc/passwd.png"), "outside-root"),
        (lambda content: content["images"][0].update(file_name="none.png"), "missing-image"),
        (lambda content: content["annotations"][0].update(segmentation=[[1, 2]]), "unreadable-mask"),
        (lambda content: content["annotations"][1].update(bbox=[1, 2, -3, 4]), "box"),
        (lambda content: content["annotations"][0].update(category_id=77), "annotation"),
        (lambda content: content["annotations"][0].update(image_id=77), "annotation"),
    ],
)
def test_coco_s_annotations_may_be_wrong(tmp_path, change, kind):
    root = build("coco", tmp_path)
    path = root / "annotations/instances_train.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    assert [problem.kind for problem in read("coco", root).blocking] == [kind]


def test_coco_s_box_twice_is_one_defect_and_unlisted_images_are_told(tmp_path):
    root = build("coco", tmp_path)
    path = root / "annotations/instances_train.json"
    content = json.loads(path.read_text())
    content["annotations"] += [dict(content["annotations"][1], id=99)]
    path.write_text(json.dumps(content))
    shutil.copy(root / "images/1.png", root / "images/forgotten.png")
    (root / "images/phone.heic").write_bytes(b"not read")
    found = read("coco", root)
    assert found.anomalous[1].boxes == (BOX,)
    (note,) = (problem for problem in found.problems if problem.kind == "unlisted")
    assert "2 images are in no annotation file and left out: images/forgotten.png, images/phone.heic" in note.reason


def test_coco_s_image_with_an_unnamed_defect_is_not_normal(tmp_path):
    root = build("coco", tmp_path)
    path = root / "annotations/instances_train.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["category_id"] = 77
    path.write_text(json.dumps(content))
    found = read("coco", root)
    assert [entry.image for entry in found.entries] == ["images/1.png", "images/2.png"]
    assert "0.png is left out" in found.blocking[0].reason


def test_coco_s_image_in_two_files_is_taken_once(tmp_path):
    root = build("coco", tmp_path)
    shutil.copy(root / "annotations/instances_train.json", root / "annotations/keypoints_train.json")
    (root / "annotations/info.json").write_text("{}")
    found = read("coco", root)
    assert Counter(problem.kind for problem in found.problems) == {
        "listed-twice": 3,
        "unannotated": 1,
        "other-json": 1,
    }
    assert len(found.entries) == 3


def test_coco_s_file_may_be_broken(tmp_path):
    root = build("vision", tmp_path)
    (root / "Cable/train/_annotations.coco.json").write_text('{"images": [')
    found = read("vision", root)
    assert [(problem.kind, problem.file) for problem in found.blocking] == [
        ("broken-json", "Cable/train/_annotations.coco.json")
    ]
    assert found.counts == {("val", "anomalous"): 2}
