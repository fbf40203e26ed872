"""COCO annotations as masks: what pycocotools makes of good ones, and one line about bad ones."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as runs

from adcopilot.chat_ad.sources import coco_file
from adcopilot.chat_ad.sources.coco_file import annotation_box, annotation_mask
from adcopilot.chat_ad.sources.references import mask_values, open_mask
from adcopilot.errors import UserError

from ..pictures import BOX, SIZE, mask_of
from ..trees import coco_content, polygon

MASKS = arrays.arrays(np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.integers(0, 1))


@settings(deadline=None)
@given(mask=MASKS)
def test_run_lengths_packed_or_not_are_the_mask(mask):
    height, width = mask.shape
    packed = runs.encode(np.asfortranarray(mask))
    flat = mask.T.reshape(-1)
    edges = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff([0, *edges, flat.size]).tolist()
    plain = lengths if flat[0] == 0 else [0, *lengths]
    for counts in (packed["counts"].decode(), plain):
        annotation = {"id": 1, "segmentation": {"size": [height, width], "counts": counts}}
        np.testing.assert_array_equal(annotation_mask(annotation, size=(width, height), name="a"), mask > 0)


def test_a_polygon_fills_its_box():
    annotation = {"id": 1, "segmentation": polygon(BOX)}
    np.testing.assert_array_equal(annotation_mask(annotation, size=SIZE, name="a"), mask_of(BOX) > 0)


def test_a_box_stands_for_a_missing_polygon():
    annotation = {"id": 1, "bbox": [19.6, 10.2, 12.0, 7.1], "segmentation": []}
    np.testing.assert_array_equal(annotation_mask(annotation, size=SIZE, name="a"), mask_of((19, 10, 32, 18)) > 0)


@pytest.mark.parametrize(
    "segmentation",
    [
        *(
            [[1, 2, 3]],
            [[1, 2, 3, 4, 5]],
            [["a", 1, 2, 3, 4, 5]],
            [[1, 2, 3, 4, float("nan"), 5]],
            [[0, 0, 1, 1, 1e9, 2]],
        ),
        *(
            [[]],
            "text",
            {"size": [48, 64]},
            {"size": [64, 48], "counts": [64 * 48]},
            {"size": [48, 64], "counts": [5]},
        ),
        {"size": [48, 64], "counts": [-1, 64 * 48 + 1]},
        {"size": [48, 64], "counts": "\x7f\x7f"},
        {"size": [48, 64], "counts": "oooooooooooooooo"},
        {"size": [48, 64], "counts": [True, 64 * 48 - 1.0]},
    ],
)
def test_a_malformed_segmentation_is_one_line(segmentation):
    with pytest.raises(UserError, match="a, annotation 7: "):
        annotation_mask({"id": 7, "segmentation": segmentation}, size=SIZE, name="a")


@pytest.mark.parametrize(
    "bbox", [None, [1, 2, 3], [1, 2, 0, 4], [60, 2, 20, 4], [-9, 2, 20, 4], [1, 2, "3", 4], [1e9] * 4]
)
def test_a_malformed_box_is_one_line(bbox):
    with pytest.raises(UserError, match=r"a: (neither|bbox)"):
        annotation_box({"id": 7, "bbox": bbox}, size=SIZE, name="a")


def test_a_rounding_beyond_the_border_is_clipped():
    assert annotation_box({"bbox": [-0.5, 0, 64.9, 48.5]}, size=SIZE, name="a") == (0, 0, 64, 48)


def test_a_reference_is_the_union_with_the_classes(tmp_path):
    second = (40, 30, 50, 40)
    content = coco_content(["0.png"], [(0, 1, BOX, polygon(BOX)), (0, 0, second, None)])
    (tmp_path / "a.json").write_text(json.dumps(content))
    np.testing.assert_array_equal(open_mask(tmp_path, "a.json#coco=0", size=SIZE), mask_of(BOX, second) > 0)
    # Category id 0 is the first in the list, hence 1.
    np.testing.assert_array_equal(
        mask_values(tmp_path, "a.json#coco=0", size=SIZE).values, mask_of(BOX, second, value=[2, 1])
    )
    with pytest.raises(UserError, match="no image of id 5"):
        open_mask(tmp_path, "a.json#coco=5", size=SIZE)


def test_a_file_that_changes_is_read_again(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(coco_content(["0.png"], [])))
    assert len(coco_file.load(path).images) == 1
    path.write_text(json.dumps(coco_content(["0.png", "11.png"], [])))
    assert len(coco_file.load(path).images) == 2


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"images": 3}', "[" * 100_000, '{"images": [], "categories": [3]}']
)
def test_a_file_that_is_no_coco_file_is_one_line(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=r"a.json: (not JSON|not a COCO file|a category is)"):
        coco_file.load(tmp_path / "a.json")


def test_faults_are_named(tmp_path):
    content = coco_content(["0.png", "1.png"], [(0, 0, BOX, None), (5, 0, BOX, None), (1, 9, BOX, None)])
    content["images"] += [{"id": 0, "file_name": "again.png"}, {"id": 8}]
    content["annotations"].append("text")
    content["annotations"].append({**content["annotations"][0], "image_id": 1, "ignore": 1})
    (tmp_path / "a.json").write_text(json.dumps(content))
    found = coco_file.load(tmp_path / "a.json")
    faults = found.faults
    assert len(faults) == 6
    assert "1" in found.incomplete
    for word in (
        "listed twice",
        "no file_name",
        "annotations[1] belongs to no image",
        "category_id 9",
        "annotations[3]",
        "annotations[4] is to be ignored; 1.png is left out",
    ):
        assert any(word in fault for fault in faults), word
