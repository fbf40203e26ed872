"""Copies of training images in an evaluation set are found, whatever was done to the file."""

import json
import shutil
from dataclasses import replace

import pytest
from PIL import Image

from adcopilot.chat_ad.fitness.fingerprints import Fingerprints, measure_table
from adcopilot.chat_ad.fitness.leaks import LeakOptions, Suspect, leaks_shard
from adcopilot.chat_ad.pipeline.against import LEAKS, measure_against, write_leaks
from adcopilot.chat_ad.runners import HERE
from adcopilot.chat_ad.steps import Job, Steps, save
from adcopilot.errors import UserError

from ..drawn import as_table, draw_dataset, entry, write


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """(root, entries) of the training images."""
    root = tmp_path_factory.mktemp("train")
    entries = draw_dataset(root, normal=5, anomalous=2, size=160)
    return root, entries


@pytest.fixture
def bench(train, tmp_path):
    """(root, entries): other drawings, and copies of three training images in other folders and formats."""
    root = tmp_path / "bench"
    entries = [replace(one, source="bench") for one in draw_dataset(root, normal=3, anomalous=1, size=160, seed=7)]
    copies = root / "copies"
    copies.mkdir()
    source = train[0]
    shutil.copyfile(source / "washer/normal/000.png", copies / "same.png")
    Image.open(source / "washer/normal/001.png").save(copies / "pixels.bmp")
    Image.open(source / "pcb/normal/002.png").save(copies / "encoded.jpg", quality=60)
    Image.open(source / "connector/bad/005.png").resize((400, 400), Image.Resampling.BICUBIC).save(
        copies / "sized.jpg"
    )
    names = [f"copies/{name}" for name in ("encoded.jpg", "pixels.bmp", "same.png", "sized.jpg")]
    return root, entries + [entry(root, name, category="other", source="bench") for name in names]


EXPECTED = {
    "washer/normal/000.png": ("copies/same.png", "bytes"),
    "washer/normal/001.png": ("copies/pixels.bmp", "pixels"),
    "pcb/normal/002.png": ("copies/encoded.jpg", "near"),
    "connector/bad/005.png": ("copies/sized.jpg", "near"),
}


def found_in(report):
    return {leak["image"]: (leak["matches"][0]["image"], leak["matches"][0]["kind"]) for leak in report["leaks"]}


def report_of(train, against, folder, **leaks):
    """What a build writes about training images that are in evaluation sets."""
    spec = LeakOptions(**leaks)
    rows = as_table(train[1])
    shards = {
        "rows": save(folder / ".work/rows.parquet", "rows", rows),
        "measures": save(folder / ".work/measures.parquet", "measures", measure_table(rows, train[0])),
    }
    sets = [measure_against(p, folder / ".work", HERE, skip_problems=spec.skip_problems) for p in against]
    shard = Steps(folder / ".work", HERE).one(LEAKS, Job({**shards, "against": sets, "leaks": spec}))
    write_leaks(folder / "leaks.json", [shard], table="t", images=rows.num_rows, against=sets, leaks=spec)
    return json.loads((folder / "leaks.json").read_text("utf-8"))


def test_copies_are_found_across_two_tables(train, bench, tmp_path):
    against = write(tmp_path / "bench.parquet", *bench)
    found = report_of(train, [against], tmp_path)
    assert found_in(found) == EXPECTED
    assert found["by_set"] == {str(against): {"bytes": 1, "pixels": 1, "near": 2, "similar": 0}}
    assert {"source": "drawn", "category": "washer", "kind": "bytes", "images": 1} in found["by_category"]
    assert found["images"] == len(train[1])
    assert found["leaking_images"] == 4
    by_image = {leak["image"]: leak["matches"][0] for leak in found["leaks"]}
    assert by_image["washer/normal/000.png"]["distance"] == by_image["washer/normal/000.png"]["difference"] == 0
    assert by_image["pcb/normal/002.png"]["difference"] <= 12


