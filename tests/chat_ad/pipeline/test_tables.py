"""`adcopilot data build --until …`: the tables, what is said about them, and a build that goes on with them."""

import json
import shutil
from dataclasses import replace

import pytest
import yaml
from PIL import Image, ImageFilter

from adcopilot import cli
from adcopilot.chat_ad.crops import cut_boxes, cut_pair, shown_window
from adcopilot.chat_ad.readers import index
from adcopilot.chat_ad.sources.references import mask_components, open_mask
from adcopilot.chat_ad.table import read_batches, read_metadata, table_root

from .. import trees
from ..drawn import read_entries

#: Layout → images that cannot have a template: VISION has no normal images, the COCO tree a single one.
UNPAIRED = {"vision": 4, "coco": 1}


def until(step, tmp_path, *words, code=0, top=None, **dataset):
    """Build the tables of one data set, `own`, in `tmp_path / "out"`; the folder that they are in."""
    recipe = {**(top or {}), "datasets": {"own": {"filter": {"allow": ["blurred"]}, **dataset}}}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    found = cli.main(["data", "build", str(path), "--output", str(tmp_path / "out"), "--until", step, *words])
    assert found == code
    return tmp_path / "out/datasets"


def rows_of(path):
    return [row for batch in read_batches(path) for row in batch.to_pylist()]


