"""DeepPCB, whole images; in windows: test_deeppcb_windows."""

from collections import Counter

from ..trees import build
from .reading import one, read


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
