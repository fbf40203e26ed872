"""BBox-Mask IoU against pixels painted one by one, and against pycocotools' masks."""

import random
import time

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import adcopilot.boxes.areas as box_areas
from adcopilot.boxes import MaskTruth, bbox_mask_iou
from adcopilot.errors import UserError


def painted(boxes, size):
    """The union of boxes pixel by pixel: one is inside when it lies between the rounded edges."""
    width, height = size
    mask = np.zeros((height, width), bool)
    for box in boxes:
        edges = [int(np.floor(np.float64(value) + 0.5)) for value in box]
        for y in range(height):
            for x in range(width):
                if edges[0] <= x < edges[2] and edges[1] <= y < edges[3]:
                    mask[y, x] = True
    return mask


def by_pixels(predicted, truth):
    union = np.count_nonzero(predicted | truth)
    return np.count_nonzero(predicted & truth) / union if union else 1.0


coordinate = st.one_of(st.integers(-5, 30), st.floats(-5, 30, allow_nan=False).map(lambda value: round(value, 3)))
boxes_list = st.lists(st.tuples(coordinate, coordinate, coordinate, coordinate), max_size=6)


@settings(max_examples=300, deadline=None)
@given(boxes_list, boxes_list, st.integers(1, 24), st.integers(1, 24))
@example([], [], 5, 5)
@example([(0, 0, 5, 5)], [], 5, 5)
@example([(3, 3, 1, 1)], [(0, 0, 0, 4)], 5, 5)
@example([(0.5, 0.5, 1.5, 1.5)], [(1, 1, 2, 2)], 5, 5)
def test_boxes_and_masks_as_brute_force(predicted, truth, width, height):
    size = (width, height)
    p, t = painted(predicted, size), painted(truth, size)
    expected = by_pixels(p, t)
    assert bbox_mask_iou(predicted, truth, size) == expected
    assert bbox_mask_iou(predicted, t, size) == expected
    assert bbox_mask_iou(predicted, MaskTruth(t), size) == expected
    assert bbox_mask_iou(predicted, t.astype(np.uint8) * 255, size) == expected


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(17, 60), st.booleans())
def test_many_boxes_take_another_way_to_the_same_number(seed, count, in_bands):
    dice = np.random.default_rng(seed)
    size = (40, 30)
    boxes = np.sort(dice.integers(-3, 45, (count, 2, 2)), axis=1).reshape(-1, 4)
    truth = np.sort(dice.integers(0, 30, (count, 2, 2)), axis=1).reshape(-1, 4)
    mask = dice.random((30, 40)) < 0.2
    most = box_areas._MAX_CELLS
    try:
        box_areas._MAX_CELLS = 50 if in_bands else most
        assert bbox_mask_iou(boxes, truth, size) == by_pixels(painted(boxes, size), painted(truth, size))
        assert bbox_mask_iou(boxes, mask, size) == by_pixels(painted(boxes, size), mask)
        assert bbox_mask_iou(boxes[:3], mask, size) == by_pixels(painted(boxes[:3], size), mask)
        assert bbox_mask_iou(boxes[:3], truth, size) == by_pixels(painted(boxes[:3], size), painted(truth, size))
    finally:
        box_areas._MAX_CELLS = most


