"""Ratios are reached, evenly and repeatably."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adcopilot.chat_ad.fitness.rebalance import parse_ratio, quotas, rebalance
from adcopilot.errors import UserError

from ..drawn import as_table, invented


def rebalance_table(table, **options):
    """The rows that stay, in order, and the lines about the others."""
    drops = rebalance(table, **options)
    return table.take([row for row in range(table.num_rows) if row not in drops]), [
        drops[row] for row in sorted(drops)
    ]


def rows(*, source="s", category="c", view="", label="normal", defect="", count):
    columns = {"category": category, "view": view, "label": label, "defect": defect, "source": source}
    names = [f"{source}/{category}/{view}/{label}/{defect}{number}.png" for number in range(count)]
    return [invented(name, **columns) for name in names]


def count(table, *columns):
    return Counter(tuple(row[name] for name in columns) for row in table.to_pylist())


@given(st.data())
def test_quotas_add_up_and_fit(data):
    capacities = data.draw(st.lists(st.integers(0, 50), min_size=1, max_size=12))
    weights = data.draw(st.lists(st.floats(0, 100), min_size=len(capacities), max_size=len(capacities)))
    total = data.draw(st.integers(0, sum(capacities)))
    shares = quotas(total, weights, capacities)
    assert sum(shares) == total
    assert all(0 <= share <= capacity for share, capacity in zip(shares, capacities, strict=True))


def test_quotas_follow_the_weights_and_pass_on_what_does_not_fit():
    assert quotas(10, [1, 1], [20, 20]) == [5, 5]
    assert quotas(10, [3, 1], [20, 20]) == [8, 2]  # 7.5 and 2.5: the larger share first
    assert quotas(10, [1, 1, 1], [1, 20, 20]) == [1, 5, 4]
    assert quotas(4, [0, 0], [1, 9]) == [1, 3]
    assert quotas(3, [1, 0], [2, 9]) == [2, 1]
    with pytest.raises(ValueError, match="do not fit"):
        quotas(3, [1], [2])


def test_each_dataset_gets_the_ratio_and_each_category_its_part():
    table = as_table(
        rows(source="a", category="x", count=100)
        + rows(source="a", category="x", label="anomalous", defect="d", count=10)
        + rows(source="a", category="y", view="1", count=300)
        + rows(source="a", category="y", view="2", count=3)
        + rows(source="a", category="y", view="1", label="anomalous", defect="d", count=10)
        + rows(source="a", category="y", view="2", label="anomalous", defect="d", count=10)
        + rows(source="b", count=7)
        + rows(source="c", label="anomalous", defect="d", count=7)
    )
    kept, drops = rebalance_table(table, ratio=0.5)
    found = count(kept, "source", "category", "view", "label")
    assert found["a", "x", "", "normal"] + found["a", "y", "1", "normal"] + found["a", "y", "2", "normal"] == 60
    assert found["a", "y", "2", "normal"] == 3  # all that there are; the others take what is missing
    assert found["a", "x", "", "normal"] in (28, 29)
    assert found["b", "c", "", "normal"] == found["c", "c", "", "anomalous"] == 7  # nothing to balance against
    assert {drop["reason"] for drop in drops} == {"rebalanced"}
    assert {(drop["value"], drop["limit"], drop["label"]) for drop in drops} == {(403, 60, "normal")}
    assert len(drops) == 403 - 60


def test_anomalous_images_are_left_out_only_if_asked():
    table = as_table(
        rows(count=10) + rows(label="anomalous", defect="d", count=30) + rows(label="anomalous", defect="e", count=10)
    )
    assert rebalance(table, ratio=1.0) == {}
    kept, _ = rebalance_table(table, ratio=1.0, cut="both")
    assert count(kept, "label") == {("normal",): 10, ("anomalous",): 10}
    assert count(kept, "defect") == {("",): 10, ("d",): 8, ("e",): 2}  # as they were, 3 to 1
    with pytest.raises(ValueError, match="ratio"):
        rebalance(table, ratio=0.0)


def test_the_choice_depends_on_the_seed_and_the_names_alone():
    entries = rows(count=200) + rows(label="anomalous", defect="d", count=20)
    kept, _ = rebalance_table(as_table(entries), ratio=1.0, seed=1)
    again, _ = rebalance_table(as_table(entries[::-1]), ratio=1.0, seed=1)
    other, _ = rebalance_table(as_table(entries), ratio=1.0, seed=2)
    names = [set(table["image"].to_pylist()) for table in (kept, again, other)]
    assert names[0] == names[1] != names[2]
    more, _ = rebalance_table(as_table(entries + rows(category="c", view="new", count=50)), ratio=1.0, seed=1)
    assert names[0] == set(more["image"].to_pylist())  # a view without defects takes nothing from the others


def test_rows_that_do_not_count_are_left_alone():
    table = as_table(rows(count=20) + rows(label="anomalous", defect="d", count=5))
    drops = rebalance(table, ratio=1.0, among=[0, 1, 2, 3, 4, 5, 6, 20, 21])
    assert len(drops) == 5
    assert set(drops) < set(range(7))


@pytest.mark.parametrize("text", ["1", "0:1", "1:0", "a:b", "1:inf", "-1:2", "1:nan"])
def test_a_bad_ratio_is_refused(text):
    with pytest.raises(UserError, match="ANOMALOUS:NORMAL"):
        parse_ratio(text)


def test_a_ratio_is_anomalous_to_normal():
    assert parse_ratio("1:2") == 0.5
    assert parse_ratio("3:1") == 3.0
