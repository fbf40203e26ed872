"""The anomaly map in place of a model: verdicts, boxes and scores, and what it cannot answer."""

import json

import pytest
from PIL import Image

from adcopilot.cli import main
from adcopilot.evaluation.run_folder import read_records

from ...anomaly_map.test_comparing import plate
from ..benchmarks.mmad.mini_mmad import build

VERDICT = "Is there a defect in the second image? If yes, list the boxes."


@pytest.fixture
def file(tmp_path):
    """Records of one part: two good queries and two defective ones, each with a template of its own; boxes of one."""
    records = []
    for number in range(6):
        plate(gain=1 + number / 50, offset=number).save(tmp_path / f"good{number}.png")
        plate(defect=True, gain=1 + number / 60, shift=(number % 2, 0)).save(tmp_path / f"bad{number}.png")
    for number, (task, name) in enumerate([("verdict", "good"), ("verdict", "bad"), ("verdict", "good"),
                                           ("verdict", "bad"), ("loc", "bad"), ("loc", "bad")]):  # fmt: skip
        bad = name == "bad"
        right = (
            json.dumps([{"bbox_2d": [55, 43, 66, 54], "label": "spot"}]) if task == "loc" else "Yes." if bad else "No."
        )
        asked = {"verdict": VERDICT, "loc": "Where?"}[task]
        records.append(
            {
                "messages": [
                    {"role": "user", "content": f"<image><image>{asked}"},
                    {"role": "assistant", "content": right},
                ],
                "images": [f"good{number}.png", f"{name}{(number + 1) % 6}.png"],
                "task": task,
                "answer": right,
                "boxes": [[55, 43, 66, 54]] if bad else [],
                "category": "plate",
                "key": f"k{number}",
            }
        )
    path = tmp_path / "plates.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def run(tmp_path, capsys):
    """Run the command; exit code, scores, stderr, and the run's lines."""

    def run(*words, output="run"):
        folder = tmp_path / output
        code = main([*map(str, ("eval", *words, "--output", folder, "--json"))])
        out, err = capsys.readouterr()
        lines = list(read_records(folder)) if folder.is_dir() else []
        return code, json.loads(out) if out else None, err, lines

    return run


@pytest.mark.parametrize("who", [("--backend", "map"), ("--model", "none"), ("--backend", "map", "--model", "none")])
def test_records_have_verdicts_boxes_and_a_score(file, run, who):
    code, found, err, lines = run("records", file, *who, "--threshold", 0.1)
    assert (code, found["unread"]) == (0, {}), err
    assert found["columns"]["verdict"] == found["auroc"] == 100
    assert found["columns"]["loc"] > 50
    assert found["model"] == "anomaly map (pixels)"
    texts = [line["reply"]["text"] for line in sorted(lines, key=lambda line: line["meta"]["record"])]
    assert texts[0] == texts[2] == "No."
    assert all(text.startswith('Yes. [{"bbox_2d": [') and '"label": "difference"' in text for text in texts[1::2])


def test_what_a_run_depends_on_stands_in_its_manifest(file, run, tmp_path):
    run("records", file, "--backend", "map", "--threshold", 0.1, "--map-search", 3)
    backend = json.loads((tmp_path / "run/manifest.json").read_text())["identity"]["backend"]
    assert (backend["map"], backend["threshold"]) == ({"kind": "pixels", "search": 3}, 0.1)
    code, _, err, _ = run("records", file, "--backend", "map", "--threshold", 0.2, "--map-search", 3)
    assert code == 2
    assert "backend.threshold 0.1, now 0.2" in err


def test_a_threshold_from_the_templates_of_the_run(file, run, tmp_path):
    """Six templates of one category, compared with each other."""
    code, found, err, _ = run("records", file, "--backend", "map")
    assert code == 0, err
    assert found["columns"]["verdict"] == 100
    backend = json.loads((tmp_path / "run/manifest.json").read_text())["identity"]["backend"]
    assert 0 < backend["thresholds"]["plate"] < 0.2


def test_without_ground_there_is_no_verdict_but_a_score(file, run):
    """Four templates are none to find a threshold among."""
    words = ("records", file, "--backend", "map", "--limit", 4, "--max-lost", 1)
    _, found, err, lines = run(*words)
    assert found["unread"] == {"state no answer of verdict": 4}
    assert found["auroc"] == 100
    assert all(line["reply"]["text"].startswith("Undecided.") for line in lines)
    assert "no threshold for 1 of 1 categories (plate)" in err
    assert "--threshold" in err


def test_a_template_that_is_the_query_is_refused_with_the_reason(file, run, tmp_path):
    (tmp_path / "good0.png").write_bytes((tmp_path / "good1.png").read_bytes())
    plate().resize((96, 120)).save(tmp_path / "good2.png")
    _, found, _, _ = run("records", file, "--backend", "map", "--threshold", 0.1, "--max-lost", 1)
    assert found["refused"] == 2
    lines = list(read_records(tmp_path / "run", "refused*.jsonl"))
    reasons = {line["meta"]["record"]: line["reply"]["error"] for line in lines}
    assert "template is the query itself" in reasons["k0"]
    assert "has 120×96 pixels and its template 96×120" in reasons["k2"]


