"""What is trained with hints are the sample set's own records with the map's sentence; a page says what came of it."""

import json
import shutil

import pytest

from adcopilot.anomaly_map.hints import HINT
from adcopilot.boxes import bbox_mask_iou
from adcopilot.records import record_boxes
from adcopilot.sample.generate import standard_splits, write_sample
from adcopilot.sample.hints import write_hints
from adcopilot.sample.measure import Scores, read_sample_split
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
    plain, hinted = read_sample_split(data, "stage2"), read_sample_split(told, "stage2")
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
    rows = [*hints.ROWS.values(), "the map alone"]
    found = {title: dict.fromkeys(rows, scores) for title in [*hints.TEST_SPLITS.values(), hints.BOARDS]}
    text = hints.page(found, count=40, test_count=4, command="python benchmarks/hints.py --count 40")
    assert text.count("0.500 / 0.250 / 0.125") == 15
    assert "trained on with windows of DeepPCB's training pairs" in text
    assert "`python benchmarks/hints.py --count 40`" in text
    assert json.dumps(HINT)[1:20] in text


def test_windows_of_boards_with_hints(data, tmp_path):
    """Under their own names, in a folder of their own; the threshold is of good ones."""
    boards = tmp_path / "boards"
    shutil.copytree(data / "images", boards / "images")
    (boards / "dataset_info.json").write_text("{}")
    records = read_sample_split(data, "stage1")
    good = next(one for one in records if not one["anomalous"])
    records.insert(0, {**good, "images": [good["images"][0]] * 2})  # its own template: no map
    (boards / "boards_train.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    threshold = hints.hinted_boards(boards, tmp_path / "told")
    assert 0 < threshold < 0.5
    told = read_sample_split(tmp_path / "told", "boards_train")
    assert [one["messages"][1:] for one in told] == [one["messages"][1:] for one in records]
    start = HINT.split("{")[0]
    assert any(start in one["messages"][0]["content"] for one in told)
    assert not any(start in one["messages"][0]["content"] for one in records)
