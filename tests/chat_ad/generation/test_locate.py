"""Localisation: the answer's boxes are the components of the mask, whatever the mask."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from adcopilot.boxes import parse_boxes
from adcopilot.chat_ad.generation import PairView
from adcopilot.chat_ad.generation.pair_view import MAX_BOXES
from adcopilot.chat_ad.sources.references import mask_components, open_mask
from adcopilot.errors import UserError

from ..pictures import flood
from .conftest import make_normal, make_pair
from .test_annotations import run


def located(pair):
    return run([pair], ["loc"])


@settings(max_examples=200, deadline=None)
@given(
    mask=hnp.arrays(bool, st.tuples(st.integers(8, 40), st.integers(8, 40)), elements=st.booleans()), sparse=st.data()
)
def test_boxes_reproduce_the_components_of_the_mask(mask, sparse):
    keep = sparse.draw(hnp.arrays(np.uint8, mask.shape, elements=st.integers(0, 9)))
    mask = mask & (keep < sparse.draw(st.integers(1, 10)))
    boxes = tuple(component.box for component in mask_components(mask))
    if not boxes or [0, 0, 1, 1] in map(list, boxes):  # as text that box could be shares of the sides: `check_shares`
        return
    pair = make_pair(size=mask.shape[::-1], boxes=boxes, labels=("scratch",) * len(boxes))
    records, refused = located(pair)
    if len(boxes) > MAX_BOXES:
        assert records == []
        assert f"{len(boxes)} boxes, expected at most {MAX_BOXES}" in refused[0]["detail"]
        return
    answer = records[0]["messages"][-1]["content"]
    assert sorted(one["bbox_2d"] for one in json.loads(answer)) == sorted(list(box) for box, _, _ in flood(mask))
    assert records[0]["answer"] == answer
    assert [one["bbox_2d"] for one in parse_boxes(answer)] == records[0]["boxes"]


def test_from_a_mask_file_to_the_record_and_back(tmp_path):
    mask = np.zeros((60, 80), np.uint8)
    mask[5:9, 10:30] = 255
    mask[9, 30] = 255  # touches by a corner: one region
    mask[40:60, 79] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    boxes = tuple(one.box for one in mask_components(mask > 0))
    pair = make_pair(size=(80, 60), boxes=boxes, labels=("dent",) * len(boxes), mask="mask.png", root=str(tmp_path))
    record = located(pair)[0][0]
    again = open_mask(tmp_path, record["mask"], size=(80, 60))
    boxes = [list(box) for box, _, _ in flood(again)]
    assert [one["bbox_2d"] for one in json.loads(record["answer"])] == boxes == [
        [10, 5, 31, 10], [79, 40, 80, 60],
    ]  # fmt: skip


def test_labels_that_break_json_by_hand_do_not_break_it_here():
    record = located(make_pair(labels=('3" "pipe"\\',), defect=""))[0][0]
    assert json.loads(record["answer"]) == [{"bbox_2d": [20, 10, 60, 30], "label": '3" "pipe"'}]


def test_what_cannot_be_localised_is_said():
    assert located(make_normal())[1][0]["reason"] == "not_applicable"
    assert located(make_pair(boxes=(), labels=()))[1][0]["detail"] == "anomalous, but without boxes: give it a mask"


ROW = {
    "image": "test/scratch/0.png", "view": None, "label": "anomalous", "source": "mvtec", "sha256": "a" * 64,
    "template_sha256": "b" * 64, "similarity": 0.5, "crop": None, "template_file": "t.png", "query_file": "q.png",
    "mask_file": "m.png", "marked_file": "", "shown_size": [50, 60], "shown_boxes": [[1, 2, 30, 40]],
    "shown_labels": [""], "shown_areas": None, "shown_defect": "scratch",
}  # fmt: skip


def shown(changes=None, **more):
    return PairView.from_row({**ROW, **(changes or {})}, category="nut", **more)


def test_a_row_of_the_pairs_table():
    pair = shown(root="/data", other_defects=("bent", "scratch", "", "bent"))
    assert (pair.size, pair.boxes, pair.labels) == ((50, 60), ((1, 2, 30, 40),), ("scratch",))
    assert pair.other_defects == ("bent",)
    assert str(pair.path(pair.images[1])) == "/data/q.png"
    moved = shown({"image": "elsewhere.png", "similarity": 0.1, "query_file": "other.png"})
    assert moved.key == pair.key
    named = {"template_sha256": "c", "crop": [0, 0, 50, 60], "shown_defect": "dent", "shown_boxes": [[0, 2, 30, 40]]}
    keys = {shown({name: value}).key for name, value in named.items()}
    assert len(keys | {pair.key}) == 5


def test_an_image_with_several_types():
    row = {
        "shown_defect": "dent, scratch",
        "shown_boxes": [[1, 2, 30, 40], [5, 5, 9, 9]],
        "shown_labels": ["scratch", "dent"],
    }
    pair = shown(row, other_defects=("bent", "bent, dent", "hole, scratch", ""))
    assert pair.types == ("scratch", "dent")
    assert pair.other_defects == ("bent", "hole")
    # A window that shows one of them; and nothing is known about which box is which.
    window = shown({**row, "shown_size": [20, 20], "shown_boxes": [[5, 5, 9, 9]], "shown_labels": ["dent"]})
    assert (window.defect, window.types) == ("dent", ("dent",))
    unknown = shown({**row, "shown_labels": ["", ""]})
    assert (unknown.defect, unknown.labels) == ("dent, scratch", ("", ""))
    assert shown({**row, "shown_boxes": [], "shown_labels": []}).types == ("dent", "scratch")


def test_a_box_outside_the_image_is_named():
    with pytest.raises(UserError, match=r"q.png: box \[1, 2, 30, 40\] is outside q.png \(20×20 pixels\)"):
        shown({"shown_size": [20, 20]})


def test_parts_that_contradict_each_other():
    with pytest.raises(ValueError, match="a normal query with 1 boxes"):
        make_normal(boxes=((1, 1, 2, 2),), labels=("x",))
    with pytest.raises(ValueError, match="1 boxes but 0 labels"):
        make_pair(labels=())
