"""Templates: the nearest is the nearest, like view with like view, never the query itself, the same in any shards."""

import pickle
import shutil
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adcopilot.chat_ad.fitness.embedding import embed_images, load_embedder
from adcopilot.chat_ad.pairing import PAIR_SCHEMA, PairOptions, Pool, pair_shard
from adcopilot.chat_ad.pipeline.dataset_steps import EMBED, PAIR, POOL
from adcopilot.chat_ad.runners import HERE
from adcopilot.chat_ad.steps import Job, Steps, notes_of, read, save

from .drawn import as_table, draw_dataset, entry_of, invented


def rows_of(count, seed, *, categories=2, views=2, groups=0):
    """Invented rows in no order."""
    rng = np.random.default_rng(seed)
    entries = []
    for number in range(count):
        bad = bool(rng.random() < 0.3)
        entries.append(
            invented(
                f"{rng.integers(10**9):09d}/{number}.png",
                category=f"c{rng.integers(categories)}",
                view=f"v{rng.integers(views)}",
                label="anomalous" if bad else "normal",
                defect="d" if bad else "",
                group=f"g{rng.integers(groups)}" if groups else "",
            )
        )
    return entries


def unit_vectors(count, dimension, seed, *, values=None):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, dimension))
    if values:  # few distinct ones, so that many are exactly equal
        vectors = vectors[rng.integers(0, min(values, count), count)]
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def pairs_of(entries, vectors, options=None):
    """Pairs of all of the entries among themselves, and what has none."""
    table = as_table(entries)
    return pair_shard(table, vectors, Pool(table, vectors), options=options)


def brute_force(entries, vectors, query):
    """The image of the best template by comparing with each; None if there is none."""
    one = entries[query]
    allowed = [
        place
        for place, other in enumerate(entries)
        if (other.source, other.category, other.view) == (one.source, one.category, one.view)
        and other.label == "normal"
        and other.image != one.image
        and other.sha256 != one.sha256
    ]
    others = [place for place in allowed if not one.group or entries[place].group != one.group]
    products = {
        place: round(float((vectors[place].astype(np.float64) * vectors[query].astype(np.float64)).sum()), 9)
        for place in others or allowed
    }
    return min(products, key=lambda place: (-products[place], entries[place].image), default=None)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 60), st.sampled_from([0, 5]), st.sampled_from([None, 1, 4]))
def test_nearest_is_what_comparing_with_every_image_gives(seed, count, groups, values):
    entries = rows_of(count, seed, groups=groups)
    vectors = unit_vectors(count, 16, seed, values=values)
    pairs, unpaired = pairs_of(entries, vectors)
    found = dict(zip(pairs["image"].to_pylist(), pairs["template"].to_pylist(), strict=True))
    for query, one in enumerate(entries):
        expected = brute_force(entries, vectors, query)
        assert found.get(one.image) == (None if expected is None else entries[expected].image)
    assert pairs.num_rows + len(unpaired) == count


def test_nearest_among_many_nearly_equal_ones_is_exact():
    """2,000 vectors within a millionth of each other: FAISS's single precision alone would choose wrongly."""
    rng = np.random.default_rng(0)
    base = rng.normal(size=256)
    vectors = base + rng.normal(size=(2000, 256)) * 1e-6
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    entries = [invented(f"{number:05d}") for number in range(2000)]
    table = as_table(entries)
    pairs, _ = pair_shard(table.slice(0, 50), vectors[:50], Pool(table, vectors))
    products = vectors[:50].astype(np.float64) @ vectors.T.astype(np.float64)
    products[np.arange(50), np.arange(50)] = -1
    for query, template in enumerate(pairs["template"].to_pylist()):
        assert products[query, int(template)] >= products[query].max() - 2e-9


