"""Each reader on its dataset's fixture tree, and what real trees have in them that no reader wants."""

import csv
import json
import os
import shutil
from collections import Counter
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from adcopilot.chat_ad.readers import READERS, index, visa
from adcopilot.chat_ad.sources.references import content_sha256, image_size, mask_components, open_image, open_mask
from adcopilot.errors import UserError

from .. import trees
from ..trees import BOX, DATASETS, LAYOUTS, build, mask_of, picture, save

ISSUE = [
    *("mvtec", "visa", "loco", "goodsad", "mpdd", "3cad", "viaduct", "manta", "real-iad", "real-iad-variety"),
    *("vision", "reinad", "deeppcb", "coco", "yolo", "voc", "labelme", "folder", "records"),
]


def read(dataset, root, **options):
    """Rows and problems of a dataset."""
    problems = []
    entries = list(index(dataset, root, options=options, problems=problems))
    return SimpleNamespace(
        entries=entries,
        problems=problems,
        blocking=[problem for problem in problems if problem.blocking],
        counts=Counter((entry.split, entry.label) for entry in entries),
        anomalous=[entry for entry in entries if entry.label == "anomalous"],
    )


def one(entries, ending):
    """The only row whose image ends so."""
    found = [entry for entry in entries if entry.image.endswith(ending)]
    assert len(found) == 1, [entry.image for entry in entries]
    return found[0]


def test_every_dataset_of_the_command_line_has_a_reader_a_licence_and_a_tree():
    assert list(READERS) == ISSUE
    assert {*DATASETS.values(), "records"} == READERS.keys()  # which are read in test_build


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_every_row_promises(layout, tmp_path):
    """Sizes, hashes and boxes are those of the pixels that the references name; nothing is left out."""
    root = build(layout, tmp_path)
    found = read(DATASETS[layout], root)
    assert found.blocking == []
    assert found.entries
    assert len({entry.image for entry in found.entries}) == len(found.entries)
    assert len({entry.sha256 for entry in found.entries}) == len(found.entries)
    for entry in found.entries:
        size = (entry.width, entry.height)
        assert open_image(root, entry.image).size == image_size(root, entry.image) == size
        assert entry.sha256 == content_sha256(root, entry.image)
        assert (entry.source, entry.licence) == (DATASETS[layout], READERS[DATASETS[layout]].licence)
        assert len(entry.boxes) == len(entry.box_labels)
        if entry.label == "normal":
            assert (entry.defect, entry.mask, entry.boxes) == ("", "", ())
            continue
        assert entry.boxes
        if entry.mask:
            components = mask_components(open_mask(root, entry.mask, size=size))
            assert list(entry.boxes) == [component.box for component in components]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_tree_gives_the_same_rows_and_is_left_alone(layout, tmp_path):
    root = build(layout, tmp_path)
    before = _state(root)
    for folder, _, files in os.walk(root):
        for name in files:
            os.chmod(os.path.join(folder, name), 0o444)
        os.chmod(folder, 0o555)
    first = list(index(DATASETS[layout], root, problems=[]))
    assert list(index(DATASETS[layout], root, problems=[])) == first
    assert _state(root) == before


def _state(root):
    return {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in sorted(root.rglob("*"))}


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


def test_loco_s_masks_are_folders_whose_values_are_named(tmp_path):
    root = build("loco", tmp_path)
    found = read("loco", root)
    entry = one(found.entries, "logical_anomalies/000.png")
    assert entry.mask == "screw_bag/ground_truth/logical_anomalies/000#folder=1"
    assert (entry.boxes, entry.box_labels) == ((BOX, (40, 30, 50, 40)), ("missing_screw", "extra_nut"))
    assert (entry.defect, entry.notes) == ("extra_nut, missing_screw", "logical_anomalies")
    assert one(found.entries, "structural_anomalies/000.png").defect == "bag_broken"
    assert found.counts["val", "normal"] == 2

    (root / "screw_bag/defects_config.json").unlink()
    entry = one(read("loco", root).entries, "logical_anomalies/000.png")
    assert (entry.defect, entry.box_labels) == ("logical_anomalies", ("logical_anomalies",) * 2)

    (root / "screw_bag/defects_config.json").write_text('{"defect_name": 3')
    assert [problem.kind for problem in read("loco", root).blocking] == ["broken-json"]


