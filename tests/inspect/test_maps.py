"""`adcopilot inspect` by an anomaly map: without a model, beside one, kept maps, thresholds, several templates."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from adcopilot.inspect.judging import Judge
from adcopilot.inspect.result import Result

from .conftest import defects, part


def test_one_pair_without_a_model(parts, tmp_path, inspect):
    pair = ("--template", parts / "good/000.png", "--query", defects(parts)[0])
    code, [line], _ = inspect(*pair, "--json", "--save-maps", tmp_path / "maps")
    assert code == 0
    assert (line["verdict"], line["anomalous"]) == ("undecided", None)
    assert "adcopilot calibrate none --good DIR" in line["reason"]
    assert line["boxes"]
    assert {one["label"] for one in line["boxes"]} == {"difference"}
    assert line["text"] == ""
    with Image.open(tmp_path / "maps" / defects(parts)[0].name) as kept:
        values = np.asarray(kept)
    assert (values.dtype, values.shape) == (np.uint16, (84, 84))
    assert values.max() / 65535 == pytest.approx(min(1, line["score"]), rel=0.2)
    # with a threshold there is a verdict, and boxes of what is above it
    for threshold, verdict in ((0.05, "anomalous"), (5, "normal")):
        _, [line], _ = inspect(*pair, "--json", "--threshold", threshold)
        assert line["verdict"] == verdict
        assert bool(line["boxes"]) == (verdict == "anomalous")
    _, [grown], _ = inspect(*pair, "--json", "--threshold", 0.05, "--box-growth", 2)
    _, [line], _ = inspect(*pair, "--json", "--threshold", 0.05)
    x1, y1, x2, y2 = line["boxes"][0]["bbox_2d"]
    assert grown["boxes"][0]["bbox_2d"] == [max(0, x1 - 2), max(0, y1 - 2), min(84, x2 + 2), min(84, y2 + 2)]


def test_templates_give_a_threshold_among_each_other(parts, tmp_path, inspect):
    for name in ("one", "five"):
        (tmp_path / name).mkdir()
    for index, file in enumerate(sorted((parts / "good").iterdir())[:7]):
        folder = "five" if index < 6 else "one"
        (tmp_path / folder / file.name).write_bytes(file.read_bytes())
    query = ("--query", defects(parts)[0], "--json")
    _, [line], err = inspect("--template-dir", tmp_path / "five", *query)
    assert "twice the median score of 6 good pictures, compared with each other" in err
    assert line["verdict"] == "anomalous"
    _, [line], err = inspect("--template-dir", tmp_path / "one", *query)
    assert line["verdict"] == "undecided"


def test_several_templates_leave_less_that_differs(parts, inspect):
    words = ("--template-dir", parts / "good", "--query", parts / "good/000.png", "--json", "--threshold", "1")
    one, several = (inspect(*words, "--map-templates", count)[1][0]["score"] for count in (1, 4))
    assert several < one


def test_a_table_for_a_spreadsheet(parts, tmp_path, inspect, monkeypatch):
    queries = tmp_path / "today"
    queries.mkdir()
    for name, file in (("=1+1.png", defects(parts)[0]), ("b.png", parts / "good/001.png")):
        (queries / name).write_bytes(file.read_bytes())
    (queries / "c.png").write_bytes(b"no picture")
    monkeypatch.chdir(queries)
    words = ("--template", parts / "good/000.png", "--query-dir", ".", "--threshold", "0.1")
    code, _, _ = inspect(*words, "--csv", tmp_path / "t.csv")
    assert code == 1
    with open(tmp_path / "t.csv", encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["query"] for row in rows] == ["'=1+1.png", "b.png", "c.png"]
    assert [row["verdict"] for row in rows] == ["anomalous", "normal", "undecided"]
    *corners, label = json.loads(rows[0]["boxes"])[0]
    assert label == "difference"
    assert len(corners) == 4
    assert "c.png" in rows[2]["error"]


def test_the_picture_itself_and_another_view_have_no_verdict(parts, tmp_path, inspect):
    good = parts / "good/000.png"
    _, [line], _ = inspect("--template", good, "--query", good, "--json", "--threshold", "0.1")
    assert (line["verdict"], line["score"]) == ("undecided", None)
    assert "the template is the query itself" in line["reason"]
    part(size=(84, 40)).save(tmp_path / "wide.png")
    code, [line], _ = inspect("--template", tmp_path / "wide.png", "--query", good, "--json", "--threshold", "0.1")
    assert code == 1
    assert "another shape than the query's 84×84" in line["error"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--map", "off"), "nothing is left to inspect with"),
        (("--map", "features"), "give --map-backbone"),
        (("--verdict-from", "model"), "there is no model here"),
        (("--threshold", "-1"), "--threshold is -1.0, expected 0 to 10"),
        (("--map-templates", "100"), "--map-templates is 100, expected 1 to 64"),
        (("--save-maps", "maps", "--map", "off"), "there is no map with --map off"),
        (("--report", "page.txt"), "give a name that ends in .html"),
    ],
)
def test_bad_options_are_one_line(parts, refusal, words, message):
    good = parts / "good"
    pair = ("--template", good / "000.png", "--query", good / "001.png")
    assert message in refusal("inspect", "--model", "none", *pair, *words)


@pytest.mark.forward
def test_beside_a_model(deciding_dir, parts, tmp_path, inspect):
    model = ("--device", "cpu", "--max-new-tokens", "2")
    pair = ("--template", parts / "good/000.png", "--query", defects(parts)[0], "--json")
    _, [line], _ = inspect(*pair, *model, model=deciding_dir)
    assert line["map_score"] > 0
    assert line["map_boxes"]
    assert "verdict_from" not in line
    _, [off], _ = inspect(*pair, *model, "--map", "off", model=deciding_dir)
    assert off.keys() == line.keys() - {"map_score", "map_boxes"}
    assert {key: off[key] for key in off} == {key: line[key] for key in off}
    # the map decides where it is asked to, and what the two disagree about is said
    words = (*pair, *model, "--verdict-from", "map", "--threshold")
    _, [high], _ = inspect(*words, "9", model=deciding_dir)
    _, [low], _ = inspect(*words, "0.01", model=deciding_dir)
    assert (high["verdict"], low["verdict"], low["verdict_from"]) == ("normal", "anomalous", "map")
    assert [one.get("disagree", False) for one in (high, low)] in ([True, False], [False, True])
    # a stored answer gets other thresholds, and its map anew, without a question
    output = tmp_path / "lines.jsonl"
    _, [first], _ = inspect(*words, "9", "--output", output, model=deciding_dir)
    kept = output.read_bytes()
    _, [second], _ = inspect(*words, "0.01", "--output", output, "--save-maps", tmp_path / "maps", model=deciding_dir)
    assert output.read_bytes() == kept
    assert (first["map_boxes"], second["map_boxes"]) == (high["map_boxes"], low["map_boxes"])
    assert (first["score"], first["verdict"], second["verdict"]) == (second["score"], "normal", "anomalous")
    assert list((tmp_path / "maps").iterdir())


def test_what_cannot_be_seen_is_not_called_normal(parts, tmp_path, inspect):
    good = parts / "good/000.png"
    with Image.open(defects(parts)[0]) as image:
        image.resize((30, 30)).save(tmp_path / "small.png")
    _, [line], _ = inspect("--template", good, "--query", tmp_path / "small.png", "--json", "--threshold", "5")
    assert line["verdict"] == "undecided"
    assert "the query has 30×30 pixels, 13% of its template's" in line["reason"]
    with Image.open(good) as image:
        wide = image.resize((168, 168))
    wide.crop((0, 0, 132, 168)).save(tmp_path / "query.png")
    wide.crop((36, 0, 168, 168)).save(tmp_path / "template.png")  # the query's left quarter is not in it
    words = ("--template", tmp_path / "template.png", "--query", tmp_path / "query.png", "--json", "--threshold", "5")
    _, [line], _ = inspect(*words)
    assert line["verdict"] == "undecided"
    assert "of the query's view, 90% are needed" in line["reason"]


def test_no_picture_of_the_users_is_overwritten(parts, tmp_path, inspect):
    query, template = tmp_path / "query.png", tmp_path / "template.png"
    for file, source in ((query, defects(parts)[0]), (template, parts / "good/000.png")):
        file.write_bytes(source.read_bytes())
    pair = ("--template", template, "--query", query)
    for words in (("--draw", query), ("--draw", template), ("--draw", tmp_path), ("--save-maps", tmp_path)):
        code, _, err = inspect(*pair, *words)
        assert (code, "overwritten" in err) == (2, True), words
    assert query.read_bytes() == defects(parts)[0].read_bytes()
    code, _, err = inspect(*pair, "--csv", tmp_path)
    assert (code, "--csv" in err, "cannot be written" in err) == (2, True, True)
    # two names that one picture's name could be made from have two
    today = tmp_path / "today"
    today.mkdir()
    for name in ("a.jpg", "a.jpg.png"):
        with Image.open(query) as image:
            image.save(today / name)
    made = ("--draw", tmp_path / "drawn", "--save-maps", tmp_path / "maps")
    inspect("--template", template, "--query-dir", today, *made)
    assert len(list((tmp_path / "drawn").iterdir())) == len(list((tmp_path / "maps").iterdir())) == 2


def test_another_map_than_the_lines_has_no_threshold(parts, tmp_path, run, inspect):
    line = tmp_path / "line"
    assert run("calibrate", "none", "--good", parts / "good", "--output", line)[0] == 0
    query = ("--query", defects(parts)[0], "--json")
    _, [own], _ = inspect(*query, model=line)
    assert own["verdict"] == "anomalous"
    _, [grown], _ = inspect(*query, "--box-growth", 3, model=line)
    assert grown["verdict"] == "anomalous"
    for words in (("--map-search", 1), ("--map-templates", 1)):
        _, _, err = inspect(*query, *words, model=line)
        assert "its threshold was found with other map settings" in err
        assert "8 good pictures, compared with each other" in err  # by these settings


def test_a_judge_takes_either():
    def result(score, of_map):
        return Result(query="q", template="t", score=score, yes_no_mass=1.0, map_score=of_map, text="")

    judge = Judge(source="either", model_threshold=0.5, map_threshold=0.3)
    found = [judge.judged(result(*one)).verdict for one in ((0.9, 0.1), (0.1, 0.9), (0.1, 0.1), (0.9, 0.9))]
    assert found == ["anomalous", "anomalous", "normal", "anomalous"]
    assert [judge.disagree(result(*one)) for one in ((0.9, 0.1), (0.1, 0.9), (0.1, 0.1))] == [True, True, False]
    unsure = Result(query="q", template="t", score=0.9, yes_no_mass=0.01, map_score=0.1, text="Hm")
    assert judge.judged(unsure).verdict == "undecided"
    no_map = Judge(source="map")
    assert "no threshold is known" in no_map.judged(result(0.9, 0.9)).reason
    partial = Result(
        query="q", template="t", score=0.1, yes_no_mass=1.0, map_score=0.1, map_doubt="only 40 %", text=""
    )
    map_judge = Judge(source="map", map_threshold=0.3)
    assert map_judge.judged(partial).reason == "only 40 %"
    assert map_judge.judged(Result(**{**partial.__dict__, "map_score": 0.4})).verdict == "anomalous"


@pytest.mark.forward
def test_a_verdict_about_an_animations_first_frame_says_so(parts, speaking_dir, tmp_path, inspect):
    """In its line and in what is stored, beside a model and without one; of a still picture nothing is said."""
    told = "2 frames or pages; only the first is used"
    with Image.open(defects(parts)[0]) as image:
        image.save(tmp_path / "b.gif", save_all=True, append_images=[image.rotate(90)])
        image.save(tmp_path / "a.png")
    words = ["--template", parts / "good/000.png", "--query-dir", tmp_path, "--json"]
    _, [still, moving], err = inspect(*words, "--threshold", 0.05)
    assert told in err
    assert (still["verdict"], "reason" in still) == ("anomalous", False)
    assert (moving["verdict"], moving["reason"]) == ("anomalous", f"{tmp_path / 'b.gif'}: {told}")
    options = ("--device", "cpu", "--max-new-tokens", 2, "--output", tmp_path / "lines.jsonl")
    inspect(*words, *options, model=speaking_dir)
    stored = [json.loads(line) for line in (tmp_path / "lines.jsonl").read_text().splitlines()]
    assert ["note" in line for line in stored] == [False, True]
    assert told in stored[1]["note"]