def test_like_is_paired_with_like_and_with_normal():
    entries = rows_of(300, 1, categories=3, views=5)
    vectors = unit_vectors(300, 8, 1)
    by_image = {one.image: one for one in entries}
    for options in (PairOptions(), PairOptions(method="random"), PairOptions(among=7)):
        pairs, unpaired = pairs_of(entries, vectors, options)
        assert unpaired == []
        assert pairs.schema == PAIR_SCHEMA
        for row in pairs.to_pylist():
            query, template = by_image[row["image"]], by_image[row["template"]]
            assert (template.category, template.view, template.label) == (query.category, query.view, "normal")
            assert template.image != query.image
            assert row["template_sha256"] == template.sha256
            assert row["crop"] is None
            assert (row["similarity"] is None) == (options.method == "random")
            assert entry_of(row) == query


def paired(entries, options=None, queries=None, seed=0):
    table = as_table(entries)
    vectors = np.ones((len(entries), 4), np.float32) / 2
    asked = table if queries is None else as_table(queries)
    pairs, unpaired = pair_shard(asked, vectors[: asked.num_rows], Pool(table, vectors), options=options, seed=seed)
    found = dict(zip(pairs["image"].to_pylist(), pairs["template"].to_pylist(), strict=True))
    return found, {drop["image"]: drop["reason"] for drop in unpaired}


def test_its_own_object_is_taken_only_where_there_is_no_other():
    a, b = invented("a", group="g1"), invented("b", group="g1")
    c = invented("c", group="g2")
    assert paired([a, b, c]) == ({"a": "c", "b": "c", "c": "a"}, {})
    assert paired([a, b]) == ({"a": "b", "b": "a"}, {})
    assert paired([a]) == ({}, {"a": "only_itself"})
    copy = invented("copy", sha256=a.sha256)
    assert paired([a, copy]) == ({}, {"a": "only_itself", "copy": "only_itself"})
    assert paired([a, copy, c])[0]["copy"] == "c"


def test_a_view_without_normal_images_may_take_another_view_if_asked():
    bad = invented("bad", label="anomalous", view="2")
    good = invented("good", view="1")
    other = invented("other", category="d")
    assert paired([bad, good, other], queries=[bad]) == ({}, {"bad": "no_normal"})
    assert paired([bad, good, other], PairOptions(other_views=True), queries=[bad]) == ({"bad": "good"}, {})
    alone = invented("alone", category="e", label="anomalous")
    assert paired([alone, good], PairOptions(other_views=True), queries=[alone]) == ({}, {"alone": "no_normal"})


@pytest.mark.parametrize("options", [PairOptions(), PairOptions(method="random"), PairOptions(among=5)])
def test_shards_and_order_change_nothing(options):
    entries = rows_of(200, 3, groups=40)
    vectors = unit_vectors(200, 16, 3)
    table = as_table(entries)
    whole, _ = pair_shard(table, vectors, Pool(table, vectors), options=options, seed=4)
    pool = pickle.loads(pickle.dumps(Pool(table, vectors)))  # as another process gets it
    pieces = [
        pair_shard(table.slice(start, 33), vectors[start : start + 33], pool, options=options, seed=4)[0]
        for start in range(0, 200, 33)
    ]
    assert pa.concat_tables(pieces).equals(whole)
    order = np.random.default_rng(0).permutation(200)
    turned, _ = pair_shard(table, vectors, Pool(table.take(pa.array(order)), vectors[order]), options=options, seed=4)
    assert turned.equals(whole)


def test_a_template_that_is_too_different_is_none():
    entries = rows_of(200, 9)
    vectors = unit_vectors(200, 8, 9)
    every, _ = pairs_of(entries, vectors)
    for among in (1, 4):
        options = PairOptions(least_similarity=0.8, among=among)
        pairs, unpaired = pairs_of(entries, vectors, options)
        alike = {row["image"]: row["similarity"] for row in every.to_pylist()}
        assert set(pairs["image"].to_pylist()) == {image for image, value in alike.items() if value >= 0.8}
        assert 0 < len(unpaired) < 200
        assert all(drop["value"] == alike[drop["image"]] < 0.8 == drop["limit"] for drop in unpaired)
        assert min(pairs["similarity"].to_pylist()) >= 0.8


