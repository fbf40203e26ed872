"""A template has its query's shape where a good part has, keeps its own pixels, and names of files decide nothing."""

import math
import shutil
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from adcopilot.chat_ad.pairing import PairOptions
from adcopilot.chat_ad.pipeline.build import build
from adcopilot.chat_ad.recipe.reading import parse_recipe
from adcopilot.images import SHAPE, is_like_shape

from .builds import records
from .drawn import invented
from .pictures import BOX, mask_of, picture, save
from .test_pairing import brute_force, pairs_of, unit_vectors

SIZES = ((640, 480), (480, 640), (320, 240), (640, 470), (640, 400), (500, 500))


def entries_of(count, seed):
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        width, height = SIZES[rng.integers(len(SIZES))]
        bad = bool(rng.random() < 0.4)
        found.append(
            invented(
                f"{rng.integers(10**6)}/{number}.png",
                label="anomalous" if bad else "normal",
                width=width,
                height=height,
                sha256=f"{number % 7 if rng.random() < 0.2 else number + 10:064x}",
                group=f"g{rng.integers(4)}" if rng.random() < 0.5 else "",
            )
        )
    return found


def differ(one, other):
    ratio = (one.width / one.height) / (other.width / other.height)
    return max(ratio, 1 / ratio) - 1 > SHAPE + 1e-6


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 40), st.sampled_from(["nearest", "random"]))
def test_a_template_of_another_shape_only_where_there_is_no_other(seed, count, method):
    entries = entries_of(count, seed)
    vectors = unit_vectors(count, 8, seed)
    pairs, _ = pairs_of(entries, vectors, PairOptions(method=method))
    by_image = {entry.image: entry for entry in entries}
    for query, template in zip(pairs["image"].to_pylist(), pairs["template"].to_pylist(), strict=True):
        query, template = by_image[query], by_image[template]
        assert query.sha256 != template.sha256
        others = [one for one in entries if one.label == "normal" and one.sha256 != query.sha256]
        alike = [one for one in others if one.image != query.image and not differ(query, one)]
        assert not alike or not differ(query, template)
        if method == "nearest" and alike:
            among = [query, *alike]
            nearest = brute_force(among, np.stack([vectors[entries.index(one)] for one in among]), 0)
            assert template.image == among[nearest].image


@pytest.mark.parametrize(
    ("size", "other", "same"),
    [
        ((640, 480), (320, 240), True),  # a thumbnail
        ((640, 480), (480, 640), False),  # turned
        ((1100, 1000), (1000, 1000), True),
        ((1000, 1100), (1000, 1000), True),
        ((1101, 1000), (1000, 1000), False),
        ((1, 1), (100, 91), True),
        ((8, 10_000), (8, 9_000), False),
    ],
)
def test_one_shape(size, other, same):
    assert is_like_shape(size, other) == is_like_shape(other, size) == same
    assert math.isclose(SHAPE, 0.1)


@pytest.mark.parametrize("method", ["nearest", "random"])
@pytest.mark.parametrize(("templates", "among"), [(1, 1), (3, 1), (3, 5), (50, 1)])
def test_several_templates_a_query(method, templates, among):
    entries = [invented(f"{number:03d}") for number in range(12)]
    vectors = unit_vectors(12, 8, 0)
    among = among if method == "nearest" else 1
    options = PairOptions(method=method, templates=templates, among=among)
    pairs, unpaired = pairs_of(entries, vectors, options)
    assert unpaired == []
    assert pairs["image"].to_pylist() == sorted(pairs["image"].to_pylist())
    counts = Counter(pairs["image"].to_pylist())
    assert set(counts.values()) == {min(templates, 11)}
    found = list(zip(pairs["image"].to_pylist(), pairs["template"].to_pylist(), strict=True))
    assert len(set(found)) == len(found)
    assert all(query != template for query, template in found)
    if method == "nearest" and among == 1 and templates == 3:
        products = vectors @ vectors.T
        np.fill_diagonal(products, -2)
        for query in range(12):
            best = {f"{place:03d}" for place in np.argsort(-products[query])[:3]}
            assert {template for image, template in found if image == f"{query:03d}"} == best
    if templates == 3:  # the first of several is the one that is taken alone
        alone, _ = pairs_of(entries, vectors, PairOptions(method=method, among=among))
        assert alone["template"].to_pylist() == [template for _, template in found[::3]]


