"""Cutting windows: no defect is ever cut out of its own query, and a normal window shows none."""

import random

import numpy as np
import pytest

from adcopilot.chat_ad.windows import EdgeMap, clean_window, defect_window, repair, seen_boxes

IMAGE = (200, 160)


def random_boxes(rng, count, longest=40):
    boxes = []
    for _ in range(count):
        width, height = rng.randint(4, longest), rng.randint(4, longest)
        x, y = rng.randint(0, IMAGE[0] - width), rng.randint(0, IMAGE[1] - height)
        boxes.append((x, y, x + width, y + height))
    return boxes


def area(box):
    return (box[2] - box[0]) * (box[3] - box[1])


def inside(box, window):
    """The part of a box in a window, in pixels of the image; None if there is none."""
    x1, y1, x2, y2 = max(box[0], window[0]), max(box[1], window[1]), min(box[2], window[2]), min(box[3], window[3])
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


def test_seen_boxes_clip_refuse_and_pass_over():
    box = (10, 10, 30, 20)
    assert seen_boxes([box], (0, 0, 50, 50), min_visible=0.5)[0].box == (10, 10, 30, 20)
    (clipped,) = seen_boxes([box], (5, 5, 25, 50), min_visible=0.5)
    assert clipped.clipped
    assert clipped.box == (5, 5, 20, 15)
    assert seen_boxes([box], (25, 0, 60, 50), min_visible=0.5) is None  # a quarter of it: neither yes nor no is true
    assert seen_boxes([box], (25, 0, 60, 50), min_visible=0.2) is None  # enough of it, but not its centre
    assert seen_boxes([box], (30, 0, 60, 50), min_visible=0.5) == []  # touching edges share no pixel


def test_a_defect_window_shows_its_target_and_hides_no_other():
    rng = random.Random(0)
    found_some = 0
    for _ in range(400):
        boxes = random_boxes(rng, rng.randint(1, 8))
        target, crop = rng.randrange(len(boxes)), rng.choice([48, 64, 120])
        found = defect_window(rng, boxes, target, image=IMAGE, crop=crop, min_visible=0.5)
        if found is None:
            continue
        found_some += 1
        window, seen = found
        assert (window[2] - window[0], window[3] - window[1]) == (crop, crop)
        assert window[0] >= 0
        assert window[1] >= 0
        assert window[2] <= IMAGE[0]
        assert window[3] <= IMAGE[1]
        by_index = {one.index: one for one in seen}
        assert target in by_index
        assert not by_index[target].clipped  # every box is smaller than every crop here
        for index, box in enumerate(boxes):
            part = inside(box, window)
            assert (part is not None) == (index in by_index)
            if part is not None:
                assert area(part) >= 0.5 * area(box)
                one = by_index[index]
                assert one.box == (part[0] - window[0], part[1] - window[1], part[2] - window[0], part[3] - window[1])
                assert one.clipped == (part != box)
    assert found_some > 200


def test_a_defect_larger_than_the_crop_fills_it_or_is_given_up():
    rng = random.Random(1)
    _, (seen,) = defect_window(rng, [(20, 20, 84, 60)], 0, image=IMAGE, crop=56, min_visible=0.5)
    assert seen.clipped
    assert seen.box[2] - seen.box[0] == 56
    assert defect_window(rng, [(0, 0, 150, 150)], 0, image=IMAGE, crop=56, min_visible=0.5) is None


def test_a_clean_window_keeps_away_from_boxes_and_resembles():
    rng = random.Random(2)
    grey = np.full((IMAGE[1], IMAGE[0]), 255, np.uint8)
    grey[:, 100::4] = 0  # structure on the right only
    edges = EdgeMap(grey=grey)
    for like, right in (((150, 0, 190, 40), True), ((0, 0, 40, 40), False)):
        boxes = random_boxes(rng, 3)
        window = clean_window(rng, boxes, image=IMAGE, crop=40, margin=4, edges=edges, like=like)
        assert (window[0] > 90) if right else (window[2] <= 105)
        for box in boxes:
            assert inside((box[0] - 4, box[1] - 4, box[2] + 4, box[3] + 4), window) is None
    assert clean_window(rng, [(0, 0, *IMAGE)], image=IMAGE, crop=40, margin=4, edges=edges, like=like) is None


def test_edge_map_counts_steps():
    grey = np.random.default_rng(0).integers(0, 256, (30, 40), dtype=np.uint8)
    dark = grey < 128
    edges = np.zeros_like(grey, int)
    edges[:, 1:] += dark[:, 1:] != dark[:, :-1]
    edges[1:] += dark[1:] != dark[:-1]
    counted = EdgeMap(grey=grey)
    for window in ((0, 0, 40, 30), (3, 4, 20, 22), (39, 29, 40, 30)):
        assert counted.count(window) == edges[window[1] : window[3], window[0] : window[2]].sum()


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (2, -3), (-5, 5)])
def test_repair_finds_the_offset_and_leaves_the_rest_alone(dx, dy):
    rng = np.random.default_rng(3)
    truth = (rng.random((80, 100)) > 0.5).astype(np.uint8) * 255
    template = np.roll(truth, (dy, dx), (0, 1))
    query, boxes = truth.copy(), [(30, 30, 50, 45), (52, 30, 60, 40)]
    for x1, y1, x2, y2 in boxes:
        query[y1:y2, x1:x2] = 128
    assert (repair(query, template, boxes) == truth).all()
    assert query[32, 32] == 128  # the input is not changed


def test_repair_at_the_corner_and_of_everything():
    query = np.zeros((20, 30, 3), np.uint8)
    template = np.full_like(query, 7)
    assert (repair(query, template, [(0, 0, 5, 5)])[:5, :5] == 7).all()
    assert (repair(query, template, [(0, 0, 30, 20)]) == 7).all()