def test_mmad_bbox_with_normal_images_and_their_ranking(tmp_path, run):
    root = build(tmp_path / "MMAD")
    words = ("mmad-bbox", "--data-root", root, "--backend", "map", "--anomaly-score", "--threshold", 0.15)
    code, found, err, lines = run(*words)
    assert code == 0, err
    assert found["ranking"]["average"]["auroc"] == 100
    assert found["normal"]["without_boxes"] == 100
    assert found["overall"]["mean_iou"] > 50
    assert len(lines) == 16
    code, _, _, lines = run(*words, "--shots", 2, output="two")  # asks for the score apart
    assert (code, len(lines)) == (0, 32)
    assert {line["reply"]["text"] for line in lines if line["meta"]["role"] == "score"} == {"A", "B"}


def test_the_threshold_and_map_of_a_line(file, run, tmp_path, capsys):
    good = tmp_path / "good"
    good.mkdir()
    for number in range(6):
        (tmp_path / f"good{number}.png").rename(good / f"{number}.png")
        plate(gain=1 + number / 50, offset=number).save(tmp_path / f"good{number}.png")
    line = tmp_path / "line"
    assert main(["calibrate", "none", "--good", str(good), "--output", str(line), "--map-search", "3"]) == 0
    capsys.readouterr()
    threshold = json.loads((line / "inspection.json").read_text())["thresholds"]["map"]
    for number, place in enumerate((line, line / "inspection.json")):
        code, found, err, _ = run("records", file, "--backend", "map", "--line", place, output=f"of-line{number}")
        assert (code, found["columns"]["verdict"]) == (0, 100), err
        assert "found with 4 templates a picture, and 6 of 6 pairs have others (1)" in err, err
        backend = json.loads((tmp_path / f"of-line{number}/manifest.json").read_text())["identity"]["backend"]
        assert (backend["threshold"], backend["map"]["search"]) == (threshold, 3)
    code, _, err, _ = run("records", file, "--backend", "map", "--line", good, output="none")
    assert code == 2
    assert f"--line {good}: has no inspection.json" in err
    for words in (["--map", "features"], ["--map-search", "4"]):
        code, _, err, _ = run("records", file, "--backend", "map", "--line", line, *words, output="other")
        assert code == 2
        assert f"--line {line}: its threshold was found with other map settings" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["records", "{file}", "--backend", "map", "--model", "saves/7b"],
            "--backend map has no model, but --model is",
        ),
        (["records", "{file}", "--backend", "map", "--map", "off"], "nothing is left to compare with; give --map"),
        (["records", "{file}", "--backend", "map", "--thinking"], "--thinking is for a model"),
        (["records", "{file}", "--backend", "map", "--boxes", "both"], "--boxes both is for the answers of a model"),
        (["records", "{file}", "--model", "m", "--threshold", "1"], "--threshold is of an anomaly map, and none is"),
        (["records", "{file}", "--backend", "map", "--threshold", "11"], "--threshold is 11.0, expected 0 to 10"),
        (["records", "{file}", "--backend", "map", "--map", "features"], "give --map-backbone FOLDER_OR_ID"),
        (["mmad-bbox", "--backend", "map", "--shots", "0", "--data-root", "{mmad}"], "no template to compare with"),
        (["mmad", "--backend", "map", "--data-root", "{mmad}"], "these questions want words: give --model DIR"),
        (["caption", "--model", "none", "--data-root", "{mmad}"], "these questions want words: give --model DIR"),
    ],
)
def test_what_a_map_cannot_do_is_said_in_a_line(file, mini_mmad, run, words, said):
    code, _, err, _ = run(*(word.format(file=file, mmad=mini_mmad) for word in words))
    assert code == 2
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_a_task_of_words_is_named(file, run):
    record = json.loads(file.read_text().splitlines()[0]) | {"task": "count", "answer": "2", "key": "many"}
    file.write_text(json.dumps(record) + "\n")
    code, _, err, _ = run("records", file, "--backend", "map")
    assert code == 2
    assert "record many: its task is count, but a map gives verdicts and boxes alone; add --task loc" in err


def test_a_picture_that_cannot_be_read_costs_its_own_question(file, run, tmp_path):
    whole = (tmp_path / "bad2.png").read_bytes()
    (tmp_path / "bad2.png").write_bytes(whole[: len(whole) // 2])
    code, _, err, lines = run("records", file, "--backend", "map", "--threshold", 0.1)
    assert code == 1
    assert len(lines) == 5
    assert "bad2.png" in err
    (tmp_path / "bad2.png").write_bytes(whole)
    assert Image.open(tmp_path / "bad2.png").size == (120, 96)


@pytest.mark.parametrize("data_root", ["data", "data/.", "{whole}/data"])
def test_the_reports_gallery_shows_them_however_the_data_root_was_typed(
    data_root, file, run, tmp_path, monkeypatch, capsys
):
    (tmp_path / "data").mkdir()
    for picture in tmp_path.glob("*.png"):
        picture.rename(tmp_path / "data" / picture.name)
    monkeypatch.chdir(tmp_path)
    root = data_root.format(whole=tmp_path)
    assert run("records", file, "--data-root", root, "--backend", "map", "--threshold", 0.1)[0] == 0
    assert main(["eval", "report", "run", "--output", "report"]) == 0
    assert "could not be shown" not in capsys.readouterr().out
    assert "data:image/png;base64" in (tmp_path / "report/report.html").read_text()
