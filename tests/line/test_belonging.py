"""A line is what it was calibrated as: its model, templates, depth and question; and it takes nothing of others."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from adcopilot.cli import main
from adcopilot.errors import UserError
from adcopilot.inspect import Inspector
from adcopilot.kinds import labels_of
from adcopilot.line.inspection import read_inspection
from adcopilot.line.placing import place_files
from adcopilot.sample.photographs import photographs

from ..helpers.model_folders import change_json
from ..inspect.conftest import defects

CPU = ("--device", "cpu", "--max-new-tokens", "2")


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    return photographs(tmp_path_factory.mktemp("parts"), good=6, bad=3)


@pytest.fixture(scope="module")
def made(parts, tmp_path_factory):
    line = tmp_path_factory.mktemp("made") / "line"
    assert main(["calibrate", "none", "--good", str(parts / "good"), "--output", str(line)]) == 0
    return line


@pytest.fixture
def line(made, tmp_path):
    return shutil.copytree(made, tmp_path / "line")


def bad_picture(parts):
    return defects(parts)[0]


@pytest.mark.parametrize("change", ["replaced", "more", "shrunk"])
def test_other_templates_have_no_threshold(parts, line, refusal, change):
    file = line / "templates/000.png"
    if change == "shrunk":
        with Image.open(file) as image:
            image.resize((42, 42)).save(file)
    else:
        shutil.copy(bad_picture(parts), file if change == "replaced" else file.with_name("more.png"))
    err = refusal("inspect", "--model", line, "--query", parts / "good/001.png")
    assert "other templates than those that the threshold was found with" in err
    assert f"adcopilot calibrate none --good DIR --output {line}" in err  # can be typed: there is no model


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"map": {"kind": "pixels", "search": 2.5}}, "search of the map is 2.5, expected a whole number"),
        ({"map": {"kind": "features", "backbone": 5}}, "backbone of the map is 5"),
        ({"threshold": True, "thresholds": {"map": True}}, "is no number"),
        ({"bits": "12"}, "bits is '12', expected 8 to 16"),
        ({"asked": {"question": 5}}, "asked.question is 5"),
        ({"templates": ["../secret.png"]}, "leads out of"),
        ({"templates": ["templates/none.png"]}, "not found, but inspection.json names it"),
        ({"thresholds": {"map": "high"}}, "is no inspection's file"),
        ({"verdict_from": "model"}, "is no inspection's file"),
        ({"map": {"kind": "words"}}, "--map is 'words'"),
        ({"threshold": 5}, "they are one, change both"),
        ({"threshold": "x"}, "they are one, change both"),
        ({"templates_each": "q"}, "templates_each is 'q', expected 1 to 64"),
        ({"verdict_from": "nobody"}, "is from 'nobody', expected model, map, either"),
        ({"map": {"colour": 1}}, "is no inspection's file"),
    ],
)
def test_a_changed_file_is_refused(line, change, message):
    change_json(line / "inspection.json", **change)
    with pytest.raises(UserError, match=message):
        read_inspection(line)


def test_a_link_to_nothing_is_no_missing_file(line):
    (line / "inspection.json").unlink()
    (line / "inspection.json").symlink_to("/nowhere")
    with pytest.raises(UserError, match="is no inspection's file"):
        read_inspection(line)


def test_what_is_not_the_lines_is_neither_overwritten_nor_removed(parts, tmp_path, run, refusal):
    own = tmp_path / "own"
    shutil.copytree(parts / "good", own / "good")
    (own / "templates").mkdir()
    shutil.copy(bad_picture(parts), own / "templates/mine.png")
    shutil.copy(bad_picture(parts), own / "templates/000.png")
    words = ("calibrate", "none", "--good", own / "good", "--output", own)
    assert "000.png: is there already and is no part of the line" in refusal(*words)
    assert not (own / "inspection.json").exists()
    (own / "templates/000.png").unlink()
    assert run(*words)[0] == 0
    assert (own / "templates/mine.png").exists()
    # pictures that are read do not lie where templates go
    assert "keeps its templates in" in refusal("calibrate", "none", "--good", own / "templates", "--output", own)


def test_a_calibration_that_fails_leaves_the_line(parts, line, tmp_path, run):
    before = {file: file.read_bytes() for file in line.rglob("*.png")}
    folder = shutil.copytree(parts / "good", tmp_path / "others")
    for file in list(folder.iterdir()):
        file.rename(folder / f"new{file.name}")
    words = ("calibrate", "none", "--good", folder, "--output", line, "--verdict-from", "either")
    assert run(*words)[0] == 2
    assert {file: file.read_bytes() for file in line.rglob("*.png")} == before
    assert run("inspect", "--model", line, "--query", parts / "good/001.png")[0] == 0


def test_files_that_were_placed_go_with_their_line(tmp_path):
    source, folder = tmp_path / "source", tmp_path / "folder"
    source.mkdir()
    for name in ("one", "two\nlines", "shard"):
        (source / name).write_text(name)
    place_files({"model": source / "one", "a\nb": source / "two\nlines"}, folder, link=True)
    (folder / "notes").write_text("mine")
    place_files({"shard": source / "shard"}, folder)
    assert sorted(file.name for file in folder.glob("[!.]*")) == ["notes", "shard"]
    with pytest.raises(UserError, match="is no part of the line"):
        place_files({"notes": source / "one"}, folder)
    place_files({"shard": folder / "shard"}, folder)  # onto itself
    assert (folder / "shard").read_text() == "shard"
    assert not list(folder.glob("*.part"))


@pytest.mark.forward
def test_another_model_has_no_thresholds(parts, adcopilot_dir, deciding_dir, tmp_path, run, refusal):
    line, other = tmp_path / "line", shutil.copytree(adcopilot_dir, tmp_path / "other")
    words = ("calibrate", deciding_dir, "--good", parts / "good", *CPU)
    assert "is there already and is no part of the line" in refusal(*words, "--output", other)
    question = ("--question", "Is there a flaw? Answer yes or no.", "--verdict-from", "model")
    assert run(*words, *question, "--output", line)[0] == 0
    inspect = ("inspect", "--model", line, "--query", parts / "good/001.png", *CPU)
    results = tmp_path / "results.jsonl"
    assert run(*inspect, "--output", results)[0] == 0
    assert json.loads(results.read_text())["settings"]["question"] == question[1]
    assert Inspector(line, device="cpu").engine.question == question[1]
    assert "was found with another; leave it out" in refusal(*inspect, "--question", "Is it good?")
    assert "verdicts are from either, which needs a map" in refusal(
        *inspect, "--map", "off", "--verdict-from", "either"
    )
    # a threshold for the model's score is none for maps that are made in another way
    code, _, err = run(*inspect, "--threshold", "0.5", "--map-search", "5")
    assert (code, "does not hold for these" in err) == (0, True)
    for file in adcopilot_dir.iterdir():
        if file.is_file():
            (line / file.name).unlink(missing_ok=True)
            shutil.copy(file, line)
    assert "its model is another than the one" in refusal(*inspect)


@pytest.mark.forward
def test_what_a_model_leaves_undecided_is_measured_so(parts, adcopilot_dir, tmp_path, run):
    line = tmp_path / "line"
    words = ("calibrate", adcopilot_dir, "--good", parts / "good", "--output", line, "--verdict-from", "model", *CPU)
    code, out, err = run(*words)
    assert code == 0, err
    found = json.loads((line / "inspection.json").read_text())
    assert found["metrics"]["undecided"] == 6
    assert "6 of 6 pictures get no verdict from the model" in out


def wide(source, target, *, brightest=0):
    """The picture as 12 bits in a file of 16."""
    with Image.open(source) as image:
        values = np.asarray(image.convert("L")).astype(np.uint16) * 16
    values[0, 0] = brightest or values[0, 0]
    target.parent.mkdir(exist_ok=True)
    Image.fromarray(values).save(target)


def test_a_lines_depth_is_every_days(parts, tmp_path, run):
    """One hot pixel must not make all pictures darker than those that the threshold was found on."""
    for file in (parts / "good").iterdir():
        wide(file, tmp_path / "good" / file.name)
    line, defect = tmp_path / "line", tmp_path / "today/defect.png"
    assert run("calibrate", "none", "--good", tmp_path / "good", "--output", line)[0] == 0
    assert read_inspection(line).bits == 12
    wide(bad_picture(parts), defect)
    wide(bad_picture(parts), tmp_path / "today/hot.png", brightest=60000)
    code, out, _ = run("inspect", "--model", line, "--query-dir", tmp_path / "today")
    first, second = out.splitlines()
    assert code == 1
    assert first.startswith("ANOMALOUS")
    assert "hot.png: holds 60000, more than the 12 bits" in second
    inspector = Inspector(line)
    assert inspector.inspect(query=defect).anomalous
    with pytest.raises(UserError, match="more than the 12 bits"):
        inspector.inspect(query=tmp_path / "today/hot.png")


def test_a_folder_with_defective_parts_in_it_is_none_of_good_ones(parts, refusal):
    for words in (
        ("calibrate", "none", "--good", parts),
        ("inspect", "--model", "none", "--template-dir", parts, "--query", parts / "good/001.png"),
    ):
        assert f"all of it would count as good; give {parts / 'good'}" in refusal(*words)
    kind = bad_picture(parts).parent
    assert "lies inside --good" in refusal("calibrate", "none", "--good", parts, "--bad", kind)


def test_what_lies_deeper_in_a_folder_of_good_parts_has_no_label():
    labels = labels_of(["good/1.png", "good/morning/2.png", "test/stain/3.png", "4.png"])
    assert labels == {"good/1.png": (False, ""), "test/stain/3.png": (True, "stain")}


def test_no_result_overwrites_another_or_what_is_read(parts, line, tmp_path, run, refusal):
    query = shutil.copy(parts / "good/001.png", tmp_path / "q.png")
    words = ("inspect", "--model", line, "--query", query)
    for options, told in (
        (("--output", "a.jsonl", "--csv", "a.jsonl"), "--output is there too"),
        (("--csv", "a.html", "--report", "a.html"), "--csv is there too"),
        (("--draw", "p", "--save-maps", "p"), "--draw is there too"),
        (("--csv", "q.png"), "--query is there too"),
        (("--csv", "b.png"), "this is a picture's name"),
        (("--csv", "line/inspection.json"), "the line's file is there too"),
    ):
        options = [option if option.startswith("--") else tmp_path / option for option in options]
        assert told in refusal(*words, *options)
    assert query.read_bytes() == (parts / "good/001.png").read_bytes()
    # one query of a line is one picture
    assert run(*words, "--draw", tmp_path / "one.png")[0] == 0
    assert (tmp_path / "one.png").is_file()
    assert "these are others" in run(*words, "--template", parts / "good/002.png")[2]


def test_a_file_of_a_program_is_read_once(parts, line, tmp_path):
    inspector = Inspector(line)
    with open(bad_picture(parts), "rb") as file:
        result = inspector.inspect(query=file)
        assert (result.verdict, result.query) == ("anomalous", file.name)
        assert not file.closed
    result.draw()
    (tmp_path / "text").write_text("a")
    with open(tmp_path / "text") as file, pytest.raises(UserError, match="open it with 'rb'"):
        inspector.inspect(query=file)


@pytest.mark.parametrize("number", [0, 1.5])
def test_a_number_of_templates_is_one(line, number):
    with pytest.raises(UserError, match=f"--map-templates is {number}, expected 1 to 64"):
        Inspector(line, map_templates=number)


def test_evaluation_takes_the_lines_depth(line):
    import argparse

    from adcopilot.evaluation.map_options import open_maps

    change_json(line / "inspection.json", bits=12, made=None)
    names = ("map", "map_backbone", "map_search", "box_growth", "image_max_pixels", "threshold", "shard")
    args = argparse.Namespace(line=line, device="cpu", **dict.fromkeys(names))
    maps = open_maps(args, folder=None)
    assert (maps.inspector.bits, maps.describe()["bits"]) == (12, 12)
    assert read_inspection(line).made == {}


def test_a_line_whose_calibration_was_stopped_has_no_verdicts(parts, line, refusal):
    (line / "inspection.json").unlink()
    assert "its calibration was stopped before it had a threshold; start that command again" in refusal(
        "inspect", "--model", line, "--query", parts / "good/001.png"
    )


def test_what_is_to_be_typed_can_be(parts, tmp_path, run):
    line = tmp_path / "my line"
    _, out, _ = run("calibrate", "none", "--good", parts / "good", "--output", line)
    assert f"adcopilot inspect --model '{line}' --query-dir DIR" in out
