"""Which records a gallery shows."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from adcopilot.pages.sampling import Draw


@given(
    records=st.lists(st.tuples(st.sampled_from("abcde"), st.binary(max_size=6)), unique=True, max_size=60),
    count=st.integers(0, 20),
    seed=st.integers(0, 3),
    rng=st.randoms(use_true_random=False),
)
def test_draw_is_fair_and_does_not_depend_on_the_order(records, count, seed, rng):
    def chosen(records):
        draw = Draw(count=count, seed=seed)
        for stratum, raw in records:
            draw.offer((stratum,), raw, raw)
        return draw.chosen()

    drawn = chosen(records)
    assert len(drawn) == min(count, len(records))
    sizes, got = Counter(stratum for stratum, _ in records), Counter(stratum for (stratum,), _ in drawn)
    # In turn: a stratum that has fewer than another by two or more has none left.
    for stratum, size in sizes.items():
        assert got[stratum] == size or got[stratum] >= max(got.values(), default=0) - 1
    shuffled = list(records)
    rng.shuffle(shuffled)
    assert chosen(shuffled) == drawn


def test_every_record_is_as_likely_to_be_drawn():
    counts = Counter()
    for seed in range(400):
        draw = Draw(count=5, seed=seed)
        for index in range(20):
            draw.offer(("",), str(index).encode(), index)
        counts.update(index for _, index in draw.chosen())
    # 100 expected of each, standard deviation 8.7; the seeds are fixed, so this is no lottery.
    assert len(counts) == 20
    assert all(65 <= counts[index] <= 135 for index in range(20))
