"""What an annotation says: families of defects, places, shares of the image."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adcopilot.chat_ad.generation.facts import CELLS, Facts, cell, union_share

from .conftest import make_pair


@pytest.mark.parametrize(
    ("labels", "family"),
    [
        (["scratch", "s_scratch"], "scratch"),
        (["scratch", "rust"], ""),
        (["pin hole"], "pit"),
        (["pin hole", "mouse bite", "spurious copper", "open circuit", "short circuit", "spur"], "circuit"),
        (["cap_open"], ""),
        (["aotu"], ""),
        (["bad"], ""),
        (["missing_wire"], "missing"),
    ],
)
def test_families(words, labels, family):
    pair = make_pair(boxes=((20, 10, 60, 30),) * len(labels), labels=tuple(labels), defect="")
    assert Facts(pair, words).family == family


@pytest.mark.parametrize(
    ("boxes", "labels", "placed", "there"),
    [
        ([(0, 0, 9, 9)], ["scratch"], "a scratch at the top left", "there is"),
        ([(0, 0, 9, 9)] * 2, ["scratch"] * 2, "two scratches at the top left", "there are"),
        (
            [(0, 0, 9, 9), (140, 90, 150, 110)],
            ["scratch"] * 2,
            "two scratches, at the top left and in the centre",
            "there are",
        ),
        (
            [(0, 0, 9, 9), (290, 90, 300, 110)],
            ["scratch", "dent"],
            "a scratch at the top left and a dent on the right",
            "there is",
        ),
        ([(0, 80, 300, 120)], ["oil"], "an oil stain across the middle of the image", "there is"),
        ([(0, 0, 300, 200)], ["rust"], "rust over most of the image", "there is"),
        ([(0, 0, 20, 200)], ["missing_parts"], "missing parts from top to bottom on the left", "there are"),
        (
            [(x, y, x + 9, y + 9) for x in (0, 140, 290) for y in (0, 190)],
            ["hole"] * 6,
            "six holes in several places",
            "there are",
        ),
    ],
)
def test_places(words, boxes, labels, placed, there):
    pair = make_pair(boxes=tuple(boxes), labels=tuple(labels), defect="")
    facts = Facts(pair, words)
    assert (facts.placed, facts.there) == (placed, there)


def test_parts_of_an_image():
    names = [[cell((x, y, x + 2, y + 2), (300, 300)) for x in (1, 150, 297)] for y in (1, 150, 297)]
    assert names == [list(row) for row in CELLS]


@settings(max_examples=100, deadline=None)
@given(
    boxes=st.lists(
        st.tuples(st.integers(0, 19), st.integers(0, 19), st.integers(1, 20), st.integers(1, 20)).map(
            lambda b: (b[0], b[1], min(20, b[0] + b[2]), min(20, b[1] + b[3]))
        ),
        min_size=1,
        max_size=6,
    )
)
def test_the_share_of_overlapping_boxes_is_that_of_their_pixels(boxes):
    pixels = {(x, y) for x1, y1, x2, y2 in boxes for x in range(x1, x2) for y in range(y1, y2)}
    assert union_share(boxes, (20, 20)) == pytest.approx(len(pixels) / 400)


@pytest.mark.parametrize(
    ("boxes", "areas", "share", "size"),
    [
        ([(0, 0, 100, 60)], (5400,), "about 9 %", "large"),  # of 60 000; the box is 10 %
        ([(0, 0, 300, 200)], (900,), "about 2 %", "medium-sized"),  # a long scratch from corner to corner
        ([(0, 0, 90, 60), (100, 0, 190, 60)], (1800, 1200), "about 5 %", "medium-sized"),
        ([(0, 0, 90, 60)], (30,), "less than 1 %", "tiny"),
    ],
)
def test_a_size_is_the_mask_s_where_there_is_one(words, boxes, areas, share, size):
    labels = ("scratch",) * len(boxes)
    known = Facts(make_pair(boxes=tuple(boxes), labels=labels, areas=areas), words)
    assert (known.share, known.size) == (share, size)
    assert "over most of the image" not in known.placed
    with pytest.raises(ValueError, match="areas for them"):
        make_pair(areas=(1, 2))