def test_a_folder_is_looked_at_without_an_index_and_without_its_masks(train, bench, tmp_path):
    root, _ = bench
    masks = root / "DS" / "rbg_mask" / "good"
    masks.mkdir(parents=True)
    shutil.copyfile(train[0] / "pcb/normal/000.png", masks / "000.png")
    (root / "notes.txt").write_text("not an image")
    report = report_of(train, [root], tmp_path)
    assert found_in(report) == EXPECTED
    # Drawn masks lie beside their images here and count as images, which does no harm.
    assert report["against"] == [{"name": str(root), "images": 12 + 3 + 4, "mask_images_passed_over": 1}]


def test_odd_names_are_no_obstacle(train, tmp_path):
    folder = tmp_path / "Prüfstand № 7"
    folder.mkdir()
    names = ["größe#1.png", "部品 3.png", "%41&x=1.png", "n" * 200 + ".png"]
    for name in names:
        shutil.copyfile(train[0] / "pcb/normal/001.png", folder / name)
    report = report_of(train, [folder], tmp_path)
    (leak,) = report["leaks"]
    assert leak["image"] == "pcb/normal/001.png"
    assert {match["image"].rstrip("#") for match in leak["matches"]} == set(names)


def test_a_link_out_of_the_folder_is_not_followed_silently(train, tmp_path):
    folder = tmp_path / "bench"
    folder.mkdir()
    shutil.copyfile(train[0] / "pcb/normal/001.png", folder / "a.png")
    (folder / "linked").symlink_to(train[0] / "washer")
    with pytest.raises(UserError, match=r"linked.*leads out of"):
        report_of(train, [folder], tmp_path)
    found = report_of(train, [folder, folder / "linked"], tmp_path, skip_problems=True)
    assert found["by_set"][str(folder / "linked")]["bytes"] == 7  # named itself, the link's target is looked at


def test_an_unreadable_image_stops_the_report_unless_asked(train, bench, tmp_path):
    root, _ = bench
    torn = root / "copies" / "torn.png"
    torn.write_bytes((train[0] / "pcb/normal/001.png").read_bytes()[:3000])
    with pytest.raises(UserError, match=r"torn\.png cannot be read.*leaks\.skip_problems: true"):
        report_of(train, [root], tmp_path)
    report = report_of(train, [root], tmp_path, skip_problems=True)
    assert found_in(report) == EXPECTED
    assert [one["set"] for one in report["unreadable"]] == [str(root)]


@pytest.fixture
def measured(train, bench):
    """What `leaks_shard` compares: the training images' rows and measures, and the others."""
    rows, others = as_table(train[1]), as_table(bench[1])
    prints = Fingerprints([measure_table(others, bench[0])])
    return rows, measure_table(rows, train[0]), Suspect(name="b", images=others["image"].to_pylist(), prints=prints)


def test_shards_give_what_the_whole_gives(train, measured):
    rows, measures, suspect = measured
    whole = leaks_shard(rows, measures, [suspect])
    pieces = []
    for start in range(0, rows.num_rows, 5):
        pieces += leaks_shard(rows.slice(start, 5), measures.slice(start, 5), [suspect])
    assert pieces == whole
    assert [leak["image"] for leak in whole] == [one.image for one in train[1] if one.image in EXPECTED]
    assert leaks_shard(rows, measures, []) == []


def test_similar_hashes_are_reported_on_request_and_counted(measured):
    rows, measures, suspect = measured
    all_of_them = leaks_shard(rows, measures, [suspect], options=LeakOptions(similar=64, most=3))
    assert len(all_of_them) == rows.num_rows
    assert {leak["count"] for leak in all_of_them} == {len(suspect.images)}
    assert {len(leak["matches"]) for leak in all_of_them} == {3}
    kinds = {leak["image"]: leak["sets"]["b"] for leak in all_of_them}
    assert {image: kind for image, kind in kinds.items() if kind != "similar"} == {
        image: kind for image, (_, kind) in EXPECTED.items()
    }
    none = leaks_shard(rows, measures, [suspect], options=LeakOptions(similar=0))
    assert {leak["image"] for leak in none} >= EXPECTED.keys()


def test_bad_input_is_named(train, tmp_path):
    (tmp_path / "empty").mkdir()
    for path, said in ((tmp_path / "none", "no such table"), (tmp_path / "empty", "no images in it")):
        with pytest.raises(UserError, match=said):
            report_of(train, [path], tmp_path)
