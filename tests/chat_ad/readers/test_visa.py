"""VisA, as released and rearranged."""

import csv
import shutil

from adcopilot.chat_ad.readers import visa

from ..pictures import BOX, picture, save
from ..trees import build
from .reading import one, read


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