def test_visa_as_released_names_each_region(tmp_path):
    root = build("visa", tmp_path)
    found = read("visa", root)
    assert found.counts == {("train", "normal"): 3, ("test", "normal"): 1, ("test", "anomalous"): 2}
    entry = one(found.entries, "Anomaly/000.JPG")
    assert (entry.boxes, entry.box_labels) == ((BOX, (40, 30, 46, 36)), ("scratch", "extra"))
    assert (entry.category, entry.defect) == ("pcb4", "extra, scratch")
    assert one(found.entries, "Anomaly/001.JPG").defect == "dirt"

    few = read("visa", root, split="2cls_fewshot")
    assert few.counts == {("train", "normal"): 2, ("test", "normal"): 2, ("test", "anomalous"): 2}


def test_visa_s_numbers_have_names_for_every_object():
    assert len(visa.CLASSES) == 12
    assert [len(visa.CLASSES[name]) for name in ("candle", "capsules", "pcb1", "pcb4", "cashew")] == [8, 5, 4, 7, 9]


def test_visa_s_list_and_folder_are_compared(tmp_path):
    root = build("visa", tmp_path)
    (root / "pcb4/Data/Images/Normal/0001.JPG").unlink()
    save(root / "pcb4/Data/Images/Normal/9999.JPG", picture(b"new"))
    found = read("visa", root)
    assert [(p.kind, p.file) for p in found.blocking] == [("missing-image", "pcb4/Data/Images/Normal/0001.JPG")]
    assert one(found.entries, "9999.JPG").split == ""

    shutil.rmtree(root / "split_csv")
    found = read("visa", root)
    assert [(p.kind, p.blocking) for p in found.problems] == [("no-split", False)]
    assert {entry.split for entry in found.entries} == {""}


def test_visa_s_list_may_be_broken(tmp_path):
    root = build("visa", tmp_path)
    path = root / "split_csv/1cls.csv"
    rows = list(csv.reader(path.read_text().splitlines()))
    rows[2][1] = "training"
    rows.append(rows[3])
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)
    assert [problem.kind for problem in read("visa", root).blocking] == ["broken-csv", "listed-twice"]
    for text in (b"a,b\n1,2\n", b"", b'object,split,image\npcb4,"tr', b"object,split,image\npcb4\n", b"\xff\xfe"):
        path.write_bytes(text)
        found = read("visa", root)
        assert [problem.kind for problem in found.blocking] == ["broken-csv"]
        assert len(found.entries) == 6


def test_visa_rearranged(tmp_path):
    found = read("visa", build("visa-1cls", tmp_path))
    assert found.counts == {("train", "normal"): 3, ("test", "normal"): 1, ("test", "anomalous"): 1}
    entry = found.anomalous[0]
    assert (entry.mask, entry.defect, entry.box_labels) == ("pcb4/ground_truth/bad/000.png", "", ("",))


def test_visa_rearranged_for_two_classes_has_masks_by_split(tmp_path):
    root = build("visa-1cls", tmp_path)
    base = root / "pcb4"
    (base / "ground_truth/test").mkdir()
    (base / "ground_truth/bad").rename(base / "ground_truth/test/bad")
    assert read("visa", root).anomalous[0].mask == "pcb4/ground_truth/test/bad/000.png"


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


@pytest.mark.parametrize("layout", ["real-iad", "real-iad-nested", "real-iad-variety"])
def test_real_iad_s_views_without_a_mask_are_normal(tmp_path, layout):
    found = read(DATASETS[layout], build(layout, tmp_path))
    assert found.counts == {("train", "normal"): 5, ("test", "normal"): 11, ("test", "anomalous"): 4}
    assert [entry.view for entry in found.entries] == ["C1", "C2", "C3", "C4", "C5"] * 4
    assert len({entry.group for entry in found.entries}) == 4
    assert {entry.defect for entry in found.anomalous} == {"deformation", "XX"}
    assert {entry.category for entry in found.entries} == {"audiojack"}
    hidden = [entry for entry in found.entries if entry.notes]
    assert {(entry.label, entry.notes) for entry in hidden} == {
        ("normal", "a view without the defect of its part (deformation)"),
        ("normal", "a view without the defect of its part (XX)"),
    }