def test_random_choice_is_even_and_has_a_seed():
    pool = [invented(f"t{n}") for n in range(5)]
    queries = [invented(f"q{n}", label="anomalous") for n in range(2000)]
    options = PairOptions(method="random")
    found, _ = paired(pool + queries, options, queries=queries)
    counts = Counter(found.values())
    assert set(counts) == {f"t{n}" for n in range(5)}
    assert max(counts.values()) < 1.3 * min(counts.values())
    assert paired(pool + queries, options, queries=queries)[0] == found
    assert paired(pool + queries, options, queries=queries, seed=1)[0] != found


def test_many_shelves_are_not_kept_in_memory():
    entries = rows_of(400, 5, categories=10, views=4)
    vectors = unit_vectors(400, 4, 5)
    table = as_table(entries)
    pool = Pool(table, vectors)
    pair_shard(table, vectors, pool)
    assert len(pool._shelves) <= 8


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """(root, entries): three categories."""
    root = tmp_path_factory.mktemp("pairs")
    return root, draw_dataset(root, normal=5, anomalous=3, size=128)


def steps(root, entries, folder, *, chosen=None, options=PairOptions()):  # noqa: B008 - frozen
    """Pairs, and what has none, by the steps of a build over one shard."""
    rows = save(folder / "rows.parquet", "rows", as_table(entries))
    normal = [row for row, one in enumerate(entries) if one.label == "normal"]
    more = {"root": str(root), "options": options}
    steps = Steps(folder, HERE)
    vectors = steps.one(EMBED, Job({"rows": rows, "chosen": normal}), **more)
    pool = steps.one(POOL, Job({"index": [rows], "normal": [normal], "vectors": [vectors]}), folder=folder / "pool")
    asked = {"pool": pool, "crops": None, "decoys": {}, "seed": 0}
    chosen = range(len(entries)) if chosen is None else chosen
    shard = steps.one(PAIR, Job({"rows": rows, "chosen": chosen, **asked}), **more)
    return read(shard), shard.notes["unpaired"]


def test_a_shard_s_pairs_are_those_of_the_whole_set(dataset, tmp_path):
    root, entries = dataset
    (tmp_path / "some").mkdir()
    whole, _ = steps(root, entries, tmp_path)
    some, _ = steps(root, entries, tmp_path / "some", chosen=range(7, 16))
    assert some.equals(whole.slice(7, 9))


def test_unreadable_queries_and_templates_are_listed(dataset, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(dataset[0], root)
    entries = list(dataset[1])
    torn = {"washer/normal/001.png", "washer/bad/005.png"}
    for name in torn:
        (root / name).write_bytes((root / name).read_bytes()[:1500])
    pairs, unpaired = steps(root, entries, tmp_path)
    templates = notes_of(tmp_path / "pool/pool.parquet")["unreadable"]
    assert [(one["reason"], one["image"]) for one in templates] == [("unreadable_template", "washer/normal/001.png")]
    assert pairs["image"].to_pylist() == [one.image for one in entries if one.image not in torn]
    assert "washer/normal/001.png" not in pairs["template"].to_pylist()
    assert [(one["reason"], one["image"]) for one in unpaired] == [
        ("unreadable", "washer/normal/001.png"),
        ("unreadable", "washer/bad/005.png"),
    ]


@pytest.mark.forward
def test_pairing_by_a_vision_tower(dataset, adcopilot_dir, tmp_path):
    root, entries = dataset
    options = PairOptions(embed=str(adcopilot_dir), device="cpu", batch_size=4)
    pairs, _ = steps(root, entries, tmp_path, options=options)
    embedder = load_embedder(str(adcopilot_dir), device="cpu", batch_size=4)
    normal = [one.image for one in entries if one.label == "normal"]
    vectors, _ = embed_images(normal, root, embedder)
    known = dict(zip(normal, vectors, strict=True))
    for row in pairs.to_pylist():
        if row["label"] == "normal":
            same = [name for name in normal if name.split("/")[0] == row["category"] and name != row["image"]]
            best = max(float(known[row["image"]].astype(float) @ known[name].astype(float)) for name in same)
            assert row["similarity"] == pytest.approx(best, abs=1e-6)
