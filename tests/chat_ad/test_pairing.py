"""Templates: the nearest is the nearest, like view with like view, never the query itself, the same in any shards."""

import json
import pickle
import shutil
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adcopilot import cli
from adcopilot.chat_ad.commands import pair as pair_command
from adcopilot.chat_ad.commands.pair import pair_file, pair_images
from adcopilot.chat_ad.fitness.embedding import ClassicalEmbedder, load_embedder
from adcopilot.chat_ad.pairing import PAIR_SCHEMA, PairOptions, Pool, pair_shard
from adcopilot.chat_ad.table import SCHEMA, Entry, read_batches, read_metadata
from adcopilot.errors import UserError

from .drawn import as_table, draw_dataset, write


def rows_of(count, seed, *, categories=2, views=2, groups=0):
    """Invented rows in no order."""
    rng = np.random.default_rng(seed)
    entries = []
    for number in range(count):
        bad = bool(rng.random() < 0.3)
        entries.append(
            Entry(
                image=f"{rng.integers(10**9):09d}/{number}.png",
                category=f"c{rng.integers(categories)}",
                view=f"v{rng.integers(views)}",
                label="anomalous" if bad else "normal",
                defect="d" if bad else "",
                width=9,
                height=9,
                sha256=f"{number:064x}",
                source="s",
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
    table = as_table(entries)
    pairs, unpaired = pair_shard(table, vectors, Pool(table, vectors))
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
    entries = [
        Entry(image=f"{n:05d}", category="c", label="normal", width=9, height=9, sha256=f"{n:064x}", source="s")
        for n in range(2000)
    ]
    table = as_table(entries)
    pairs, _ = pair_shard(table.slice(0, 50), vectors[:50], Pool(table, vectors))
    products = vectors[:50].astype(np.float64) @ vectors.T.astype(np.float64)
    products[np.arange(50), np.arange(50)] = -1
    for query, template in enumerate(pairs["template"].to_pylist()):
        assert products[query, int(template)] >= products[query].max() - 2e-9


def test_like_is_paired_with_like_and_with_normal():
    entries = rows_of(300, 1, categories=3, views=5)
    table = as_table(entries)
    vectors = unit_vectors(300, 8, 1)
    by_image = {one.image: one for one in entries}
    for options in (PairOptions(), PairOptions(method="random"), PairOptions(among=7)):
        pairs, unpaired = pair_shard(table, vectors, Pool(table, vectors), options=options)
        assert unpaired == []
        assert pairs.schema == PAIR_SCHEMA
        for row in pairs.to_pylist():
            query, template = by_image[row["image"]], by_image[row["template"]]
            assert (template.category, template.view, template.label) == (query.category, query.view, "normal")
            assert template.image != query.image
            assert row["template_sha256"] == template.sha256
            assert row["crop"] is None
            assert (row["similarity"] is None) == (options.method == "random")
            assert Entry.from_row(row) == query


def one_row(image, **changes):
    values = {"category": "c", "label": "normal", "width": 9, "height": 9, "source": "s"}
    return Entry(**{**values, "image": image, "sha256": f"{abs(hash(image)):064x}"[-64:], **changes})


def paired(entries, options=None, queries=None):
    table = as_table(entries)
    vectors = np.ones((len(entries), 4), np.float32) / 2
    asked = table if queries is None else as_table(queries)
    pairs, unpaired = pair_shard(asked, vectors[: asked.num_rows], Pool(table, vectors), options=options)
    found = dict(zip(pairs["image"].to_pylist(), pairs["template"].to_pylist(), strict=True))
    return found, {drop["image"]: drop["reason"] for drop in unpaired}


def test_its_own_object_is_taken_only_where_there_is_no_other():
    a, b = one_row("a", group="g1"), one_row("b", group="g1")
    c = one_row("c", group="g2")
    assert paired([a, b, c]) == ({"a": "c", "b": "c", "c": "a"}, {})
    assert paired([a, b]) == ({"a": "b", "b": "a"}, {})
    assert paired([a]) == ({}, {"a": "only_itself"})
    copy = one_row("copy", sha256=a.sha256)
    assert paired([a, copy]) == ({}, {"a": "only_itself", "copy": "only_itself"})
    assert paired([a, copy, c])[0]["copy"] == "c"


def test_a_view_without_normal_images_may_take_another_view_if_asked():
    bad = one_row("bad", label="anomalous", view="2")
    good = one_row("good", view="1")
    other = one_row("other", category="d")
    assert paired([bad, good, other], queries=[bad]) == ({}, {"bad": "no_normal"})
    assert paired([bad, good, other], PairOptions(other_views=True), queries=[bad]) == ({"bad": "good"}, {})
    alone = one_row("alone", category="e", label="anomalous")
    assert paired([alone, good], PairOptions(other_views=True), queries=[alone]) == ({}, {"alone": "no_normal"})


@pytest.mark.parametrize(
    "options", [PairOptions(), PairOptions(method="random", seed=4), PairOptions(among=5, seed=4)]
)
def test_shards_and_order_change_nothing(options):
    entries = rows_of(200, 3, groups=40)
    vectors = unit_vectors(200, 16, 3)
    table = as_table(entries)
    whole, _ = pair_shard(table, vectors, Pool(table, vectors), options=options)
    pool = pickle.loads(pickle.dumps(Pool(table, vectors)))  # as another process gets it
    pieces = [
        pair_shard(table.slice(start, 33), vectors[start : start + 33], pool, options=options)[0]
        for start in range(0, 200, 33)
    ]
    assert pa.concat_tables(pieces).equals(whole)
    order = np.random.default_rng(0).permutation(200)
    turned, _ = pair_shard(table, vectors, Pool(table.take(pa.array(order)), vectors[order]), options=options)
    assert turned.equals(whole)


def test_a_template_that_is_too_different_is_none():
    entries = rows_of(200, 9)
    vectors = unit_vectors(200, 8, 9)
    table = as_table(entries)
    every, _ = pair_shard(table, vectors, Pool(table, vectors))
    for among in (1, 4):
        options = PairOptions(least=0.8, among=among)
        pairs, unpaired = pair_shard(table, vectors, Pool(table, vectors), options=options)
        alike = {row["image"]: row["similarity"] for row in every.to_pylist()}
        assert set(pairs["image"].to_pylist()) == {image for image, value in alike.items() if value >= 0.8}
        assert 0 < len(unpaired) < 200
        assert all(drop["value"] == alike[drop["image"]] < 0.8 == drop["limit"] for drop in unpaired)
        assert min(pairs["similarity"].to_pylist()) >= 0.8


def test_random_choice_is_even_and_has_a_seed():
    pool = [one_row(f"t{n}") for n in range(5)]
    queries = [one_row(f"q{n}", label="anomalous") for n in range(2000)]
    options = PairOptions(method="random")
    found, _ = paired(pool + queries, options, queries=queries)
    counts = Counter(found.values())
    assert set(counts) == {f"t{n}" for n in range(5)}
    assert max(counts.values()) < 1.3 * min(counts.values())
    assert paired(pool + queries, options, queries=queries)[0] == found
    assert paired(pool + queries, PairOptions(method="random", seed=1), queries=queries)[0] != found


def test_many_shelves_are_not_kept_in_memory():
    entries = rows_of(400, 5, categories=10, views=4)
    vectors = unit_vectors(400, 4, 5)
    table = as_table(entries)
    pool = Pool(table, vectors)
    pair_shard(table, vectors, pool)
    assert len(pool._shelves) <= 8


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """(root, entries, table): three categories."""
    root = tmp_path_factory.mktemp("pairs")
    entries = draw_dataset(root, normal=5, anomalous=3, size=128)
    return root, entries, write(root / "table.parquet", root, entries)


def read(path):
    return pa.Table.from_batches(list(read_batches(path)), schema=PAIR_SCHEMA.with_metadata(None))


def test_the_command_pairs_crops_and_repeats_itself(dataset, tmp_path, capsys):
    _, entries, table = dataset
    for name, workers in (("one", "1"), ("two", "3")):
        output = tmp_path / name / "pairs.parquet"
        words = ["--output", str(output), "--crop", "0.5:0.9", "--seed", "5", "--workers", workers]
        assert cli.main(["data", "pair", str(table), *words]) == 0
    assert "24 pairs" in capsys.readouterr().out
    assert (tmp_path / "one/pairs.parquet").read_bytes() == (tmp_path / "two/pairs.parquet").read_bytes()
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["pairs.parquet", "pairs.parquet.unpaired.jsonl"]
    pairs = read(tmp_path / "one/pairs.parquet")
    assert [Entry.from_row(row) for row in pairs.to_pylist()] == entries
    assert all(row["crop"] is not None for row in pairs.to_pylist())
    assert json.loads(read_metadata(tmp_path / "one/pairs.parquet")["pair"])["seed"] == 5
    again = tmp_path / "three.parquet"
    assert cli.main(["data", "pair", str(table), "--output", str(again), "--crop", "0.5:0.9", "--seed", "6"]) == 0
    assert read(again)["crop"] != pairs["crop"]
    assert read(again)["template"] == pairs["template"]


def test_the_pool_may_be_another_table_and_queries_some_of_the_rows(dataset, tmp_path):
    root, entries, table = dataset
    some = [one for one in entries if one.label == "normal"][::2]
    pool = write(tmp_path / "pool.parquet", root, some)
    output = tmp_path / "pairs.parquet"
    command = ["data", "pair", str(table), "--pool", str(pool), "--output", str(output), "--queries", "anomalous"]
    assert cli.main(command) == 0
    pairs = read(output).to_pylist()
    assert [row["image"] for row in pairs] == [one.image for one in entries if one.label == "anomalous"]
    assert {row["template"] for row in pairs} <= {one.image for one in some}
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(root, elsewhere)
    other = write(tmp_path / "other.parquet", elsewhere, some)
    with pytest.raises(UserError, match="expected one root"):
        pair_file(table=table, pool=other, output=output, embedder=ClassicalEmbedder())


def test_a_shard_function_gives_the_commands_rows(dataset, tmp_path):
    """What a build calls on one shard, against the command on the whole table."""
    root, entries, table = dataset
    output = tmp_path / "pairs.parquet"
    pair_file(table=table, output=output, embedder=ClassicalEmbedder())
    rows = as_table(entries)
    from adcopilot.chat_ad.fitness.embedding import embed_images

    vectors, _ = embed_images(rows["image"].to_pylist(), root, ClassicalEmbedder())
    pool = Pool(rows, vectors)
    pairs, _ = pair_images(rows.slice(7, 9), root, pool, options=PairOptions(), embedder=ClassicalEmbedder())
    assert pairs.equals(read(output).slice(7, 9))


def test_a_killed_run_goes_on(dataset, tmp_path, monkeypatch):
    _, _, table = dataset
    small = lambda path, **more: read_batches(path, **{"batch_rows": 5, **more})  # noqa: E731
    monkeypatch.setattr(pair_command, "read_batches", small)
    pair_file(table=table, output=tmp_path / "whole.parquet", embedder=ClassicalEmbedder())
    original, calls = pair_command.pair_images, []

    def counted(rows, *args, **kwargs):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(rows.num_rows)
        return original(rows, *args, **kwargs)

    monkeypatch.setattr(pair_command, "pair_images", counted)
    with pytest.raises(KeyboardInterrupt):
        pair_file(table=table, output=tmp_path / "killed.parquet", embedder=ClassicalEmbedder())
    calls.append("go on")
    pair_file(table=table, output=tmp_path / "killed.parquet", embedder=ClassicalEmbedder())
    assert calls == [5, 5, 5, "go on", 5, 4]
    assert (tmp_path / "killed.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_a_category_without_normal_images_stops_before_any_work(dataset, tmp_path, capsys, monkeypatch):
    root, entries, _ = dataset
    without = [one for one in entries if one.category != "pcb" or one.label == "anomalous"]
    table = write(tmp_path / "table.parquet", root, without)
    output = tmp_path / "pairs.parquet"
    with monkeypatch.context() as patch:
        patch.setattr(pair_command, "embed_images", lambda *_, **__: pytest.fail("work before the check"))
        assert cli.main(["data", "pair", str(table), "--output", str(output)]) == 2
    error = capsys.readouterr().err
    assert "drawn/pcb (3 queries)" in error
    assert "--skip-unpaired" in error
    assert error.count("\n") == 1
    assert cli.main(["data", "pair", str(table), "--output", str(output), "--skip-unpaired"]) == 0
    assert "left out: no_normal 3" in capsys.readouterr().out
    unpaired = [json.loads(line) for line in (tmp_path / "pairs.parquet.unpaired.jsonl").read_text().splitlines()]
    assert [(drop["image"], drop["reason"], drop["value"]) for drop in unpaired] == [
        (one.image, "no_normal", "drawn/pcb") for one in without if one.category == "pcb"
    ]
    assert read(output).num_rows == len(without) - 3


def test_unreadable_queries_and_templates_are_listed(dataset, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(dataset[0], root)
    entries = list(dataset[1])
    torn = {"washer/normal/001.png", "washer/bad/005.png"}
    for name in torn:
        (root / name).write_bytes((root / name).read_bytes()[:1500])
    table = write(tmp_path / "table.parquet", root, entries)
    pair_file(table=table, output=tmp_path / "pairs.parquet", embedder=ClassicalEmbedder())
    pairs = read(tmp_path / "pairs.parquet")
    assert pairs["image"].to_pylist() == [one.image for one in entries if one.image not in torn]
    assert "washer/normal/001.png" not in pairs["template"].to_pylist()
    lines = [json.loads(line) for line in (tmp_path / "pairs.parquet.unpaired.jsonl").read_text().splitlines()]
    assert [(line["reason"], line["image"]) for line in lines] == [
        ("unreadable_template", "washer/normal/001.png"),
        ("unreadable", "washer/normal/001.png"),
        ("unreadable", "washer/bad/005.png"),
    ]


def test_random_pairing_opens_no_image(dataset, tmp_path):
    entries = [one.replace(image=f"gone/{number}.png") for number, one in enumerate(dataset[1])]
    table = write(tmp_path / "table.parquet", dataset[0], entries)
    output = tmp_path / "pairs.parquet"
    assert cli.main(["data", "pair", str(table), "--output", str(output), "--method", "random"]) == 0
    assert read(output).num_rows == len(entries)


@pytest.mark.forward
def test_pairing_by_a_vision_tower(dataset, adcopilot_dir, tmp_path):
    _, entries, table = dataset
    output = tmp_path / "pairs.parquet"
    words = ["--embed", str(adcopilot_dir), "--device", "cpu", "--batch-size", "4"]
    assert cli.main(["data", "pair", str(table), "--output", str(output), *words]) == 0
    embedder = load_embedder(str(adcopilot_dir), device="cpu", batch_size=4)
    from adcopilot.chat_ad.fitness.embedding import embed_images

    normal = [one.image for one in entries if one.label == "normal"]
    vectors, _ = embed_images(normal, table.parent, embedder)
    known = dict(zip(normal, vectors, strict=True))
    for row in read(output).to_pylist():
        if row["label"] == "normal":
            same = [name for name in normal if name.split("/")[0] == row["category"] and name != row["image"]]
            best = max(float(known[row["image"]].astype(float) @ known[name].astype(float)) for name in same)
            assert row["similarity"] == pytest.approx(best, abs=1e-6)


def test_bad_options_are_named(dataset, tmp_path, capsys):
    table = str(dataset[2])
    for words, said in (
        (["--crop", "1:0.5"], "--crop is '1:0.5'"),
        (["--crop", "0.5"], "--crop is '0.5'"),
        (["--among", "0"], "--among is 0"),
        (["--method", "random", "--among", "2"], "takes any template"),
        (["--embed", str(tmp_path)], "no config.json"),
        (["--least-similarity", "2"], "--least-similarity is 2"),
    ):
        assert cli.main(["data", "pair", table, "--output", str(tmp_path / "o.parquet"), *words]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
    assert cli.main(["data", "pair", table, "--output", table]) == 2
    assert "is the table itself" in capsys.readouterr().err


def test_schema_begins_with_the_tables():
    names = ["template", "template_sha256", "template_width", "template_height", "similarity", "crop"]
    assert PAIR_SCHEMA.names == [*SCHEMA.names, *names]