def _change_real_iad(root, change):
    path = root / "realiad_jsons/audiojack.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda data: data["test"][6].update(mask_path="NG/BX/nothing.png"), "missing-mask"),
        (lambda data: data["test"][6].update(image_path="NG/BX/nothing.jpg"), "missing-image"),
        (lambda data: data["test"][6].update(image_path="../../../secret.jpg"), "broken-json"),
        (lambda data: data["test"][6].update(mask_path="/etc/passwd"), "broken-json"),
        (lambda data: data["test"][6].update(anomaly_class="OK"), "broken-json"),
        (lambda data: data["test"][6].pop("anomaly_class"), "broken-json"),
        (lambda data: data["test"].__setitem__(6, "text"), "broken-json"),
        (lambda data: data["train"].append(data["test"][6]), "listed-twice"),
    ],
)
def test_real_iad_s_samples_may_be_wrong(tmp_path, change, kind):
    root = build("real-iad", tmp_path)
    _change_real_iad(root, change)
    found = read("real-iad", root)
    assert [problem.kind for problem in found.blocking] == [kind]
    assert len(found.entries) == (20 if kind == "listed-twice" else 19)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"train": []}', '{"train": 3, "test": []}', "[" * 100_000])
def test_real_iad_s_files_may_be_broken(tmp_path, text):
    root = build("real-iad", tmp_path)
    (root / "realiad_jsons/broken.json").write_text(text)
    found = read("real-iad", root)
    assert [(problem.kind, problem.file) for problem in found.blocking] == [
        ("broken-json", "realiad_jsons/broken.json")
    ]
    assert len(found.entries) == 20


def test_real_iad_s_folders_can_be_chosen(tmp_path):
    root = build("real-iad", tmp_path)
    shutil.copytree(root / "realiad_1024", root / "realiad_256")
    shutil.copytree(root / "realiad_jsons", root / "realiad_jsons_sv")
    # The file's own prefix wins, unless another is asked for.
    assert read("real-iad", root).entries[0].image.startswith("realiad_1024/")
    assert read("real-iad", root, images="realiad_256").entries[0].image.startswith("realiad_256/")
    _change_real_iad(root, lambda data: data["meta"].update(prefix=""))
    with pytest.raises(UserError, match=r"choose by --set datasets\.SET\.options\.images=realiad_256"):
        read("real-iad", root)
    assert len(read("real-iad", root, jsons="realiad_jsons_sv").entries) == 20
    for options in ({"jsons": "other"}, {"images": "other"}):
        with pytest.raises(UserError, match="=other is not there, expected one of realiad"):
            read("real-iad", root, **options)


def test_real_iad_without_its_images_is_one_problem_a_category(tmp_path):
    root = build("real-iad", tmp_path)
    shutil.rmtree(root / "realiad_1024")
    found = read("real-iad", root)
    assert [(problem.kind, problem.file) for problem in found.blocking] == [
        ("missing-image", "realiad_jsons/audiojack.json")
    ]
    assert "none of its 20 images is there" in found.blocking[0].reason


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


def test_reinad_is_read_where_it_lies(tmp_path):
    found = read("reinad", build("reinad", tmp_path))
    assert found.counts == {("train", "normal"): 3, ("test", "normal"): 3, ("test", "anomalous"): 2}
    entry = found.anomalous[1]
    assert entry.image == "test/bolt.h5#h5=Images/Anomaly_0&index=1"
    assert entry.mask == "test/bolt.h5#h5=Masks/Anomaly_0&index=1"
    assert (entry.category, entry.boxes, entry.box_labels, entry.defect) == ("bolt", (BOX,), ("",), "")


def test_reinad_s_files_may_be_wrong(tmp_path):
    root = build("reinad", tmp_path)
    with h5py.File(root / "test/bolt.h5", "a") as file:
        del file["Masks/Anomaly_0"]
        file["Masks/Anomaly_0"] = np.zeros((1, 48, 64), np.uint8)
        file["Images/Anomaly_1"] = np.stack([picture(b"x")])
        file["Other"] = np.zeros(3)
    (root / "train/broken.h5").write_bytes(b"nothing")
    found = read("reinad", root)
    assert Counter(problem.kind for problem in found.problems) == {
        "missing-mask": 2,
        "unknown-array": 1,
        "unreadable-file": 1,
    }
    assert found.counts == {("train", "normal"): 3, ("test", "normal"): 3}


