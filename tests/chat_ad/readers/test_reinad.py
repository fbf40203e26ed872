"""ReinAD's arrays."""

from collections import Counter

import h5py
import numpy as np

from ..pictures import BOX, picture
from ..trees import build
from .reading import read


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
