"""The tables of a build (`--until`), and the commands register and report."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.chat_ad.pictures import BOX
from tests.chat_ad.reported import bad_record, make_folder, pair_record
from tests.chat_ad.trees import DATASETS, LAYOUTS
from tests.chat_ad.trees import build as build_tree


def tables(here, recipe: dict, *words) -> dict:
    """What is said of the tables of a recipe, and they themselves."""
    (here.folder / "recipe.yaml").write_text(json.dumps(recipe))
    found = here.run("data", "build", "recipe.yaml", "--output", "out", *words, code=None)
    return {"stdout": here.text(found), **here.files("out")}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout(area, here, layout):
    """The tables of all of a drawn tree."""
    build_tree(layout, here.folder / "source")
    name = DATASETS[layout]
    words = {"filter": {"allow": ["blurred"]}, "pair": {"skip_unpaired": True}}
    recipe = {"datasets": {name: {"reader": name, "root": f"source/{layout}", **words}}}
    area.check(layout, tables(here, recipe, "--until", "pair"))


def test_steps(area, here):
    """Tables of one set, kept out of it two images of its own that are in an evaluation set."""
    root = build_tree("mvtec", here.folder / "source")
    for name in ("bottle/train/good/000.png", "wood/test/hole/001.png"):
        target = here.folder / "held-out" / name.replace("/", "-")
        target.parent.mkdir(exist_ok=True)
        target.write_bytes((root / name).read_bytes())
    words = {"ratio": "1:1", "crop": "0.5:0.9", "pair": {"skip_unpaired": True, "templates": 2}}
    words["filter"] = {"allow": ["blurred"], "near_duplicates": True}
    dataset = {"reader": "mvtec", "root": "source/mvtec", **words}
    recipe = {"against": ["held-out"], "shard_images": 4, "datasets": {"mvtec": dataset}}
    for step in ("index", "select", "pair"):
        area.check(f"until {step}", tables(here, recipe, "--until", step))
    shutil.rmtree("out")
    area.check("until pair", tables(here, recipe, "--until", "pair", "--workers", 2))


def test_register(area, here):
    """Records with boxes as shares of a thousand, converted and registered."""
    folder = make_folder(here.folder / "own", Own=[bad_record(labels=["dent"]), pair_record()])
    lines = [json.loads(line) for line in (folder / "Own.jsonl").read_text("utf-8").splitlines()]
    for line in lines:
        if line.get("anomalous"):
            line["messages"][-1]["content"] = json.dumps([{"bbox_2d": [100, 200, 300, 400], "label": "dent"}])
    (here.folder / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    said = here.run("data", "register", "Own", "records.jsonl", "--media-dir", "own", "--boxes", "thousand")
    area.check("register", {"stdout": here.text(said), **here.files(*here.made("records.*", "dataset_info.json"))})


def test_report(area, here):
    chat = [bad_record(labels=["dent"], boxes=[BOX]), pair_record("mc", [("Which?\nA. crack\nB. none", "B")])]
    make_folder(here.folder / "own", Chat_own=chat, OLMo=[pair_record("dialogue", [("Defect?", "No.")])])
    said = here.run("data", "report", "own", "--output", "report.html")
    area.check("report", {"stdout": here.text(said), **here.files("report.html")})
