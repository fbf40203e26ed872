"""Windows: never a defect cut in two or lost, boxes and mask cut alike, the same place in both images."""

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from adcopilot.chat_ad.crops import (
    CropOptions,
    choose_crops,
    choose_window,
    collect_decoys,
    cut_boxes,
    cut_pair,
    map_window,
    parse_shares,
    shown_window,
)
from adcopilot.chat_ad.pairing import PAIR_SCHEMA
from adcopilot.chat_ad.sources.references import mask_components, open_mask
from adcopilot.errors import UserError

from .drawn import as_table, draw_dataset


@st.composite
def masks(draw):
    """A mask of a random size with some blobs: rectangles, diagonals (one component by eight neighbours), dots."""
    width, height = draw(st.integers(60, 200)), draw(st.integers(60, 200))
    mask = np.zeros((height, width), bool)
    for _ in range(draw(st.integers(1, 6))):
        w, h = draw(st.integers(1, 50)), draw(st.integers(1, 50))
        x, y = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        if draw(st.booleans()):
            mask[y : y + h, x : x + w] = True
        else:
            for step in range(min(w, height - y, width - x)):
                mask[y + step, x + step] = True
    return mask


def crop_options():
    shares = st.tuples(st.floats(0.05, 1), st.floats(0.05, 1)).map(sorted)
    return st.builds(
        lambda shares, keep, margin: CropOptions(shares=f"{shares[0]}:{shares[1]}", keep=keep, margin=margin),
        shares,
        st.sampled_from(["all", "one"]),
        st.integers(0, 20),
    )


@settings(max_examples=300, deadline=None)
@given(masks(), crop_options(), st.integers(0, 2**32))
def test_a_kept_defect_is_never_cut_and_boxes_are_the_components_of_the_cut_mask(mask, options, seed):
    boxes = [component.box for component in mask_components(mask)]
    size = mask.shape[1], mask.shape[0]
    window = choose_window(random.Random(seed), size=size, boxes=boxes, options=options)
    row = {"image": "i", "width": size[0], "height": size[1], "boxes": boxes, "crop": window and list(window)}
    row["box_labels"] = [f"d{index}" for index in range(len(boxes))]
    kept, labels = cut_boxes(row)  # raises where a defect is cut or none is left
    x1, y1, x2, y2 = window or (0, 0, *size)
    assert 0 <= x1 < x2 <= size[0]
    assert 0 <= y1 < y2 <= size[1]
    cut = mask[y1:y2, x1:x2]
    assert sorted(kept) == sorted(list(component.box) for component in mask_components(cut))
    assert kept  # an anomalous image never loses all of its defects
    if options.keep == "all":
        assert len(kept) == len(boxes)
        assert cut.sum() == mask.sum()
    for box, label in zip(kept, labels, strict=True):
        original = boxes[int(label[1:])]
        assert (box[0] + x1, box[1] + y1, box[2] + x1, box[3] + y1) == tuple(original)


@settings(max_examples=100, deadline=None)
@given(st.integers(20, 3000), st.integers(20, 3000), crop_options(), st.integers(0, 2**32))
def test_a_window_without_defects_has_the_size_that_was_asked_for(width, height, options, seed):
    window = choose_window(random.Random(seed), size=(width, height), boxes=[], options=options) or (
        0,
        0,
        width,
        height,
    )
    least, most = parse_shares(options.shares)
    for low, high, length in zip(window[:2], window[2:], (width, height), strict=True):
        assert 0 <= low < high <= length
        assert min(length, max(round(least * length), 56)) <= high - low
        assert high - low <= min(length, max(round(most * length), 56))


def test_a_window_keeps_its_margin_where_the_image_has_it():
    options = CropOptions(shares="0.1:0.1", margin=10)
    for seed in range(200):
        x1, y1, x2, y2 = choose_window(
            random.Random(seed), size=(400, 400), boxes=[(3, 200, 150, 210)], options=options
        )
        assert (x1, x2) == (0, 160)  # three pixels are all there are on the left
        assert y1 <= 190
        assert y2 >= 220
        assert y2 - y1 == 56


