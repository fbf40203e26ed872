"""The three tutorials, carried out as they stand with fewer pairs and steps: a newcomer's first hour."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from adcopilot.line.marks import append_mark
from adcopilot.sample.photographs import photographs

from ..docs.test_commands import ROOT, commands


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder as a checkout's top is to whoever works there."""
    folder = tmp_path_factory.mktemp("tutorials")
    (folder / "data").mkdir()
    for name in ("examples", "data/sample", "dataset_info.json"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def of_page(name):
    text = (ROOT / "docs" / name).read_text("utf-8")
    return [words for words in commands(text) if words[0] in ("adcopilot", "llamafactory-cli")]


def carry_out(words, place):
    command = [str(Path(sys.executable).with_name(words[0])), *words[1:]]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}"
    return done.stdout


def test_inspect_my_parts(place):
    said = []
    for words in of_page("tutorial-parts.md"):
        if words[:2] == ["adcopilot", "demo"]:  # it serves until it is stopped: tests/demo
            continue
        if "--query-dir" in words and not (place / "today").exists():
            photographs(place / "today", good=3, bad=2, size=112, category="bracket", first=100, seed=0)
        if "--marks" in words:
            append_mark(place / "marks.jsonl", query=place / "today/good/000.png", good=True)
        said.append(carry_out(["112" if word == "224" else word for word in words], place))
    lines = [json.loads(line) for line in said[3].splitlines()]  # --json
    assert {line["query"].split("/")[1] == "good": line["verdict"] for line in lines} == {
        True: "normal",
        False: "anomalous",
    }
    for name in ("lines/bracket/report.html", "shift.html", "shift.csv"):
        assert (place / name).stat().st_size > 0
    assert len(list((place / "maps").rglob("*.png"))) == 5


@pytest.fixture(scope="module")
def trained(place):
    """What the tutorial about training leaves, after two steps of each stage."""
    for words in of_page("tutorial-train.md"):
        if words[:2] in (["adcopilot", "demo"], ["adcopilot", "preflight"]) or "Qwen/Qwen2.5-VL-7B-Instruct" in words:
            continue
        words = ["60" if word == "40000" else word for word in words]
        if words[:3] == ["adcopilot", "data", "sample"]:
            words += ["--test-count", "4"]
        if words[:2] == ["llamafactory-cli", "train"]:
            words += ["max_steps=2", "per_device_train_batch_size=2"]
        carry_out(words, place)
    return place


def test_train_as_in_the_paper(trained):
    assert (trained / "saves/tiny/merged/model.safetensors").is_file()
    assert (trained / "out.png").is_file()


def test_compare_models(trained):
    for words in of_page("tutorial-compare.md"):
        if "mmad" in words or "runs/adcopilot" in words:  # its images are not here: tests/evaluation
            continue
        if words[:2] == ["adcopilot", "eval"] and "--model" in words and "saves/tiny/merged" in words:
            words += ["--max-lost", "1"]  # after two steps it says nothing that can be read
        carry_out(words, trained)
    page = (trained / "runs/report/report.md").read_text("utf-8")
    assert "anomaly map (pixels)" in page
    assert "merged" in page
