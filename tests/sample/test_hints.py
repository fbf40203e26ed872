"""`adcopilot data sample --hints map`: the same records with the map's sentence, made again; stale files."""

import hashlib
import json
import os

import pytest

from adcopilot.anomaly_map.comparing import Mapper, MapSettings
from adcopilot.anomaly_map.hints import HINT, NO_HINT, hint_of
from adcopilot.cli import main
from adcopilot.images import open_image

NUMBERS = ("--count", "80", "--test-count", "4", "--rl", "6", "--seed", "3")


def run(output, *words):
    return main(["data", "sample", "--output", str(output), *NUMBERS, *words])


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def digests(folder):
    files = (path for path in sorted(folder.iterdir()) if path.is_file())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    folder = tmp_path_factory.mktemp("told") / "sample"
    assert run(folder, "--hints", "map") == 0
    return folder


def test_each_training_split_has_its_hints(told):
    threshold = json.loads((told / "hints.json").read_text())["threshold"]
    listed = json.loads((told / "dataset_info.json").read_text())
    for split in ("stage0", "stage1", "stage2", "thinking", "rl"):
        plain, hinted = read(told / f"{split}.jsonl"), read(told / f"{split}_hinted.jsonl")
        assert listed[f"{split}_hinted"]["file_name"] == f"{split}_hinted.jsonl"
        for before, after in zip(plain, hinted, strict=True):
            assert {name for name in before if before[name] != after[name]} <= {"messages", "key"}
            template, query = (open_image(told / name) for name in before["images"])
            found = Mapper(MapSettings()).compare(query, [template])
            said = hint_of(found, threshold=threshold, space=query.size)  # as inspect says it, in pixels of the file
            question = before["messages"][0]["content"].removeprefix("<image><image>")
            assert after["messages"][0]["content"] == f"<image><image>{said}\n{question}"
    text = (told / "stage1_hinted.jsonl").read_text()
    assert text.count(NO_HINT) > 5 < text.count(HINT.split("{")[0])
    assert not list(told.glob("test*_hinted.jsonl"))


def test_killed_in_processes_and_again(told, tmp_path, monkeypatch, capsys):
    class Killed(BaseException):
        pass

    rename, output, left = os.replace, tmp_path / "sample", [2]

    def replace(source, target):
        if "_hinted" in str(target):
            left[0] -= 1
            if not left[0]:
                raise Killed
        rename(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(Killed):
        run(output, "--hints", "map")
    monkeypatch.undo()
    assert run(output, "--hints", "map", "--workers", "2") == 0
    assert digests(output) == digests(told)
    out = capsys.readouterr().out
    threshold = json.loads((told / "hints.json").read_text())["threshold"]
    assert f"adcopilot inspect --hints map --map-threshold {threshold!r}" in out


def test_what_cannot_be_is_said_before_anything_is_drawn(tmp_path, capsys):
    output = tmp_path / "sample"
    assert run(output, "--hints", "map", "--prefix", "elsewhere/") == 2
    assert "--prefix elsewhere/" in capsys.readouterr().err
    assert main(["data", "sample", "--output", str(output), "--hints", "map", "--count", "0"]) == 2
    assert "--hints map finds its threshold on stage1" in capsys.readouterr().err
    assert not output.exists()
    parent = tmp_path / "data"
    assert run(parent / "sample", "--hints", "map", "--prefix", "sample/") == 0
    assert (parent / "sample/stage1_hinted.jsonl").exists()


def test_what_a_killed_run_left_half_written_is_removed(tmp_path):
    """And a temporary file of a run that did end, or of somebody else, is left alone."""
    output = tmp_path / "sample"
    assert run(output) == 0
    stale = output / "images/stage0/000/.000001_query.png.abc.tmp"
    stale.write_bytes(b"half")
    assert run(output) == 0
    assert stale.exists()
    (output / ".work/running").touch()  # what a kill leaves
    other = output / "images/notes.tmp"
    other.touch()
    assert run(output) == 0
    assert not stale.exists()
    assert other.exists()
    assert not (output / ".work/running").exists()
