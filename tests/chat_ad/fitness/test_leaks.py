"""Copies of training images in an evaluation set are found, whatever was done to the file."""

import json
import shutil

import pytest
from PIL import Image

from adcopilot import cli
from adcopilot.chat_ad.commands.leaks import find_leaks
from adcopilot.chat_ad.fitness.fingerprints import Fingerprints, measure_table
from adcopilot.chat_ad.fitness.leaks import LeakOptions, Suspect, leaks_shard
from adcopilot.chat_ad.table import read_entries
from adcopilot.errors import UserError

from ..drawn import as_table, draw_dataset, entry, write


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """(root, entries, table) of the training images."""
    root = tmp_path_factory.mktemp("train")
    entries = draw_dataset(root, normal=5, anomalous=2, size=160)
    return root, entries, write(root / "train.parquet", root, entries)


@pytest.fixture
def bench(train, tmp_path):
    """(root, entries): other drawings, and copies of three training images in other folders and formats."""
    root = tmp_path / "bench"
    entries = [one.replace(source="bench") for one in draw_dataset(root, normal=3, anomalous=1, size=160, seed=7)]
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


def test_copies_are_found_across_two_tables(train, bench, tmp_path, capsys):
    against = write(tmp_path / "bench.parquet", *bench)
    report = tmp_path / "leaks.json"
    command = ["data", "leaks", str(train[2]), "--against", str(against), "--output", str(report)]
    assert cli.main(command) == 0
    found = json.loads(report.read_text())
    assert found_in(found) == EXPECTED
    assert found["by_set"] == {"bench.parquet": {"bytes": 1, "pixels": 1, "near": 2, "similar": 0}}
    assert {"source": "drawn", "category": "washer", "kind": "bytes", "images": 1} in found["by_category"]
    assert found["images"] == len(train[1])
    assert found["leaking_images"] == 4
    by_image = {leak["image"]: leak["matches"][0] for leak in found["leaks"]}
    assert by_image["washer/normal/000.png"]["distance"] == by_image["washer/normal/000.png"]["difference"] == 0
    assert by_image["pcb/normal/002.png"]["difference"] <= 12
    assert f"4 of {len(train[1])} images are in an evaluation set" in capsys.readouterr().out
    bytes_before = report.read_bytes()
    assert cli.main([*command, "--workers", "3"]) == 0
    assert report.read_bytes() == bytes_before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench", "bench.parquet", "leaks.json"]


def test_a_folder_is_looked_at_without_an_index_and_without_its_masks(train, bench, tmp_path):
    root, _ = bench
    masks = root / "DS" / "rbg_mask" / "good"
    masks.mkdir(parents=True)
    shutil.copyfile(train[0] / "pcb/normal/000.png", masks / "000.png")
    (root / "notes.txt").write_text("not an image")
    report = find_leaks(table=train[2], against=[root], output=tmp_path / "leaks.json")
    assert found_in(report) == EXPECTED
    # Drawn masks lie beside their images here and count as images, which does no harm.
    assert report["against"] == [{"name": "bench", "images": 12 + 3 + 4, "mask_images_passed_over": 1}]


def test_found_leaks_can_be_dropped(train, bench, tmp_path, capsys):
    leaks = tmp_path / "leaks.json"
    find_leaks(table=train[2], against=[bench[0]], output=leaks)
    output = tmp_path / "clean.parquet"
    command = ["data", "filter", str(train[2]), "--output", str(output), "--leaks", str(leaks)]
    assert cli.main(command) == 0
    assert [one.image for one in read_entries(output)] == [e.image for e in train[1] if e.image not in EXPECTED]
    drops = [json.loads(line) for line in (tmp_path / "clean.parquet.drops.jsonl").read_text().splitlines()]
    assert {drop["image"]: drop["value"] for drop in drops} == {image: kind for image, (_, kind) in EXPECTED.items()}
    assert {drop["reason"] for drop in drops} == {"leak"}
    assert cli.main([*command, "--leak-kinds", "bytes"]) == 0
    assert len(list(read_entries(output))) == len(train[1]) - 1
    capsys.readouterr()
    assert cli.main([*command, "--leak-kinds", "byte"]) == 2
    assert "there is no 'byte'" in capsys.readouterr().err
    other = write(tmp_path / "other.parquet", train[0], train[1][:3])
    assert cli.main(["data", "filter", str(other), "--output", str(output), "--leaks", str(leaks)]) == 2
    assert "is about another table" in capsys.readouterr().err


