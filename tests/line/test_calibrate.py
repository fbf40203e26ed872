"""`adcopilot calibrate` and what `inspect` makes of it: threshold, templates, report, marks, bad input."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from adcopilot.anomaly_map.comparing import Mapper
from adcopilot.jsonl import file_digest
from adcopilot.line.marks import read_marks
from adcopilot.sample.photographs import photographs


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    return photographs(tmp_path_factory.mktemp("parts"), good=14, bad=6)


@pytest.fixture(scope="module")
def today(parts, tmp_path_factory):
    """Pictures of the next day, labelled by their folders."""
    return photographs(tmp_path_factory.mktemp("today"), good=3, bad=3, first=100)


@pytest.fixture
def bad(parts, tmp_path):
    """The defective pictures in folders of their kinds."""
    for kind in sorted(parts.iterdir()):
        if kind.name not in ("good", "ground_truth"):
            shutil.copytree(kind, tmp_path / "bad" / kind.name)
    return tmp_path / "bad"


def test_good_pictures_alone(parts, run):
    code, out, _ = run("calibrate", "none", "--good", parts / "good")
    assert code == 0
    assert "twice the median score of 14 good pictures" in out
    assert out.splitlines()[-1].startswith("adcopilot inspect --model none --template-dir")


def test_a_line_without_a_model(parts, bad, today, tmp_path, run, monkeypatch):
    line = tmp_path / "line"
    code, out, err = run("calibrate", "none", "--good", parts / "good", "--bad", bad, "--output", line)
    assert code == 0, err
    found = json.loads((line / "inspection.json").read_text())
    assert found["verdict_from"] == "map"
    assert found["threshold_from"].startswith("the best F1")
    assert found["metrics"]["defective"] == 6
    assert found["metrics"]["auroc"] > 0.9
    assert sum(one["pictures"] for one in found["metrics"]["kinds"].values()) == 6
    assert sorted(path.name for path in (line / "templates").glob("[!.]*")) == [f"{k:03d}.png" for k in range(14)]
    page = (line / "report.html").read_text()
    assert "Here each picture judged by a threshold from the others, in 5 parts; the verdicts below" in page
    # what the numbers do not support stands before them
    assert page.index(found["warnings"][0][:20]) < page.index("How right it was</h2>")
    # each row has its verdict by the threshold that was found, and boxes where there is something
    rows = [json.loads(row) for row in (line / "calibration.jsonl").read_text().splitlines()]
    assert len(rows) == 20
    for row in rows:
        assert row["anomalous"] == (row["score"] >= found["threshold"]) == bool(row["boxes"])
        assert "reason" not in row
        assert row["settings"]["map_threshold"] == found["threshold"]
    # again: the same, from what was kept; maps are made once more, for the page
    before = (line / "calibration.jsonl").read_bytes()
    compared, compare = [], Mapper.compare
    monkeypatch.setattr(Mapper, "compare", lambda *of: compared.append(of) or compare(*of))
    assert run("calibrate", "none", "--good", parts / "good", "--bad", bad, "--output", line)[1] == out
    assert (line / "calibration.jsonl").read_bytes() == before
    assert len(compared) == 20
    # the folder is all that inspect needs
    lines = tmp_path / "shift.jsonl"
    shutil.rmtree(today / "ground_truth")
    words = ("inspect", "--model", line, "--query-dir", today, "--report", tmp_path / "shift.html", "--output", lines)
    code, _, err = run(*words)
    assert code == 0
    results = [json.loads(one) for one in lines.read_text().splitlines()]
    right = [one["anomalous"] == ("/good/" not in one["query"]) for one in results]
    assert np.mean(right) >= 0.8
    page = (tmp_path / "shift.html").read_text()
    assert "Defects missed" in page
    # another threshold asks nothing again and decides anew
    before = lines.read_bytes()
    code, out, _ = run(*words[:-4], "--output", lines, "--threshold", "9", "--json")
    assert lines.read_bytes() == before
    assert {json.loads(one)["verdict"] for one in out.splitlines()} == {"normal"}


def test_marks_come_before_folders(parts, bad, tmp_path, run, refusal):
    wrong = parts / "good" / "000.png"
    marks = tmp_path / "marks.jsonl"
    one = {"query": str(wrong), "digest": file_digest(wrong), "good": False, "kind": "stain", "when": "2026-11-27"}
    marks.write_text(json.dumps({**one, "good": True, "kind": ""}) + "\n" + json.dumps(one) + "\n")
    assert read_marks(marks)[one["digest"]].kind == "stain"
    line = tmp_path / "line"
    words = ("calibrate", "none", "--good", parts / "good", "--bad", bad, "--output", line, "--marks", marks)
    assert run(*words)[0] == 0
    found = json.loads((line / "inspection.json").read_text())
    assert "13 good and 7 defective" in found["threshold_from"]
    assert (found["metrics"]["good"], found["metrics"]["defective"]) == (13, 6)  # not measured on the marked one
    assert "000.png" not in [path.name for path in (line / "templates").iterdir()]
    marks.write_text(json.dumps({**one, "digest": "0" * 64}) + "\n")
    assert "1 of 1 marked pictures are not there" in refusal(*words)


def test_bad_input_is_one_line_before_anything_long(parts, bad, tmp_path, refusal, capsys, monkeypatch):
    def said(*words):
        return refusal("calibrate", "none", *words)

    empty, one, mixed = tmp_path / "empty", tmp_path / "one", tmp_path / "mixed"
    empty.mkdir()
    one.mkdir()
    shutil.copy(parts / "good/000.png", one)
    assert "no images in it" in said("--good", empty)
    assert "1 good picture in it, expected 2 or more" in said("--good", one)
    mixed.mkdir()
    for index in range(4):
        shutil.copy(parts / f"good/{index:03d}.png", mixed / f"a{index}.png")
        Image.effect_noise((84, 84), 4).point(lambda value: value / 8).convert("RGB").save(mixed / f"b{index}.png")
    assert "fall into groups" in said("--good", mixed)
    Image.new("RGB", (30, 84)).save(mixed / "c.png")
    assert "c.png: has another shape than most good pictures (1 of 9 have)" in said("--good", mixed)
    assert "or --mixed where one line shows both" in said("--good", mixed)
    assert "--max-missed needs pictures of defective parts" in said("--good", parts / "good", "--max-missed", "1%")
    with pytest.raises(SystemExit):
        said("--good", parts / "good", "--max-missed", "7")
    assert "7 is no share, expected 0 to 1" in capsys.readouterr().err
    assert "nothing is left" in said("--good", parts / "good", "--map", "off")
    assert "lies inside" in said("--good", parts / "good", "--output", parts / "good/line")
    same = tmp_path / "same"
    shutil.copytree(parts / "good", same)
    assert "are the same picture, once good and once defective" in said("--good", parts / "good", "--bad", same)
    # all that are damaged at once, before one is compared
    broken = [same / "003.png", *sorted(bad.rglob("*.png"))[2:4]]
    for file in broken:
        file.write_bytes(file.read_bytes()[:-200])
    monkeypatch.setattr(Mapper, "compare", None)
    line = said("--good", same, "--bad", bad)
    assert f"{broken[0]}: the image is truncated or corrupt" in line
    assert line.endswith(f"; 2 more cannot be used: {broken[1]}, {broken[2]}")
    # a damaged template would be one of the line's
    assert f"{broken[0]}: the image is truncated" in said("--good", parts / "good", "--template-dir", same)


def test_tiles_are_cut_as_they_happened_to_be(parts, bad, tmp_path, run):
    """Shapes that lie close together are of one part; each is compared with those of its own, the others left out."""
    folder = tmp_path / "tiles"
    for kind, files in (("good", parts / "good"), ("bad", min(bad.iterdir()))):
        (folder / kind).mkdir(parents=True)
        for index, file in enumerate(sorted(files.iterdir())):
            with Image.open(file) as image:
                image.crop((0, 0, 84, 84 - 4 * (index % 7))).save(folder / kind / file.name)
    with Image.open(folder / "bad" / sorted(path.name for path in (folder / "bad").iterdir())[0]) as image:
        image.crop((0, 0, 84, 40)).save(folder / "bad/low.png")
    words = ("calibrate", "none", "--good", folder / "good", "--bad", folder / "bad", "--output", tmp_path / "line")
    code, out, err = run(*words)
    assert code == 0, err
    found = json.loads((tmp_path / "line/inspection.json").read_text())
    assert found["metrics"]["good"] == 14
    assert found["metrics"]["defective"] == len(list((folder / "bad").iterdir())) - 1
    assert "note: 1 of" in out
    assert "(low.png) have a shape that no other good picture has" in found["warnings"][0]


@pytest.mark.forward
def test_a_model_and_its_map(parts, bad, deciding_dir, tmp_path, run):
    line = tmp_path / "line"
    shutil.copytree(deciding_dir, line)
    words = ("calibrate", line, "--good", parts / "good", "--bad", bad, "--device", "cpu", "--max-new-tokens", "2")
    code, _, err = run(*words)
    assert code == 0, err
    found = json.loads((line / "inspection.json").read_text())
    assert set(found["thresholds"]) == {"model", "map"}
    assert found["verdict_from"] == "map"  # six defective pictures are too few to choose by
    assert "too few to choose by" in found["why"]
    query = bad / sorted(path.name for path in bad.iterdir())[0]
    query = sorted(query.iterdir())[0]
    words = ("inspect", "--model", line, "--query", query, "--device", "cpu", "--max-new-tokens", "2", "--json")
    code, out, _ = run(*words)
    result = json.loads(out.splitlines()[0])
    assert result["verdict_from"] == "map"
    assert result["anomalous"] == (result["map_score"] >= found["threshold"])
    assert {"score", "map_score", "map_boxes"} <= result.keys()
    # calibrated without a model later: the one whose files still lie there answers nothing
    assert run("calibrate", "none", "--good", parts / "good", "--output", line)[0] == 0
    code, out, _ = run(*words)
    result = json.loads(out.splitlines()[0])
    assert (code, result["text"], "map_score" in result) == (0, "", False)