def test_one_defect_may_stand_for_several_and_the_others_are_listed():
    boxes = [(10, 10, 30, 30), (160, 160, 190, 190), (10, 170, 40, 190)]
    options = CropOptions(shares="0.3:0.5", keep="one")
    shown = Counter()
    for seed in range(300):
        window = choose_window(random.Random(seed), size=(200, 200), boxes=boxes, options=options)
        row = {"image": "i", "width": 200, "height": 200, "boxes": boxes, "box_labels": list("abc"), "crop": window}
        shown[tuple(cut_boxes(row)[1])] += 1
    assert {("a",), ("b",), ("c",)} <= shown.keys()
    assert min(shown["a",], shown["b",], shown["c",]) > 50


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """(root, table of pairs): drawn images, each anomalous or normal one with some normal one."""
    root = tmp_path_factory.mktemp("crops")
    entries = draw_dataset(root, normal=3, anomalous=4, size=160)
    rows = []
    for one in entries:
        others = [other for other in entries if other.category == one.category and other.label == "normal"]
        other = next(other for other in others if other != one)
        added = {"template": other.image, "template_sha256": other.sha256, "similarity": 0.5, "crop": None}
        added |= {"template_width": other.width, "template_height": other.height}
        rows.append({**vars(one), **added})
    return root, pa.Table.from_pylist(rows, schema=PAIR_SCHEMA)


@pytest.mark.parametrize("keep", ["all", "one"])
def test_cut_pairs_show_the_same_place_and_their_masks_components(pairs, keep):
    root, table = pairs
    options = CropOptions(shares="0.4:0.8", keep=keep)
    cropped = choose_crops(table, options=options, decoys=collect_decoys([table]), seed=1)
    assert cropped.schema == PAIR_SCHEMA
    assert cropped.drop_columns("crop").equals(table.drop_columns("crop"))
    for row in cropped.to_pylist():
        x1, y1, x2, y2 = shown_window(row)
        assert [x1, y1, x2, y2] == (row["crop"] or [0, 0, 160, 160])
        boxes, labels = cut_boxes(row)
        for name, shown in zip(("template", "image"), cut_pair(root, row), strict=True):
            assert shown.size == (x2 - x1, y2 - y1)
            whole = np.asarray(Image.open(root / row[name]).convert("RGB"))
            assert np.array_equal(np.asarray(shown), whole[y1:y2, x1:x2])
        if row["label"] == "normal":
            assert (boxes, row["mask"]) == ([], "")
            continue
        mask = open_mask(root, row["mask"], size=(160, 160))[y1:y2, x1:x2]
        assert sorted(boxes) == sorted(list(component.box) for component in mask_components(mask))
        assert set(labels) == {row["defect"]}
        assert keep == "one" or len(boxes) == len(row["boxes"])


def test_windows_depend_on_the_seed_and_the_row_alone(pairs):
    _, table = pairs
    decoys, options = collect_decoys([table]), CropOptions(shares="0.5:1")
    first = choose_crops(table, options=options, decoys=decoys, seed=1)
    assert choose_crops(table, options=options, decoys=decoys, seed=1).equals(first)
    assert not choose_crops(table, options=options, decoys=decoys, seed=2).equals(first)
    assert choose_crops(table.slice(5, 4), options=options, decoys=decoys, seed=1).equals(first.slice(5, 4))
    assert collect_decoys([table.slice(9), table.slice(0, 9)]) == decoys  # in any order of shards


def test_the_windows_size_does_not_tell_the_answer(pairs):
    """Over many draws, windows of normal and anomalous images of one category are of the same sizes."""
    _, table = pairs
    rows = table.to_pylist()
    for row in rows:
        if row["label"] == "anomalous":  # so large that windows must grow
            row["boxes"], row["box_labels"] = [[20, 30, 130, 120]], ["d"]
    table = pa.Table.from_pylist(rows, schema=PAIR_SCHEMA)
    decoys, options = collect_decoys([table]), CropOptions(shares="0.2:0.5")
    sides = {"normal": [], "anomalous": []}
    for seed in range(150):
        for row in choose_crops(table, options=options, decoys=decoys, seed=seed).to_pylist():
            window = row["crop"] or [0, 0, 160, 160]
            sides[row["label"]].append(window[2] - window[0])
    assert np.mean(sides["normal"]) == pytest.approx(np.mean(sides["anomalous"]), rel=0.05)
    assert np.std(sides["normal"]) == pytest.approx(np.std(sides["anomalous"]), rel=0.15)


