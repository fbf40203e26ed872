"""Each unfit image is dropped for its own reason, and a damaged part is never taken for a copy of a good one."""

import gc
import io
import shutil
import threading
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from adcopilot.chat_ad.fitness import fingerprints
from adcopilot.chat_ad.fitness.duplicates import SameLimits, agreement, equal_groups, near_candidates
from adcopilot.chat_ad.fitness.fingerprints import MEASURES, Fingerprints, measure, measure_table
from adcopilot.chat_ad.fitness.measures import QualityOptions

from ..drawn import as_table, draw_dataset, entry, filter_table

#: What collections from many sources are filtered with; by default near duplicates stay.
NEAR = QualityOptions(near_duplicates=True)


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """(root, entries): three categories, eight normal and two anomalous images of each; nothing wrong with any."""
    root = tmp_path_factory.mktemp("clean")
    return root, draw_dataset(root, normal=8, anomalous=2, size=192)


@pytest.fixture
def spoiled(clean, tmp_path):
    """(root, entries, {image: reason}): the same with copies that must go, one of each kind."""
    root = tmp_path / "spoiled"
    shutil.copytree(clean[0], root)
    folder = root / "pcb" / "normal"
    image = Image.open(folder / "000.png")
    grey = np.asarray(image, np.float32)
    expected = {}

    def add(name, reason, make):
        make(folder / name)
        expected[f"pcb/normal/{name}"] = reason

    add("blurred.png", "blurred", lambda to: image.filter(ImageFilter.GaussianBlur(3)).save(to))
    add("dark.png", "dark", lambda to: Image.fromarray((grey * 0.1).astype(np.uint8)).save(to))
    add("bright.png", "bright", lambda to: Image.fromarray((255 - (255 - grey) * 0.1).astype(np.uint8)).save(to))
    add("flat.png", "blurred", lambda to: Image.new("RGB", (192, 192), (128, 128, 128)).save(to))
    add("copy.png", "duplicate", lambda to: shutil.copyfile(folder / "001.png", to))
    add("pixels.bmp", "duplicate", lambda to: Image.open(folder / "002.png").save(to))
    add("encoded.jpg", "near_duplicate", lambda to: Image.open(folder / "003.png").save(to, quality=50))
    add("half.png", "near_duplicate", lambda to: Image.open(folder / "004.png").resize((96, 96)).save(to))
    add("odd.jpg", "near_duplicate", lambda to: Image.open(folder / "005.png").resize((133, 133)).save(to, quality=80))
    entries = clean[1] + [entry(root, name) for name in expected]
    half = (folder / "006.png").read_bytes()
    (folder / "torn.png").write_bytes(half)
    entries.append(entry(root, "pcb/normal/torn.png"))
    (folder / "torn.png").write_bytes(half[: len(half) // 2])
    expected["pcb/normal/torn.png"] = "unreadable"
    return root, entries, expected


def test_nothing_is_dropped_from_clean_images(clean):
    root, entries = clean
    kept, drops = filter_table(as_table(entries), root, options=NEAR)
    assert drops == []
    assert kept.equals(as_table(entries))


def test_each_spoiled_image_has_its_reason(spoiled):
    root, entries, expected = spoiled
    kept, drops = filter_table(as_table(entries), root, options=NEAR)
    assert {drop["image"]: drop["reason"] for drop in drops} == expected
    assert kept["image"].to_pylist() == [one.image for one in entries if one.image not in expected]
    by_image = {drop["image"].rpartition("/")[2]: drop for drop in drops}
    assert by_image["copy.png"]["of"] == "pcb/normal/001.png"
    assert by_image["copy.png"]["value"] == "same bytes"
    assert by_image["pixels.bmp"] == {
        "step": "filter", "image": "pcb/normal/pixels.bmp", "reason": "duplicate", "value": "same pixels",
        "limit": "each picture once", "of": "pcb/normal/002.png", "category": "pcb", "label": "normal",
        "source": "drawn",
    }  # fmt: skip
    assert by_image["encoded.jpg"]["of"] == "pcb/normal/003.png"
    assert by_image["half.png"]["of"] == "pcb/normal/004.png"
    assert by_image["half.png"]["value"] <= by_image["half.png"]["limit"] == 12
    assert by_image["dark.png"]["value"] < by_image["dark.png"]["limit"] == 40
    assert by_image["bright.png"]["value"] > by_image["bright.png"]["limit"] == 215
    assert by_image["blurred.png"]["value"] < by_image["blurred.png"]["limit"]
    assert "truncated or corrupt" in by_image["torn.png"]["value"]


def test_the_order_of_the_table_decides_nothing(spoiled):
    root, entries, expected = spoiled
    for turned in (entries[::-1], entries[7:] + entries[:7]):
        _, drops = filter_table(as_table(turned), root, options=NEAR)
        assert {drop["image"]: drop["reason"] for drop in drops} == expected


def test_an_allowed_reason_drops_nothing(spoiled):
    root, entries, _ = spoiled
    options = QualityOptions(near_duplicates=True, allow=("blurred", "dark", "bright", "duplicate", "near_duplicate"))
    _, drops = filter_table(as_table(entries), root, options=options)
    assert [drop["image"] for drop in drops] == ["pcb/normal/torn.png"]


def test_contradicting_annotations_drop_all_copies(clean, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(clean[0], root)
    shutil.copyfile(root / "pcb/normal/000.png", root / "pcb/normal/again.png")
    shutil.copyfile(root / "washer/normal/000.png", root / "pcb/normal/washer.png")
    more = [
        entry(root, "pcb/normal/again.png", label="anomalous", defect="scratch"),
        entry(root, "pcb/normal/washer.png"),
    ]
    _, drops = filter_table(as_table(clean[1] + more), root, options=NEAR)
    assert {drop["image"]: (drop["reason"], drop["of"]) for drop in drops} == {
        "pcb/normal/000.png": ("conflicting", "pcb/normal/again.png"),
        "pcb/normal/again.png": ("conflicting", "pcb/normal/000.png"),
        "washer/normal/000.png": ("conflicting", "pcb/normal/washer.png"),
        "pcb/normal/washer.png": ("conflicting", "washer/normal/000.png"),
    }


def test_defects_at_different_places_are_not_duplicates(tmp_path):
    """Two photographs of one board that look alike at 32×32: the marked places tell them apart."""
    rng = np.random.default_rng(0)
    board = rng.integers(60, 200, (32, 32)).repeat(16, 0).repeat(16, 1).astype(np.uint8)
    (tmp_path / "b").mkdir()
    entries = []
    for number, (x, y) in enumerate(((40, 40), (400, 300), (402, 301))):
        picture = board.copy()
        picture[y : y + 6, x : x + 6] = 255
        Image.fromarray(picture).convert("RGB").save(tmp_path / f"b/{number}.png")
        box = (x, y, x + 40, y + 40)
        row = entry(tmp_path, f"b/{number}.png", label="anomalous", defect="dot", boxes=(box,), box_labels=("dot",))
        entries.append(row)
    _, drops = filter_table(as_table(entries), tmp_path, options=NEAR)
    assert [(drop["image"], drop["of"]) for drop in drops] == [("b/2.png", "b/1.png")]
    unknown = [replace(one, boxes=(), box_labels=()) for one in entries]
    assert filter_table(as_table(unknown), tmp_path, options=NEAR)[1] == []  # nobody knows where their defects are


@pytest.fixture(scope="module")
def real(deeppcb_root):
    """(folder, [(template, query)]): 40 of DeepPCB's aligned pairs: the query differs by a few small defects only."""
    root = next(deeppcb_root.rglob("PCBData"), deeppcb_root)
    queries = sorted(root.glob("group*/*/*_test.jpg"))[::8][:40]
    names = [path.relative_to(root).as_posix() for path in queries]
    return root, [(name.replace("_test", "_temp"), name) for name in names]


def test_a_real_board_and_the_same_board_with_defects_are_two_images(real):
    root, pairs = real
    entries = [entry(root, name, category="pcb") for pair in pairs for name in pair]  # all as normal: the hardest case
    kept, drops = filter_table(as_table(entries), root, options=NEAR)
    assert drops == []
    assert kept.num_rows == 80


def test_real_images_spoiled(real, tmp_path):
    root, pairs = real
    entries, expected = [], {}
    for number, (_, name) in enumerate(pairs):
        shutil.copyfile(root / name, tmp_path / f"{number:02d}.jpg")
        entries.append(entry(tmp_path, f"{number:02d}.jpg", category="pcb"))
    spoil = {
        "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(4)),
        "near_duplicate": lambda image: image.resize((480, 480), Image.Resampling.LANCZOS),
    }
    for number in range(10, 30):
        reason = list(spoil)[number % 2]
        name = f"{number:02d}_{reason}.jpg"
        spoil[reason](Image.open(tmp_path / f"{number:02d}.jpg").convert("RGB")).save(tmp_path / name, quality=75)
        entries.append(entry(tmp_path, name, category="pcb"))
        expected[name] = reason
    _, drops = filter_table(as_table(entries), tmp_path, options=NEAR)
    assert {drop["image"]: drop["reason"] for drop in drops} == expected


def test_sharp_and_blurred_are_told_apart_at_any_number_of_pixels(real):
    root, pairs = real
    for _, name in pairs[::10]:
        image = Image.open(root / name).convert("RGB")
        found = []
        for side in (512, 640, 1280, 2560):
            sized = image.resize((side, side), Image.Resampling.LANCZOS)
            blurred = sized.filter(ImageFilter.GaussianBlur(2 * side / 512))
            found.append((measure(sized), measure(blurred)))
            assert found[-1][0]["sharpness"] > 1.5 > 0.5 > found[-1][1]["sharpness"]
        thumbs = [np.frombuffer(sharp["thumb"], np.uint8) for sharp, _ in found]
        assert agreement(thumbs[0], np.stack(thumbs))[0].max() <= 3


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.integers(1, 12))
def test_the_search_misses_no_agreeing_thumbnail(seed, amount, count):
    """Against comparing all pairs: whatever agrees within the limits is among the candidates."""
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 256, (count, 1024))
    changed = base[rng.integers(0, count, 30)] + rng.integers(-amount, amount + 1, (30, 1))
    changed += rng.integers(-6, 7, (30, 1024)) * (rng.random((30, 1024)) < rng.random())
    thumbs = np.concatenate([base, changed]).clip(0, 255).astype(np.uint8)
    coarse = fingerprints._coarse(thumbs)
    limits = SameLimits()
    found = {(one, int(other)) for one, others in near_candidates(coarse, coarse, limits=limits) for other in others}
    for one in range(len(thumbs)):
        largest, mean = agreement(thumbs[one], thumbs)
        for other in np.flatnonzero((largest <= limits.largest) & (mean <= limits.mean)):
            assert (one, int(other)) in found


def test_the_search_finds_the_pair_whose_blocks_differ_most():
    """Ten of 64 blocks 12 grey levels apart, the others alike: just within both limits, and as far as it gets."""
    blocks = np.zeros((8, 8))
    blocks.flat[:60:6] = 12
    thumbs = (100 + np.stack([np.zeros((32, 32)), blocks.repeat(4, 0).repeat(4, 1)])).astype(np.uint8).reshape(2, -1)
    limits = SameLimits()
    largest, mean = agreement(thumbs[0], thumbs[1:])
    assert largest[0] == limits.largest
    assert 0.9 * limits.mean < mean[0] <= limits.mean
    coarse = fingerprints._coarse(thumbs)
    assert [others.tolist() for _, others in near_candidates(coarse, coarse, limits=limits)] == [[0, 1], [0, 1]]


def test_of_duplicates_the_one_with_the_most_pixels_stays(clean, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(clean[0], root)
    Image.open(root / "pcb/normal/004.png").resize((96, 96)).save(root / "pcb/normal/000a.png")
    small = entry(root, "pcb/normal/000a.png")
    _, drops = filter_table(as_table([small, *clean[1]]), root, options=NEAR)
    assert [(drop["image"], drop["of"]) for drop in drops] == [("pcb/normal/000a.png", "pcb/normal/004.png")]


def test_equal_groups_are_those_of_a_dictionary():
    rng = np.random.default_rng(0)
    digests = rng.integers(0, 3, (200, 4)).astype(np.uint8)
    rows = np.flatnonzero(rng.random(200) < 0.7)
    by_digest = {}
    for row in rows:
        by_digest.setdefault(digests[row].tobytes(), []).append(int(row))
    expected = sorted((group for group in by_digest.values() if len(group) > 1), key=lambda group: group[0])
    assert [group.tolist() for group in equal_groups(digests, rows)] == expected
    assert list(equal_groups(digests, rows[:0])) == []


def test_a_fixed_cameras_pictures_are_no_duplicates(tmp_path):
    """They differ by noise and by what is wrong, and neither shows at 32×32 pixels."""
    rng = np.random.default_rng(0)
    part = rng.integers(60, 200, (96, 96, 3)).repeat(2, 0).repeat(2, 1)
    for number in range(6):
        pixels = np.clip(part + rng.normal(0, 3, part.shape), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    entries = [entry(tmp_path, f"{number}.png", category="part") for number in range(6)]
    assert filter_table(as_table(entries), tmp_path)[1] == []
    assert len(filter_table(as_table(entries), tmp_path, options=NEAR)[1]) == 5
    shutil.copy(tmp_path / "0.png", tmp_path / "6.png")
    entries.append(entry(tmp_path, "6.png", category="part"))
    (drop,) = filter_table(as_table(entries), tmp_path)[1]
    assert (drop["image"], drop["reason"], drop["of"]) == ("6.png", "duplicate", "0.png")


def test_only_one_image_is_in_memory_at_once(clean, monkeypatch):
    root, entries = clean
    lock, alive, most = threading.Lock(), 0, 0

    class Counted:
        def __init__(self):
            nonlocal alive, most
            with lock:
                alive += 1
                most = max(most, alive)

        def __del__(self):
            nonlocal alive
            with lock:
                alive -= 1

    original = fingerprints.open_reference

    def opened(*args):
        image = original(*args)
        image.counted = Counted()
        return image

    monkeypatch.setattr(fingerprints, "open_reference", opened)
    gc.collect()
    measured = measure_table(as_table(entries * 3), root)
    assert measured.num_rows == 90
    assert 1 <= most <= 2


def test_fingerprints_on_disk_are_those_in_memory_and_small(tmp_path):
    import tracemalloc

    rng = np.random.default_rng(0)

    def shard(number, count=1000):
        rows = {
            "image": [f"{number}/{index}.png" for index in range(count)],
            "sha256": [rng.bytes(32).hex() for _ in range(count)],
            "problem": [None] * (count - 1) + ["torn"],
            **{name: [100] * count for name in ("width", "height", "low", "high")},
            **{name: [1.5] * count for name in ("laplacian", "sharpness")},
            "pixels": [rng.bytes(16) for _ in range(count)],
            "phash": [rng.bytes(8) for _ in range(count)],
            "thumb": [rng.bytes(1024) for _ in range(count - 1)] + [None],
        }
        return pa.table(rows, schema=MEASURES)

    few = [shard(0, 10), shard(1, 7)]
    memory, disk = Fingerprints(few), Fingerprints(few, thumbs_file=tmp_path / "few")
    assert memory.problems == disk.problems == {9: "torn", 16: "torn"}
    for name in ("thumbs", "coarse", "sha256", "phash", "pixels", "laplacian", "width"):
        assert np.array_equal(getattr(memory, name), getattr(disk, name)), name
    assert len(Fingerprints([])) == 0
    tracemalloc.start()
    prints = Fingerprints((shard(number) for number in range(20)), thumbs_file=tmp_path / "thumbs")
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(prints) == 20_000
    assert held < 200 * 20_000
    assert peak < held * 2 + 12_000_000  # one shard's Python objects


def test_pictures_in_memory_are_measured_like_files():
    buffer = io.BytesIO()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 700, 3)).astype(np.uint8))
    image.save(buffer, "PNG")
    assert measure(image) == measure(Image.open(buffer).convert("RGB"))  # 9 pixels high: three rows remain
