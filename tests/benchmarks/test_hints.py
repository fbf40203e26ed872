"""What is trained with hints are the sample set's own records with the map's sentence; a page says what came of it."""

import json

import pytest

from adcopilot.anomaly_map.hints import HINT
from adcopilot.boxes import bbox_mask_iou
from adcopilot.records import record_boxes
from adcopilot.sample.generate import standard_splits, write_sample
from adcopilot.sample.hints import write_hints
from adcopilot.sample.measure import Scores, read_split
from benchmarks import hints


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hints") / "data"
    write_sample(folder, standard_splits(80, test_count=4), seed=0)
    return folder


def test_records_with_hints(data, tmp_path):
    write_hints(data, ("stage0", "stage1", "stage2"))
    told = hints.hinted_folder(data, tmp_path / "told")
    assert (told / "images").resolve() == (data / "images").resolve()
    plain, hinted = read_split(data, "stage2"), read_split(told, "stage2")
    assert len(plain) == len(hinted) > 0
    found = []
    for before, after in zip(plain, hinted, strict=True):
        changed = {name for name in before if before[name] != after[name]}
        assert changed == {"messages"}
        assert after["messages"][1:] == before["messages"][1:]
        question = after["messages"][0]["content"]
        if before["anomalous"] and question.removeprefix("<image><image>").startswith(HINT.split("{")[0]):
            only = {"messages": after["messages"][:1], "images": after["images"]}
            places = [box for _, box in record_boxes(only, name="record")]
            found.append(bbox_mask_iou(places, before["boxes"], (56, 56)))
    assert max(found) > 0.3


def test_the_page_has_a_row_for_each_way(tmp_path):
    scores = Scores(pairs=4, balanced_accuracy=0.5, auroc=0.25, iou=0.125)
    found = {row: dict.fromkeys(hints.TEST_SPLITS, scores) for row in [*hints.ROWS.values(), "the map alone"]}
    text = hints.page(found, count=40, test_count=4, command="python benchmarks/hints.py --count 40")
    assert text.count("0.500 / 0.250 / 0.125") == 10
    assert "`python benchmarks/hints.py --count 40`" in text
    assert json.dumps(HINT)[1:20] in text