def test_an_anomalous_image_without_boxes_is_left_whole(pairs):
    _, table = pairs
    rows = table.to_pylist()
    for row in rows:
        row["boxes"], row["box_labels"] = [], []
    bare = pa.Table.from_pylist(rows, schema=PAIR_SCHEMA)
    for row in choose_crops(bare, options=CropOptions(shares="0.3:0.5"), decoys={}).to_pylist():
        assert (row["crop"] is None) == (row["label"] == "anomalous")


def test_few_decoys_are_kept_and_they_are_shares(tmp_path):
    entries = draw_dataset(tmp_path, categories=("washer",), normal=0, anomalous=2, size=96)
    table = as_table([replace(one, image=f"{number}.png") for number in range(100) for one in entries])
    decoys = collect_decoys([table])
    assert list(decoys) == [("drawn", "washer")]
    assert len(decoys["drawn", "washer"]) == 64
    assert all(0 <= share <= 1 for boxes in decoys["drawn", "washer"] for box in boxes for share in box)


def test_a_template_of_another_size_is_cut_at_the_same_place_and_keeps_its_pixels(pairs, tmp_path):
    root, table = pairs
    row = next(row for row in table.to_pylist() if row["label"] == "anomalous")
    for name in ("image", "template"):
        (tmp_path / row[name]).parent.mkdir(parents=True, exist_ok=True)
        Image.open(root / row[name]).save(tmp_path / row[name])
    large = Image.open(root / row["template"]).resize((320, 480), Image.Resampling.NEAREST)
    large.save(tmp_path / row["template"])
    row.update(mask="", boxes=[], box_labels=[], crop=[20, 40, 120, 100])
    template, query = cut_pair(tmp_path, row)
    assert query.size == (100, 60)
    assert np.array_equal(np.asarray(template), np.asarray(large.crop((40, 120, 240, 300))))


def test_images_of_unlike_shape_are_shown_whole(pairs):
    """There is no "same place" in them, so no window is cut."""
    _, table = pairs
    options = CropOptions(shares="0.4:0.8")
    rows = [{**row, "template_width": 160, "template_height": 120} for row in table.to_pylist()]
    unlike = choose_crops(pa.Table.from_pylist(rows, schema=PAIR_SCHEMA), options=options, decoys={})
    assert unlike["crop"].null_count == table.num_rows
    rows = [{**row, "template_width": 320, "template_height": 300} for row in rows]
    alike = choose_crops(pa.Table.from_pylist(rows, schema=PAIR_SCHEMA), options=options, decoys={})
    assert alike["crop"].null_count < table.num_rows


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 300), st.data())
def test_a_mapped_window_is_inside_and_never_empty(source, target, other, data):
    low = data.draw(st.integers(0, source - 1))
    high = data.draw(st.integers(low + 1, source))
    x1, y1, x2, y2 = map_window((low, low, high, high), (source, source), (target, other))
    assert 0 <= x1 < x2 <= target
    assert 0 <= y1 < y2 <= other
    assert map_window((low, low, high, high), (source, source), (source, source)) == (low, low, high, high)


def test_a_window_that_would_falsify_the_pair_is_refused(pairs):
    root, table = pairs
    row = dict(next(row for row in table.to_pylist() if row["boxes"]))
    x1, y1, x2, y2 = row["boxes"][0]
    for crop, said in (
        ([x1 + 1, y1, 160, 160], "cuts one of its defects"),
        ([0, 0, x1, y1] if min(x1, y1) > 0 else [x2, y2, 160, 160], "leaves out all of its defects"),
        ([0, 0, 161, 160], "is not inside"),
        ([5, 5, 5, 50], "is not inside"),
    ):
        alone = {**row, "boxes": row["boxes"][:1], "box_labels": row["box_labels"][:1], "crop": crop}
        for cut in (lambda row=alone: cut_pair(root, row), lambda row=alone: cut_boxes(row)):
            with pytest.raises(UserError, match=said):
                cut()
    with pytest.raises(UserError, match="its row says 100×160"):
        cut_pair(root, {**row, "width": 100, "boxes": [], "box_labels": []})
