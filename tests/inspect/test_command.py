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
def inspect(adcopilot_dir, run):
    """Run the command with short answers on the CPU; returns its code, its JSON lines and what it said on stderr."""

    def inspect(*options, model=adcopilot_dir):
        words = ("inspect", "--model", model, "--device", "cpu", "--max-new-tokens", "2", "--json", *options)
        code, out, err = run(*words)
        return code, [json.loads(line) for line in out.splitlines()], err

    return inspect


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


def bad_files(folder):
    """name -> None if the file can be used all the same, else part of the error."""
    image = part()
    (folder / "a_zero.png").touch()
    image.save(folder / "b_cut.png")
    data = (folder / "b_cut.png").read_bytes()
    (folder / "b_cut.png").write_bytes(data[: len(data) // 2])
    Image.new("RGB", (1, 1)).save(folder / "c_1x1.png")
    (folder / "d_text.png").write_text("hello")
    Image.new("I;16", (84, 56), 30000).save(folder / "e_16bit.png")
    image.convert("CMYK").save(folder / "f_cmyk.jpg")
    image.convert("RGBA").save(folder / "g_rgba.png")
    image.convert("P").save(folder / "h_palette.png")
    image.save(folder / "i_animated.gif", save_all=True, append_images=[part(1), part(2)])
    (folder / "j_missing.png").symlink_to(folder / "nowhere.png")
    return {
        "a_zero.png": "0 bytes",
        "b_cut.png": "truncated",
        "c_1x1.png": "1×1 pixels is too small",
        "d_text.png": "not an image",
        "e_16bit.png": None,
        "f_cmyk.jpg": None,
        "g_rgba.png": None,
        "h_palette.png": None,
        "i_animated.gif": None,
        "j_missing.png": "no such image file",
    }


def test_bad_files_become_lines_and_the_run_goes_on(inspect, tmp_path):
    (tmp_path / "test").mkdir()
    part().save(tmp_path / "good.png")
    expected = bad_files(tmp_path / "test")
    code, lines, said = inspect("--template", tmp_path / "good.png", "--query-dir", tmp_path / "test")
    assert code == 1
    assert "10 queries" in said
    assert "5 could not be inspected" in said
    assert "3 frames or pages; only the first is used" in said
    assert [os.path.basename(line["query"]) for line in lines] == list(expected)
    for line, error in zip(lines, expected.values(), strict=True):
        if error is None:
            assert "error" not in line
        else:
            assert error in line["error"]
            assert line["query"] in line["error"]
            assert line["anomalous"] is None


@pytest.mark.parametrize("role", ["template", "query"])
def test_a_bad_file_of_one_pair_is_the_error(inspect, folders, role):
    (folders / "empty.png").touch()
    files = {"template": folders / "good/0.png", "query": folders / "test/0.png", role: folders / "empty.png"}
    code, lines, said = inspect("--template", files["template"], "--query", files["query"])
    assert (code, lines) == (2, [])
    assert said.startswith(f"error: {folders / 'empty.png'}: the image file is empty")
    assert said.count("\n") == 1


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
def test_mistakes_are_one_line(inspect, folders, monkeypatch, options, message):
    monkeypatch.chdir(folders)
    code, lines, said = inspect(*options)
    assert (code, lines) == (2, [])
    assert said.startswith("error: ")
    assert message in said
    assert said.count("\n") == 1