def test_odd_names_are_no_obstacle(train, tmp_path):
    folder = tmp_path / "Prüfstand № 7"
    folder.mkdir()
    names = ["größe#1.png", "部品 3.png", "%41&x=1.png", "n" * 200 + ".png"]
    for name in names:
        shutil.copyfile(train[0] / "pcb/normal/001.png", folder / name)
    report = find_leaks(table=train[2], against=[folder], output=tmp_path / "leaks.json")
    (leak,) = report["leaks"]
    assert leak["image"] == "pcb/normal/001.png"
    assert {match["image"].rstrip("#") for match in leak["matches"]} == set(names)
    assert json.loads((tmp_path / "leaks.json").read_text("utf-8")) == report


def test_a_link_out_of_the_folder_is_not_followed_silently(train, tmp_path):
    folder = tmp_path / "bench"
    folder.mkdir()
    shutil.copyfile(train[0] / "pcb/normal/001.png", folder / "a.png")
    (folder / "linked").symlink_to(train[0] / "washer")
    with pytest.raises(UserError, match=r"9 of 10 images cannot be read.*leads out of"):
        find_leaks(table=train[2], against=[folder], output=tmp_path / "leaks.json")
    found = find_leaks(
        table=train[2], against=[folder, folder / "linked"], output=tmp_path / "l.json", skip_problems=True
    )
    assert found["by_set"]["linked"]["bytes"] == 7  # named itself, the link's target is looked at


def test_an_unreadable_image_stops_the_report_unless_asked(train, bench, tmp_path):
    root, _ = bench
    torn = root / "copies" / "torn.png"
    torn.write_bytes((train[0] / "pcb/normal/001.png").read_bytes()[:3000])
    with pytest.raises(UserError, match=r"1 of 20 images cannot be read, the first: .*torn\.png.*--skip-problems"):
        find_leaks(table=train[2], against=[root], output=tmp_path / "leaks.json")
    report = find_leaks(table=train[2], against=[root], output=tmp_path / "leaks.json", skip_problems=True)
    assert found_in(report) == EXPECTED
    assert [one["set"] for one in report["unreadable"]] == ["bench"]


def test_shards_give_what_the_whole_gives(train, bench):
    rows = as_table(train[1])
    measures = measure_table(rows, train[0])
    names = [one.image for one in bench[1]]
    suspect = Suspect(name="b", images=names, prints=Fingerprints([measure_table(as_table(bench[1]), bench[0])]))
    whole = leaks_shard(rows, measures, [suspect])
    pieces = []
    for start in range(0, rows.num_rows, 5):
        pieces += leaks_shard(rows.slice(start, 5), measures.slice(start, 5), [suspect])
    assert pieces == whole
    assert [leak["image"] for leak in whole] == [one.image for one in train[1] if one.image in EXPECTED]
    assert leaks_shard(rows, measures, []) == []


def test_similar_hashes_are_reported_on_request_and_counted(train, bench):
    rows = as_table(train[1])
    measures = measure_table(rows, train[0])
    names = [one.image for one in bench[1]]
    prints = Fingerprints([measure_table(as_table(bench[1]), bench[0])])
    suspects = [Suspect(name="b", images=names, prints=prints)]
    all_of_them = leaks_shard(rows, measures, suspects, options=LeakOptions(similar=64, most=3))
    assert len(all_of_them) == rows.num_rows
    assert {leak["count"] for leak in all_of_them} == {len(names)}
    assert {len(leak["matches"]) for leak in all_of_them} == {3}
    kinds = {leak["image"]: leak["sets"]["b"] for leak in all_of_them}
    assert {image: kind for image, kind in kinds.items() if kind != "similar"} == {
        image: kind for image, (_, kind) in EXPECTED.items()
    }
    none = leaks_shard(rows, measures, suspects, options=LeakOptions(similar=0))
    assert {leak["image"] for leak in none} >= EXPECTED.keys()


def test_bad_input_is_named(train, tmp_path, capsys):
    for words, said in (
        (["--against", str(tmp_path / "none")], "none: cannot be read"),
        (["--against", str(tmp_path)], "no images in it"),
        (["--against", str(train[0]), "--similar", "65"], "--similar is 65"),
        (["--against", str(train[0]), "--most", "0"], "--most is 0"),
    ):
        assert cli.main(["data", "leaks", str(train[2]), *words, "--output", str(tmp_path / "leaks.json")]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
