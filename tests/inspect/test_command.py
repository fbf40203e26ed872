"""`adcopilot inspect` from the command line: lines, pictures, folders, resuming, bad files."""

import json
import os

import pytest
from PIL import Image

from .conftest import part

pytestmark = pytest.mark.forward

FIELDS = {
    "query": str,
    "template": str,
    "verdict": str,
    "anomalous": bool,
    "score": float,
    "boxes": list,
    "text": str,
    "yes_no_mass": float,
    "size": list,
    "map_score": float,
    "map_boxes": list,
}


@pytest.fixture
def inspect(adcopilot_dir, inspect):
    """The command with short answers of a model on the CPU."""
    short = ("--device", "cpu", "--max-new-tokens", "2", "--json")
    return lambda *options, model=adcopilot_dir: inspect(*short, *options, model=model)


def stored(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_one_pair(inspect, deciding_dir, folders):
    template, query, picture = folders / "good/0.png", folders / "test/0.png", folders / "out/picture.png"
    code, [line], _ = inspect("--template", template, "--query", query, "--draw", picture, model=deciding_dir)
    assert code == 0
    assert {name: type(value) for name, value in line.items()} == FIELDS
    assert (line["query"], line["template"], line["size"]) == (str(query), str(template), [84, 56])
    assert 0 <= line["score"] <= 1
    with Image.open(picture) as drawn:
        assert drawn.width > 2 * 448


@pytest.mark.parametrize("role", ["template", "query"])
def test_a_bad_file_of_one_pair_is_the_error(refusal, adcopilot_dir, folders, role):
    (folders / "empty.png").touch()
    files = {"template": folders / "good/0.png", "query": folders / "test/0.png", role: folders / "empty.png"}
    said = refusal("inspect", "--model", adcopilot_dir, "--template", files["template"], "--query", files["query"])
    assert said.startswith(f"error: {folders / 'empty.png'}: the image file is empty")


def test_folders_with_pictures(inspect, folders):
    code, lines, _ = inspect(
        "--template-dir", folders / "good", "--query-dir", folders / "test", "--draw", folders / "pictures"
    )
    assert code == 0
    names = ["0.png", "1.png", "2.png", "3.png", "4.png", "deep/5.png"]
    assert [line["query"] for line in lines] == [str(folders / "test" / name) for name in names]
    assert [os.path.basename(line["template"]) for line in lines[:3]] == names[:3]
    drawn = sorted(str(path.relative_to(folders / "pictures")) for path in (folders / "pictures").rglob("*.png"))
    assert drawn == names


def test_mvtec_tree(inspect, tmp_path):
    for name in ("train/good/000.png", "train/good/001.png", "test/good/000.png", "test/scratch/000.png"):
        (tmp_path / "nut" / name).parent.mkdir(parents=True, exist_ok=True)
    part(0).save(tmp_path / "nut/train/good/000.png")
    part(4).save(tmp_path / "nut/train/good/001.png")
    part(9).save(tmp_path / "nut/test/good/000.png")
    part(5, defect=True).save(tmp_path / "nut/test/scratch/000.png")
    code, lines, _ = inspect("--mvtec", tmp_path)
    assert code == 0
    assert [(line["category"], line["defect"]) for line in lines] == [("nut", "good"), ("nut", "scratch")]
    assert [os.path.basename(line["template"]) for line in lines] == ["001.png", "000.png"]  # not by name


def test_only_what_changed_is_done_again(inspect, folders):
    output = folders / "results.jsonl"
    options = ["--template-dir", folders / "good", "--query-dir", folders / "test", "--output", output]
    inspect(*options)
    first = stored(output)
    assert len(first) == 6
    assert {line["settings"]["image_max_pixels"] for line in first} == {589824}
    _, lines, _ = inspect(*options, "--batch-size", "2")
    assert len(lines) == 6
    assert stored(output) == first
    part(9, defect=True).save(folders / "test/1.png")
    inspect(*options)
    assert [line["query"] for line in stored(output)[6:]] == [str(folders / "test/1.png")]
    inspect(*options, "--question", "Is it broken?")
    assert len(stored(output)) == 13


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--template", "a.png"], "give either --query FILE or --query-dir DIR"),
        (["--template", "a.png", "--template-dir", "b", "--query", "c.png"], "give either --template FILE"),
        (["--mvtec", "a", "--query", "b.png"], "leave out the other five options"),
        (["--template-dir", "good", "--query-dir", "test", "--draw", "x.png"], "several pairs need a folder"),
        (["--template-dir", "good", "--query-dir", "test", "--draw", "test/drawn"], "lies inside --query-dir"),
        (["--template", "good/0.png", "--query", "test/0.png", "--draw", "x.txt"], "cannot write .txt"),
        (["--template-dir", "good", "--query-dir", "nowhere"], "nowhere: no such folder"),
        (["--mvtec", "good"], "not an MVTec-style tree"),
        (["--template", "good/0.png", "--query", "test/0.png", "--output", "x.png"], "write --draw x.png"),
    ],
)
def test_mistakes_are_one_line(refusal, adcopilot_dir, folders, monkeypatch, options, message):
    monkeypatch.chdir(folders)
    assert message in refusal("inspect", "--model", adcopilot_dir, *options)