def dropped(folder):
    return [json.loads(line) for line in (folder / "own.dropped.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.parametrize("layout", trees.LAYOUTS)
def test_every_layout_goes_through(layout, tmp_path, capsys):
    root = trees.build(layout, tmp_path / "source")
    before = sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*"))
    name = trees.DATASETS[layout]
    code = int(layout in UNPAIRED)  # so many that it is an error
    words = {"reader": name, "root": str(root), "crop": "0.5:0.9", "pair": {"skip_unpaired": True}}
    folder = until("pair", tmp_path, "--set", "seed=3", code=code, **words)
    said = capsys.readouterr().out
    entries = {one.image: one for one in read_entries(folder / "own.index.parquet")}
    read = index(name, root, problems=[])
    assert entries == {one.image: replace(one, source="own", licence=entries[one.image].licence) for one in read}
    assert f"own.index.parquet: {len(entries)} images of" in said
    assert table_root(folder / "own.index.parquet") == root
    assert {one.image for one in read_entries(folder / "own.select.parquet")} == set(entries)
    rows = rows_of(folder / "own.pair.parquet")
    assert len(rows) == len(entries) - UNPAIRED.get(layout, 0)
    for row in rows:
        query, template = entries[row["image"]], entries[row["template"]]
        assert (query.category, query.view, template.label) == (template.category, template.view, "normal")
        others = [
            one
            for one in entries.values()
            if (one.category, one.view, one.label) == (query.category, query.view, "normal")
            and one.group != query.group
        ]
        if query.group and others:
            assert template.group != query.group
        x1, y1, x2, y2 = shown_window(row)
        assert {image.size for image in cut_pair(root, row)} == {(x2 - x1, y2 - y1)}
        boxes = cut_boxes(row)[0]
        assert bool(boxes) == (query.label == "anomalous")
        if row["mask"]:
            mask = open_mask(root, row["mask"], size=(row["width"], row["height"]))[y1:y2, x1:x2]
            assert sorted(boxes) == sorted(list(component.box) for component in mask_components(mask))
    assert sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*")) == before


def test_each_step_writes_its_tables_and_a_build_goes_on_with_them(tmp_path, capsys):
    root = trees.build("mvtec", tmp_path / "source")
    words = {"reader": "mvtec", "root": str(root), "ratio": "1:1", "queries": "anomalous"}
    folder = until("index", tmp_path, **words)
    assert sorted(path.name for path in folder.iterdir()) == ["own.dropped.jsonl", "own.index.parquet"]
    assert "pairs" not in capsys.readouterr().out
    until("select", tmp_path, **words)
    kept, pool = (read_entries(folder / f"own.{name}.parquet") for name in ("select", "pool"))
    assert {one.label for one in kept} == {"anomalous"}
    assert [one.image for one in pool] == [one.image for one in index("mvtec", root) if one.label == "normal"]
    measured = [path.stat().st_mtime_ns for path in (tmp_path / "out/.work/own/measure").iterdir()]
    until("pair", tmp_path, **words)
    assert {row["image"] for row in rows_of(folder / "own.pair.parquet")} == {one.image for one in kept}
    assert [path.stat().st_mtime_ns for path in (tmp_path / "out/.work/own/measure").iterdir()] == measured
    assert not (tmp_path / "out/manifest.json").exists()
    recipe = tmp_path / "recipe.yaml"
    command = ["data", "build", str(recipe), "--output", str(tmp_path / "out")]
    assert cli.main(command) == 2
    assert "outputs is empty" in capsys.readouterr().err
    assert cli.main([*command, "--set", "outputs.Verdict.datasets=own", "--set", "outputs.Verdict.tasks=caption"]) == 0
    assert [path.stat().st_mtime_ns for path in (tmp_path / "out/.work/own/measure").iterdir()] == measured


def test_what_was_found_and_passed_over_is_said(tmp_path, capsys):
    root = trees.build("ds-mvtec", tmp_path)
    until("index", tmp_path, reader="mvtec", root=str(root))
    said = capsys.readouterr().out
    assert "masks named NAME_mask: 4" in said
    assert "files that are no images, passed over: 2 .json, 8 .txt" in said
    root = trees.build("vision", tmp_path)
    until("index", tmp_path, reader="vision", root=str(root))
    said = capsys.readouterr().out
    assert "no normal image, so nothing to compare with, in: Cable" in said
    assert "2 of 2 images carry no annotation: left out" in said
    assert "noted: index: unannotated 1" in said


def test_what_was_asked_for_is_in_the_tables(tmp_path):
    root = trees.build("visa", tmp_path)
    words = {"options": {"split": "2cls_fewshot"}, "categories": "pcb4", "min_area": 2}
    folder = until("index", tmp_path, reader="visa", root=str(root), **words)
    metadata = read_metadata(folder / "own.index.parquet")
    assert metadata["dataset"] == "visa"
    found = json.loads(metadata["options"])
    assert (found["options"], found["categories"], found["min_area"]) == ({"split": "2cls_fewshot"}, ["pcb4"], 2)
    assert found["filter"]["allow"] == ["blurred"]


def test_a_set_in_which_nothing_fits_stops_after_its_first_shard(tmp_path, capsys):
    """A large dataset that was named wrongly is not read to its end."""
    root = trees.build("mvtec", tmp_path)
    until("index", tmp_path, "--set", "shard_images=3", code=2, reader="manta", root=str(root))
    assert "problems: 3 not-a-strip: bottle/train/good/000.png: 64×48 pixels, expected" in capsys.readouterr().err
    words = {"reader": "manta", "root": str(root), "skip_problems": True}
    until("index", tmp_path, "--set", "shard_images=3", code=2, **words)
    assert "none of the images of manta could be used" in capsys.readouterr().err


def test_an_unusable_dataset_is_told(tmp_path, capsys):
    root = trees.build("folder", tmp_path)
    shutil.rmtree(root / "masks")
    shutil.rmtree(root / "good")
    (root / "good").mkdir()
    until("index", tmp_path, code=2, reader="folder", root=str(root), skip_problems=True)
    assert "none of the images of folder could be used" in capsys.readouterr().err


def test_a_category_that_loses_much_is_pointed_out(tmp_path, capsys):
    root = trees.build("mvtec", tmp_path)
    for path in (root / "wood/test/hole").iterdir():
        Image.open(path).filter(ImageFilter.GaussianBlur(8)).save(path)
    until("select", tmp_path, code=1, reader="mvtec", root=str(root), filter={})
    assert "look at wood: " in capsys.readouterr().out


def test_leaks_are_reported_and_which_kinds_go_is_the_recipes(tmp_path, capsys):
    root = trees.build("mvtec", tmp_path)
    bench = tmp_path / "bench"
    bench.mkdir()
    shutil.copyfile(root / "bottle/train/good/000.png", bench / "same.png")
    Image.open(root / "wood/test/hole/001.png").save(bench / "pixels.bmp")
    top = {"against": [str(bench)]}
    folder = until("select", tmp_path, top=top, reader="mvtec", root=str(root))
    said = capsys.readouterr().out
    assert "own.leaks.json: 2 images that are in an evaluation set" in said
    assert f"{bench}: bytes 1, pixels 1, near 0, similar 0" in said
    report = json.loads((folder / "own.leaks.json").read_text())
    assert {leak["image"]: leak["sets"][str(bench)] for leak in report["leaks"]} == {
        "bottle/train/good/000.png": "bytes",
        "wood/test/hole/001.png": "pixels",
    }
    assert {one["image"]: one["value"] for one in dropped(folder) if one["reason"] == "leak"} == {
        "bottle/train/good/000.png": "bytes",
        "wood/test/hole/001.png": "pixels",
    }
    top["leaks"] = {"drop": ["pixels"], "similar": 64}
    until("select", tmp_path, top=top, reader="mvtec", root=str(root))
    assert [one["image"] for one in dropped(folder)] == ["wood/test/hole/001.png"]
    assert json.loads((folder / "own.leaks.json").read_text())["leaking_images"] == 16  # all are alike by 64 bits
    # A table is an evaluation set too.
    shutil.copyfile(folder / "own.index.parquet", tmp_path / "bench.parquet")
    top = {"against": [str(tmp_path / "bench.parquet")]}
    until("select", tmp_path, top=top, reader="mvtec", root=str(root))
    assert "own.select.parquet: 0 images that stay" in capsys.readouterr().out
    top = {"against": [str(bench)], "leaks": {"drop": ["byte"]}}
    until("select", tmp_path, code=2, top=top, reader="mvtec", root=str(root))
    assert "leaks.drop holds 'byte', expected some of 'bytes', 'pixels', 'near', 'similar'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["index", "filter", "leaks", "pair"])
def test_a_command_of_earlier_versions_names_the_new_one(name, capsys):
    assert cli.main(["data", name, "table.parquet", "--output", "x"]) == 2
    step = {"filter": "select", "leaks": "select"}.get(name, name)
    said = capsys.readouterr().err
    assert f"adcopilot data {name}: type `adcopilot data build RECIPE.yaml --output DIR --until {step}" in said
    assert said.count("\n") == 1
    assert cli.main(["data", "convert", "deeppcb", "--root", "DeepPCB"]) == 2
    assert "type `adcopilot data build examples/data/deeppcb.yaml" in capsys.readouterr().err
