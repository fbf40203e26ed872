"""Counts and charts of the report."""

import statistics
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from adcopilot.chat_ad.report.charts import columns, histogram, lengths, stacked, uneven
from adcopilot.chat_ad.report.tally import Tally, label_of

from ..reported import bad_record


@given(st.lists(st.integers(0, 999), min_size=1, max_size=80))
def test_lengths(values):
    found = lengths(Counter(values))
    assert (found.shortest, found.longest) == (min(values), max(values))
    assert found.median == statistics.median_low(values)
    assert sum(value <= found.most for value in values) >= 0.95 * len(values)
    assert sum(value < found.most for value in values) < 0.95 * len(values)
    assert sum(columns(Counter(values))) == len(values)


def test_bars():
    segments = stacked({"b": 1, "a": 3}, kinds=["a", "missing", "b"])
    assert [(one.kind, one.x, one.width) for one in segments] == [("a", 0, 75), ("b", 75, 25)]
    counts = Counter({4: 1, 5: 2, 4001: 400})
    assert columns(counts) == [1, 2, 0, 0, 0, 0, 400]
    assert "<title>> 4k: 400</title>" in str(histogram("mc", counts)).replace("&gt;", ">")
    assert not uneven(Counter(A=30, B=20, C=24, D=26))
    assert uneven(Counter(A=60, B=20, C=10, D=10))
    assert not uneven(Counter(A=4))


def test_labels():
    assert (
        label_of({"anomalous": True})
        == label_of({"defect": "x"})
        == label_of({"defect": "", "boxes": [1]})
        == "anomalous"
    )
    assert label_of({"anomalous": False, "defect": "x"}) == label_of({"defect": None}) == "normal"
    assert label_of({"boxes": [1]}) == label_of({"anomalous": "yes"}) == "not said"


def test_names_are_bounded():
    tally = Tally()
    for index in range(7_000):
        tally.add("Chat", bad_record(f"task {index}", category=f"c{index}", defect=f"d{index}", labels=[]))
    assert len(tally.groups) == 1_001
    assert len(tally.categories) == len(tally.defects) == 5_001
    assert tally.records == sum(group.records for group in tally.groups.values()) == 7_000
    assert tally.defects.total() == 7_000