def test_deeppcb_s_pairs_are_two_rows_with_boxes(tmp_path):
    root = build("deeppcb", tmp_path)
    found = read("deeppcb", root)
    assert found.counts == {
        ("train", "normal"): 3,
        ("train", "anomalous"): 3,
        ("test", "normal"): 1,
        ("test", "anomalous"): 1,
    }
    entry = one(found.entries, "90000001_test.jpg")
    assert (entry.boxes, entry.box_labels) == (((20, 20, 32, 30), (61, 100, 75, 112)), ("short circuit", "mouse bite"))
    assert (entry.mask, entry.category, entry.view) == ("", "pcb", "group90000")
    assert one(found.entries, "90000001_temp.jpg").notes == "aligned template of 90000001_test.jpg"
    assert [e.image for e in read("deeppcb", root / "PCBData").entries] == [
        e.image.removeprefix("PCBData/") for e in found.entries
    ]


def test_deeppcb_s_lines_may_be_wrong(tmp_path):
    root = build("deeppcb", tmp_path)
    base = root / "PCBData/group90000"
    (base / "90000_not/90000000.txt").write_text("1 2 3\n")
    (base / "90000/90000001_temp.jpg").unlink()
    found = read("deeppcb", root)
    assert [problem.kind for problem in found.blocking] == ["annotation", "annotation"]
    assert len(found.entries) == 4
    (root / "PCBData/test.txt").unlink()
    assert [problem.kind for problem in read("deeppcb", root).blocking] == ["annotation", "annotation", "missing-list"]


def test_the_real_deeppcb(deeppcb_root):
    found = read("deeppcb", deeppcb_root)
    assert found.problems == []
    pairs = Counter(entry.split for entry in found.anomalous)
    lists = {"train": "trainval.txt", "test": "test.txt"}
    for split, name in lists.items():
        path = next(deeppcb_root.rglob(name))
        assert pairs[split] == len(path.read_text().split("\n")) - path.read_text().endswith("\n")
    assert len(found.entries) == 2 * len(found.anomalous)
    assert {entry.width for entry in found.entries} == {640}
    entry = found.anomalous[0]
    lines = (
        next(deeppcb_root.rglob(entry.image.rpartition("/")[2].replace("_test.jpg", ".txt"))).read_text().split("\n")
    )
    assert len(entry.boxes) == len(list(filter(None, lines)))


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


# Mistakes that any tree may have.


@pytest.mark.parametrize("mistake", trees.MISTAKES)
def test_a_mistake_is_named_and_costs_its_image_only(mistake, tmp_path):
    root = build("mvtec", tmp_path)
    before = {entry.image: entry for entry in read("mvtec", root).entries}
    kind = trees.MISTAKES[mistake](root)
    found = read("mvtec", root)
    problem, *more = found.blocking
    assert problem.kind == kind
    # What an image's mask cannot be, its image then lacks.
    assert [other.kind for other in more] == (["missing-mask"] if mistake == "mask_link_out" else [])
    assert "\n" not in problem.reason
    problem.reason.encode()
    assert problem.file.startswith("bottle/")
    after = {entry.image: entry for entry in found.entries}
    assert set(before) - set(after) <= {trees.DEFECTIVE}
    assert all(before[image] == entry for image, entry in after.items())
    with pytest.raises(UserError, match="bottle"):
        list(index("mvtec", root))


def test_a_mask_without_its_image_is_noted(tmp_path):
    root = build("mvtec", tmp_path)
    (root / trees.DEFECTIVE).unlink()
    found = read("mvtec", root)
    assert [(problem.kind, problem.file, problem.blocking) for problem in found.problems] == [
        ("unused-mask", trees.MASK, False)
    ]


