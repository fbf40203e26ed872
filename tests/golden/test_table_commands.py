"""The separate commands of the data pipeline: index, filter, leaks, pair, register, report."""

from __future__ import annotations

import hashlib
import json

import pytest

from tests.chat_ad.reported import bad_record, make_folder, pair_record
from tests.chat_ad.trees import BOX, DATASETS, LAYOUTS
from tests.chat_ad.trees import build as build_tree


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout(area, here, layout):
    """Index, filter and pair of all of a drawn tree."""
    build_tree(layout, here.folder / "source")
    words = ("data", "index", DATASETS[layout], "--root", f"source/{layout}", "--output", "index.parquet")
    said = here.run(*words, "--workers", 2)
    said += here.run("data", "filter", "index.parquet", "--output", "kept.parquet", "--allow", "blurred")
    said += here.run("data", "pair", "kept.parquet", "--output", "pairs.parquet", "--skip-unpaired")
    area.check(layout, {"stdout": here.text(said), **made(here, "index*", "kept*", "pairs*")})


def made(here, *patterns: str) -> dict:
    """The files of these names; digests of tables, which name the dataset's folder, are taken out of them."""
    for name in here.made("*.parquet", "leaks.json"):
        here.varies(hashlib.sha256((here.folder / name).read_bytes()).hexdigest(), f"digest of {name}")
    return here.files(*here.made(*patterns))


def test_chain(area, here):
    """Index, leaks against two images of its own, filter, pair."""
    root = build_tree("mvtec", here.folder / "source")
    for name in ("bottle/train/good/000.png", "wood/test/hole/001.png"):
        target = here.folder / "held-out" / name.replace("/", "-")
        target.parent.mkdir(exist_ok=True)
        target.write_bytes((root / name).read_bytes())
    said = here.run("data", "index", "mvtec", "--root", "source/mvtec", "--output", "table.parquet")
    said += here.run("data", "leaks", "table.parquet", "--against", "held-out", "--output", "leaks.json")
    words = ("data", "filter", "table.parquet", "--output", "kept.parquet", "--pool", "pool.parquet")
    said += here.run(*words, "--leaks", "leaks.json", "--near-duplicates", "--allow", "blurred", "--ratio", "1:1")
    words = ("data", "pair", "kept.parquet", "--pool", "pool.parquet", "--output", "pairs.parquet", "--templates", 2)
    said += here.run(*words, "--crop", "0.5:0.9", "--skip-unpaired")
    area.check("chain", {"stdout": here.text(said), **made(here, "leaks*", "kept*", "pool*", "pairs*")})


def test_register(area, here):
    """Records with boxes as shares of a thousand, converted and registered."""
    folder = make_folder(here.folder / "own", Own=[bad_record(labels=["dent"]), pair_record()])
    lines = [json.loads(line) for line in (folder / "Own.jsonl").read_text("utf-8").splitlines()]
    for line in lines:
        if line.get("anomalous"):
            line["messages"][-1]["content"] = json.dumps([{"bbox_2d": [100, 200, 300, 400], "label": "dent"}])
    (here.folder / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    said = here.run("data", "register", "Own", "records.jsonl", "--media-dir", "own", "--boxes", "thousand")
    area.check("register", {"stdout": here.text(said), **made(here, "records.*", "dataset_info.json")})


def test_report(area, here):
    chat = [bad_record(labels=["dent"], boxes=[BOX]), pair_record("mc", [("Which?\nA. crack\nB. none", "B")])]
    make_folder(here.folder / "own", Chat_own=chat, OLMo=[pair_record("dialogue", [("Defect?", "No.")])])
    said = here.run("data", "report", "own", "--output", "report.html")
    area.check("report", {"stdout": here.text(said), **here.files("report.html")})