def test_against_pycocotools():
    coco = pytest.importorskip("pycocotools.mask")
    dice = random.Random(11)

    def encode(boxes, width, height):
        # COCO's boxes are x, y, width, height; whole numbers are exact in its run lengths.
        if not boxes:
            return coco.encode(np.zeros((height, width), np.uint8, order="F"))
        parts = [[x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in boxes]
        return coco.merge(coco.frPyObjects(np.array(parts, float), height, width))

    def random_boxes(width, height):
        boxes = []
        for _ in range(dice.randint(0, 5)):
            x1, y1 = dice.randrange(width), dice.randrange(height)
            boxes.append([x1, y1, dice.randint(x1 + 1, width), dice.randint(y1 + 1, height)])
        return boxes

    compared = 0
    for _ in range(300):
        width, height = dice.randint(8, 2800), dice.randint(8, 2800)
        predicted, truth = random_boxes(width, height), random_boxes(width, height)
        if not predicted and not truth:
            continue
        expected = float(coco.iou([encode(predicted, width, height)], [encode(truth, width, height)], [0])[0, 0])
        assert bbox_mask_iou(predicted, truth, (width, height)) == pytest.approx(expected, abs=1e-12)
        compared += 1
    assert compared > 250


def test_against_pycocotools_with_a_mask_of_any_shape():
    coco = pytest.importorskip("pycocotools.mask")
    dice = np.random.default_rng(5)
    mask = np.zeros((701, 900), bool)
    yy, xx = np.mgrid[:701, :900]
    for _ in range(4):
        cy, cx, r = dice.integers(50, 650), dice.integers(50, 850), dice.integers(5, 90)
        mask |= (yy - cy) ** 2 + (xx - cx) ** 2 < r * r
    true = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    prepared = MaskTruth(mask)
    for _ in range(100):
        x1, y1 = int(dice.integers(0, 890)), int(dice.integers(0, 690))
        box = [x1, y1, int(dice.integers(x1 + 1, 901)), int(dice.integers(y1 + 1, 702))]
        own = coco.frPyObjects(np.array([[box[0], box[1], box[2] - box[0], box[3] - box[1]]], float), 701, 900)
        expected = float(coco.iou(own, [true], [0])[0, 0])
        assert bbox_mask_iou([box], mask, (900, 701)) == pytest.approx(expected, abs=1e-12)
        assert bbox_mask_iou([box], prepared, (900, 701)) == pytest.approx(expected, abs=1e-12)


def test_overlapping_boxes_count_once_and_the_outside_not_at_all():
    assert bbox_mask_iou([[0, 0, 10, 10]] * 3, [[0, 0, 10, 10]], (100, 100)) == 1.0
    assert bbox_mask_iou([[-50, -50, 10, 10]], [[0, 0, 10, 10]], (100, 100)) == 1.0
    assert bbox_mask_iou([[0, 0, 10, 10], [5, 0, 15, 10]], [[0, 0, 20, 10]], (100, 100)) == 0.75
    assert bbox_mask_iou([[0, 0, 1e14, 1e14]], [[0, 0, 50, 100]], (100, 100)) == 0.5


def test_nothing_predicted_and_nothing_there():
    empty = np.zeros((10, 10), bool)
    some = empty.copy()
    some[2:4, 2:4] = True
    assert bbox_mask_iou([], [], (10, 10)) == bbox_mask_iou([], empty, (10, 10)) == 1.0
    assert bbox_mask_iou([], [[0, 0, 2, 2]], (10, 10)) == bbox_mask_iou([], some, (10, 10)) == 0.0
    assert bbox_mask_iou([[0, 0, 2, 2]], [], (10, 10)) == bbox_mask_iou([[0, 0, 2, 2]], empty, (10, 10)) == 0.0
    assert bbox_mask_iou([[5, 5, 5, 9]], empty, (10, 10)) == 1.0  # a line covers nothing


@pytest.mark.parametrize(
    "boxes",
    [
        [[0, 0, 1]],
        [[0, 0, 1, float("nan")]],
        [[0, 0, 1, float("inf")]],
        [[10**400, 0, 1, 2]],
        [["a", 0, 1, 1]],
        [1, 2, 3, 4],
        [None],
        [[0, 0, 1]] * 20,
        [[0, 0, 1, float("nan")]] * 20,
        [*[[0, 0, 1, 2]] * 19, [3]],
    ],
)
def test_what_is_no_box(boxes):
    with pytest.raises(UserError, match=r"expected a list of \[x1, y1, x2, y2\]"):
        bbox_mask_iou(boxes, [], (10, 10))


def test_a_mask_of_another_size():
    with pytest.raises(UserError, match="mask of 20×10 pixels for an image of 10×20"):
        bbox_mask_iou([[0, 0, 1, 1]], np.zeros((10, 20), bool), (10, 20))
    with pytest.raises(UserError, match=r"shape \(1, 2, 3\)"):
        bbox_mask_iou([], np.zeros((1, 2, 3), bool), (2, 1))


def test_a_hundred_thousand_predictions_on_a_large_mask():
    dice = np.random.default_rng(3)
    size = (2800, 2800)
    mask = np.zeros((2800, 2800), bool)
    mask[700:1500, 300:900] = True
    mask[2000:2100, 2000:2600] = True
    boxes = np.sort(dice.integers(0, 2801, (100_000, 2, 2)), axis=1).reshape(-1, 4)
    begin = time.process_time()
    prepared = MaskTruth(mask)
    found = np.array([bbox_mask_iou([box], prepared, size) for box in boxes.tolist()])
    assert time.process_time() - begin < 30  # 3 seconds on one free core; painting would take an hour

    # All of them at once by arithmetic of its own: the mask is two rectangles.
    def overlap(x1, y1, x2, y2):
        wide = np.minimum(boxes[:, 2], x2) - np.maximum(boxes[:, 0], x1)
        high = np.minimum(boxes[:, 3], y2) - np.maximum(boxes[:, 1], y1)
        return np.clip(wide, 0, None) * np.clip(high, 0, None)

    both = overlap(300, 700, 900, 1500) + overlap(2000, 2000, 2600, 2100)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    np.testing.assert_allclose(found, both / (area + mask.sum() - both), atol=1e-12)

    begin = time.process_time()
    union = np.zeros((2801, 2801), np.int64)
    for rows, columns, sign in ((1, 0, 1), (3, 2, 1), (1, 2, -1), (3, 0, -1)):
        np.add.at(union, (boxes[:, rows], boxes[:, columns]), sign)
    covered = union.cumsum(0).cumsum(1)[:2800, :2800] > 0
    assert bbox_mask_iou(boxes, mask, size) == by_pixels(covered, mask)
    assert bbox_mask_iou(boxes, boxes[:50_000], size) <= 1
    assert time.process_time() - begin < 30