def recipe(root, **keys):
    values = {"reader": "folder", "root": str(root), "filter": False, "crop": "0.5:0.8", **keys}
    outputs = {"V": {"datasets": "own", "tasks": "verdict"}}
    return parse_recipe({"datasets": {"own": values}, "outputs": outputs}, name="r")


def defective(root, name, *, size, box=BOX, seed=b"part"):
    save(root / f"dent/{name}", picture(seed, size=size, box=box))
    save(root / f"masks/dent/{name}", mask_of(box, size=size))


def sizes_of(output):
    found = {}
    for record in records(output / "V.jsonl"):
        found[record["anomalous"]] = [Image.open(output / name).size for name in record["images"]]
    return found


@pytest.mark.parametrize(
    ("size", "good", "crop", "shown"),
    [
        # The look-alike of the same name is turned; the thumbnail of another shot has the query's shape.
        ((96, 64), {"a.png": (b"part", (64, 96)), "b.png": (b"other", (48, 32))}, None, (48, 32)),
        # A lone template of another shape is shown whole.
        ((192, 128), {"a.png": (b"part", (128, 192))}, "0.5:0.8", (128, 192)),
    ],
)
def test_shape_beats_likeness_and_names(tmp_path, size, good, crop, shown):
    defective(tmp_path / "raw", "a.png", size=size)
    for name, (seed, its) in good.items():
        save(tmp_path / f"raw/good/{name}", picture(seed, size=its))
    build(recipe(tmp_path / "raw", pair={"skip_unpaired": True}, crop=crop), tmp_path / "out")
    assert sizes_of(tmp_path / "out")[True] == [shown, size]  # each in its own pixels


def test_the_same_place_of_a_template_of_another_size(tmp_path):
    defective(tmp_path / "raw", "a.png", size=(192, 128), box=(90, 60, 100, 70))
    for number in range(2):
        save(tmp_path / f"raw/good/{number}.png", picture(b"part%d" % number, size=(96, 64)))
    build(recipe(tmp_path / "raw"), tmp_path / "out")
    (template, query) = sizes_of(tmp_path / "out")[True]
    assert query != (192, 128)
    assert all(abs(2 * small - large) <= 2 for small, large in zip(template, query, strict=True))


def test_exif_decides_the_shape(tmp_path):
    """A portrait by its header alone is a portrait."""
    defective(tmp_path / "raw", "a.png", size=(64, 96))
    image = Image.fromarray(picture(b"turned", size=(96, 64)))
    exif = image.getexif()
    exif[0x0112] = 6
    (tmp_path / "raw/good").mkdir()
    image.save(tmp_path / "raw/good/turned.jpg", exif=exif)
    save(tmp_path / "raw/good/flat.png", picture(b"part", size=(96, 64)))
    build(recipe(tmp_path / "raw", crop=None), tmp_path / "out")
    assert sizes_of(tmp_path / "out")[True] == [(64, 96), (64, 96)]


def test_a_copy_of_a_good_part_is_never_its_template(tmp_path):
    root = tmp_path / "raw"
    defective(root, "a.png", size=(96, 64))
    for number in range(2):
        save(root / f"good/{number}.png", picture(b"good%d" % number, size=(96, 64)))
    shutil.copy(root / "good/0.png", root / "good/copy.png")
    shutil.copy(root / "good/0.png", root / "dent/copy.png")
    save(root / "masks/dent/copy.png", mask_of(BOX, size=(96, 64)))
    build(recipe(root, crop=None, pair={"templates": 5}), tmp_path / "out")
    for record in records(tmp_path / "out/V.jsonl"):
        template, query = ((tmp_path / "out" / name).read_bytes() for name in record["images"])
        assert template != query