@pytest.mark.parametrize("name", ["ü ñ 缺陷.png", "n" * 251 + ".png", "a#1&x=2%.png", "line\nbreak.png", "good.png"])
def test_unusual_names_are_names(tmp_path, name):
    root = build("mvtec", tmp_path)
    (root / trees.DEFECTIVE).rename(root / "bottle/test/broken_large" / name)
    stem, _, suffix = name.rpartition(".")
    mask = f"{stem}.{suffix}" if len(name) > 250 else f"{stem}_mask.{suffix}"
    (root / trees.MASK).rename(root / "bottle/ground_truth/broken_large" / mask)
    found = read("mvtec", root)
    assert found.problems == []
    images = [entry for entry in found.anomalous if entry.boxes and "broken_large" in entry.defect]
    assert len(images) == 2
    assert all(open_mask(root, entry.mask, size=(64, 48)).any() for entry in images)


def test_suffixes_may_be_any_image_s_in_any_case(tmp_path):
    root = build("mvtec", tmp_path)
    (root / trees.DEFECTIVE).rename((root / trees.DEFECTIVE).with_suffix(".PNG"))
    for name in ("x.JPG", "y.TiFF", "z.webp"):
        save(root / "bottle/train/good" / name.lower(), picture(name.encode()))
        (root / "bottle/train/good" / name.lower()).rename(root / "bottle/train/good" / name)
    (root / "bottle/train/good/._000.png").write_bytes(b"resource fork")
    found = read("mvtec", root)
    assert found.problems == []
    assert found.counts == {("train", "normal"): 9, ("test", "normal"): 4, ("test", "anomalous"): 6}


def test_small_regions_give_no_box_when_asked(tmp_path):
    root = build("mvtec", tmp_path)
    mask = mask_of(BOX, (60, 40, 62, 41))
    save(root / trees.MASK, mask)
    sizes = {area: one(list(index("mvtec", root, min_area=area)), trees.DEFECTIVE).boxes for area in (1, 2, 3)}
    assert sizes == {1: (BOX, (60, 40, 62, 41)), 2: (BOX, (60, 40, 62, 41)), 3: (BOX,)}
    problems = []
    list(index("mvtec", root, min_area=97, problems=problems))
    assert {problem.kind for problem in problems} == {"empty-mask"}
    assert "only regions of fewer than 97 pixels" in problems[0].reason


# Roots, options and categories that are not there.


@pytest.mark.parametrize(
    ("layout", "asked"),
    [
        *(("mvtec", "visa"), ("visa", "loco"), ("visa-1cls", "real-iad"), ("real-iad", "3cad"), ("deeppcb", "mvtec")),
        *(("vision", "viaduct"), ("coco", "vision"), ("reinad", "vision"), ("loco", "coco"), ("manta", "reinad")),
    ],
)
def test_a_wrong_root_says_what_it_is(tmp_path, layout, asked):
    root = build(layout, tmp_path)
    dataset = DATASETS[layout] if DATASETS[layout] not in ("loco", "manta") else "mvtec"
    with pytest.raises(UserError, match=rf"{layout}: .*expected .*it looks like the dataset '{dataset}'"):
        list(index(asked, root))


def test_a_root_one_folder_off_is_told(tmp_path):
    root = build("real-iad", tmp_path / "downloads")
    with pytest.raises(UserError, match=r"did you mean --set datasets.SET.root=.*downloads/real-iad\?"):
        list(index("real-iad", root.parent))
    with pytest.raises(UserError, match=r"did you mean --set datasets.SET.root=.*downloads/real-iad\?"):
        list(index("real-iad", root / "realiad_1024"))


@pytest.mark.parametrize("dataset", sorted(set(READERS) - {"records"}))
def test_an_empty_or_absent_root_is_one_line(dataset, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: ") as caught:
        list(index(dataset, tmp_path / "empty"))
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="no such folder"):
        list(index(dataset, tmp_path / "none"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is a file"):
        list(index(dataset, tmp_path / "file"))


def test_names_that_are_not_there(tmp_path):
    root = build("mvtec", tmp_path)
    with pytest.raises(UserError, match="did you mean mvtec"):
        list(index("mvtek", root))
    with pytest.raises(UserError, match="has no option 'mask'; there are: masks"):
        list(index("mvtec", root, options={"mask": "x"}))
    with pytest.raises(UserError, match="the option masks of mvtec is 'x', expected one of required, optional"):
        list(index("mvtec", root, options={"masks": "x"}))
    with pytest.raises(UserError, match="no category 'botle' in it; did you mean bottle"):
        list(index("mvtec", root, categories=["botle"]))
    assert {entry.category for entry in index("mvtec", root, categories=["wood"])} == {"wood"}
