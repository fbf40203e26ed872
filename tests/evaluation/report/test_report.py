"""`adcopilot eval report` from runs to its files."""

import json
import re
from pathlib import Path

import pytest

from adcopilot import cli
from adcopilot.evaluation.report.charts import bars, charts, heat, lines
from adcopilot.evaluation.table import Row, Table

from ..backends.endpoint import Endpoint, completion
from ..benchmarks.captions.test_captions_dataset import pairs_folder
from ..benchmarks.unipcb import mini_unipcb
from ..benchmarks.unipcb.test_unipcb_command import perfect
from .report_runs import EVIL, Scripted, evaluate, make_runs, report, rows_of
from .test_report_sources import write_csv


@pytest.fixture(scope="module")
def runs(mini_mmad, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        return make_runs(patch, mini_mmad, tmp_path_factory.mktemp("runs"))


def results(run, name="results.json"):
    return json.loads((Path(run.rpartition("=")[2]) / name).read_text())


def test_the_files(runs, tmp_path, capsys):
    table = write_csv(tmp_path / "answers_1_shot_Other_accuracy.csv", {"VisA": [50] * 11 + [1]})
    report(*runs, "--output", tmp_path / "out", "--against", "published", "--against", table)
    printed = capsys.readouterr().out.split()
    assert sorted(printed) == sorted(map(str, (tmp_path / "out").iterdir()))
    own = rows_of(tmp_path / "out/mmad.csv")
    assert len(own) == 3 + 1 + 21
    assert [row["published"] for row in own[:5]] == ["no", "no", "no", "yes", "yes"]
    for row, run in zip(own, runs, strict=False):
        if row["published"] == "no":
            found = results(run)
            assert float(row["Average"]) == found["average"]["average"]
            assert float(row["Anomaly Discrimination"]) == found["average"]["Anomaly Detection"]
            assert [float(row["Average 2.5%"]), float(row["Average 97.5%"])] == found["interval"]["average"]
            assert "only a part: 72 of MMAD's 39,672 questions" in row["from"]
    assert (own[3]["name"], own[3]["Average"], own[3]["from"]) == ("Other", "50.0", table.name)
    assert (own[-1]["name"], own[-1]["Average"], own[-1]["F1"]) == ("AD-Copilot† 7B", "82.29", "")
    assert {row["from"] for row in own[4:]} == {"AD-Copilot paper, Table II"}
    boxes = rows_of(tmp_path / "out/mmad-bbox.csv")
    assert len(boxes) == 2 + 7
    assert float(boxes[1]["ACC@0.3"]) == results(runs[4])["overall"]["accuracy"]["0.3"]
    pairs = rows_of(tmp_path / "out/pairs.csv")
    assert {(row["benchmark"], row["first"], row["second"]) for row in pairs} == {
        ("mmad", "Weak-7B", "Strong-7B"), ("mmad", "Weak-7B", EVIL), ("mmad-bbox", "Weak-7B", "Strong-7B"),
    }  # fmt: skip
    (average,) = [row for row in pairs if row["second"] == "Strong-7B" and row["column"] == "average"]
    gain = results(runs[1])["average"]["average"] - results(runs[0])["average"]["average"]
    assert float(average["difference"]) == pytest.approx(gain)
    assert 0 < float(average["2.5%"]) < gain < float(average["97.5%"])


def test_every_number_says_how_it_was_made(runs, tmp_path):
    report(*runs[:1], "--output", tmp_path / "out", "--seed", 5)
    found = {row["setting"]: row["value"] for row in rows_of(tmp_path / "out/settings.csv")}
    manifest = results(runs[0], "manifest.json")
    assert found["data"] == manifest["identity"]["data"]
    assert found["prompts"] == manifest["identity"]["prompts"]
    assert found["adcopilot"] == manifest["adcopilot"]
    assert (found["backend.images.max_pixels"], found["backend.versions.torch"]) == ("12345", "9.9")
    assert (found["backend.decoding"], found["report.seed"]) == ("greedy", "5")
    for name in ("report.html", "report.md"):
        text = (tmp_path / "out" / name).read_text()
        assert manifest["identity"]["data"] in text
        assert "12345" in text
    # Without --against there is nothing published.
    assert [row["name"] for row in rows_of(tmp_path / "out/mmad.csv")] == ["Weak-7B"]
    assert "paper, Table" not in (tmp_path / "out/report.html").read_text()


def test_the_same_runs_give_the_same_bytes_and_the_seed_decides(runs, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        report(*runs, "--output", tmp_path / name, "--seed", seed, "--samples", 10)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
    cards = [re.findall(r'class="where">.*', (tmp_path / name / "report.html").read_text()) for name in "ac"]
    assert len(cards[0]) == len(cards[1]) == 10
    assert cards[0] != cards[1]


def test_the_gallery_is_bounded(runs, tmp_path, capsys):
    report(*runs, "--output", tmp_path / "none", "--samples", 0)
    assert "data:image" not in (tmp_path / "none/report.html").read_text()
    report(*runs, "--output", tmp_path / "small", "--samples", 20, "--max-mib", 0.05)
    text = (tmp_path / "small/report.html").read_text()
    pictures = re.findall(r'src="(data:image[^"]*)"', text)
    assert 0 < sum(map(len, pictures)) <= 0.05 * 2**20
    assert "no room for it" in text
    assert "pictures of the gallery could not be shown" in capsys.readouterr().out


def test_cards_of_mmad_show_where_the_mask_is(runs, mini_mmad, tmp_path):
    report(runs[1], "--output", tmp_path / "out", "--samples", 72)
    text = (tmp_path / "out/report.html").read_text()
    cards = [card for card in text.split("<article")[1:] if "bad/000.JPG" in card]
    assert cards
    for card in cards:  # the mask's two regions: 20 × 12 at (10, 14), and one in the corner
        assert re.search(r'class="box c3" x="10.0" y="14.0" width="20.0"\s+height="12.0"', card)
        assert "true: 2 boxes" in card
    assert all("box c3" not in card for card in text.split("<article")[1:] if "good/" in card.split("</header>")[0])
    # Without the masks there are none, and the report is made all the same.
    moved = json.loads((Path(runs[1]) / "manifest.json").read_text())
    run = tmp_path / "moved"
    run.mkdir()
    for file in Path(runs[1]).iterdir():
        (run / file.name).write_bytes(file.read_bytes())
    moved["selection"]["data_root"] = str(tmp_path)
    (run / "manifest.json").write_text(json.dumps(moved))
    report(run, "--output", tmp_path / "none", "--samples", 72)
    assert "box c3" not in (tmp_path / "none/report.html").read_text()


def test_both_verdicts_and_the_boxes_are_there(runs, tmp_path):
    report(*runs[3:], "--output", tmp_path / "out", "--samples", 64)
    text = (tmp_path / "out/report.html").read_text()
    assert {">right<", ">wrong<"} <= set(re.findall(r">(?:right|wrong)<", text))
    # The first kind's masks: a box of 20 × 12 at (10, 14), and what was said.
    assert re.search(r'class="box c3" x="10.0" y="14.0" width="20.0"\s+height="12.0"', text)
    assert re.search(r'class="box c0 told" x="10.0" y="14.0" width="20.0"\s+height="12.0"', text)
    assert re.search(r'class="box c0 told" x="30.0" y="40.0" width="20.0"\s+height="12.0"', text)


def test_hostile_names_and_answers_stay_text(runs, tmp_path):
    report(*runs, "--output", tmp_path / "out", "--samples", 200)
    text = (tmp_path / "out/report.html").read_text()
    assert "<img src=x" not in text
    assert text.count("<script>") == text.count("</script>") == 1
    assert "&lt;img src=x" in text
    table = (tmp_path / "out/report.md").read_text()
    assert "<img" not in table.replace("\\<img", "")
    formula = f"=HYPERLINK(1)={runs[0]}"
    report(formula, "--output", tmp_path / "cells")
    assert rows_of(tmp_path / "cells/mmad.csv")[0]["name"] == "'=HYPERLINK(1)"


def test_images_that_are_gone_or_elsewhere(mini_mmad, tmp_path, monkeypatch, capsys):
    moved = tmp_path / "moved"
    (tmp_path / "data").symlink_to(mini_mmad)
    run = evaluate(monkeypatch, "mmad", tmp_path / "data", tmp_path / "run", Scripted(name="M", share=0.5))
    (tmp_path / "data").unlink()
    report(run, "--output", tmp_path / "out", "--samples", 6)
    assert "12 pictures of the gallery could not be shown" in capsys.readouterr().out
    assert "name the folder it is in by --data-root" in (tmp_path / "out/report.html").read_text()
    moved.symlink_to(mini_mmad)
    report(run, "--output", tmp_path / "out", "--samples", 6, "--data-root", moved)
    assert "could not be shown" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--samples", 1001], "--samples is 1001, expected 0 to 1000"),
        (["--draws", 9], "--draws is 9, expected 100 to 100000"),
        (["--max-mib", -1], "--max-mib is -1, expected 0 to 500"),
        (["--data-root", "nowhere"], "--data-root nowhere: no such folder"),
        (["--against", "nothing.csv"], "nothing.csv: cannot be read"),
    ],
)
def test_bad_options(runs, tmp_path, capsys, args, message):
    report(runs[0], "--output", tmp_path / "out", *args, code=2)
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    report(runs[0], "--output", tmp_path / "file", code=2)
    assert "is a file, expected a folder" in capsys.readouterr().err


def test_damaged_results_are_named(runs, tmp_path, capsys):
    copy = tmp_path / "run"
    copy.mkdir()
    (copy / "manifest.json").write_text(json.dumps(results(runs[0], "manifest.json")))
    broken = results(runs[0]) | {"average": [1]}
    (copy / "results.json").write_text(json.dumps(broken))
    report(copy, "--output", tmp_path / "out", code=2)
    assert "not as this version writes them" in capsys.readouterr().err
    (copy / "results.json").write_text(json.dumps(results(runs[0]) | {"questions": float("nan")}))
    report(copy, "--output", tmp_path / "out", code=2)
    assert "results.json: not JSON" in capsys.readouterr().err
    report(tmp_path / "nowhere", "--output", tmp_path / "out", code=2)
    assert "no such file or folder; expected a run" in capsys.readouterr().err


def test_runs_of_the_same_name_are_told_apart(runs, tmp_path):
    report(runs[0], runs[0], "--output", tmp_path / "out")
    assert [row["name"] for row in rows_of(tmp_path / "out/mmad.csv")] == ["Weak-7B [weak]", "Weak-7B [weak] 2"]
    assert {float(row["difference"]) for row in rows_of(tmp_path / "out/pairs.csv")} == {0.0}


def test_an_answer_file_beside_a_run(runs, tmp_path):
    (file,) = Path(runs[0]).glob("answers_1_shot_*.json")
    report(runs[0], f"its file={file}", "--output", tmp_path / "out")
    run, answers = rows_of(tmp_path / "out/mmad.csv")
    assert (answers["name"], answers["Average"]) == ("its file", run["Average"])
    assert {float(row["difference"]) for row in rows_of(tmp_path / "out/pairs.csv")} == {0.0}


def test_unipcb_and_captions(tmp_path):
    pytest.importorskip("pycocoevalcap", reason="it is the captions' scorer")
    unipcb, pairs = mini_unipcb.build(tmp_path / "unipcb"), pairs_folder(tmp_path)
    runs = []
    for name, respond in (("good", perfect), ("bad", lambda body, number: completion("A"))):
        with Endpoint(respond) as endpoint:
            assert cli.main(["eval", "unipcb", "--data-root", str(unipcb), "--backend", "api", "--base-url",
                             endpoint.url, "--model", name, "--family", "seed", "--sbert", "none", "--bertscore",
                             "none", "--max-lost", "1", "--output", str(tmp_path / name)]) == 0  # fmt: skip
        runs.append(tmp_path / name)
    with Endpoint(lambda body, number: completion(f"The cup is gone. {EVIL}")) as endpoint:
        words = ["--data-root", pairs, "--backend", "api", "--base-url", endpoint.url, "--model", "vlm"]
        words += ["--tokenizer", "plain", "--output", tmp_path / "captions"]
        assert cli.main(["eval", "caption", *map(str, words)]) == 0
    report(*runs, tmp_path / "captions", "--output", tmp_path / "out", "--against", "published")
    table = rows_of(tmp_path / "out/unipcb.csv")
    assert [row["name"] for row in table[:3]] == ["good", "bad", "Qwen2.5-VL-7B"]
    assert float(table[0]["Acc P2"]) == 100
    assert table[0]["LLM as Judge"] == table[0]["Average"] == ""
    captions = rows_of(tmp_path / "out/caption.csv")
    assert len(captions) == 1 + 4
    assert float(captions[0]["CIDEr"]) == results(str(tmp_path / "captions"))["columns"]["CIDEr"]
    changes = {row["column"]: float(row["difference"]) for row in rows_of(tmp_path / "out/pairs.csv")}
    assert changes["Acc P2"] < 0
    assert changes["F1"] == pytest.approx(float(table[1]["F1"]) - float(table[0]["F1"]))
    text = (tmp_path / "out/report.html").read_text()
    assert "before" in text
    assert "Reference" in text
    assert "<img src=x" not in text


def table_of(values):
    axes = [f"axis {index}" for index in range(len(values))]
    row = Row(name="run", source="", values=dict(zip(axes, values, strict=True)), intervals={"axis 0": (40.0, 60.0)})
    columns = [(axis, axis) for axis in axes]
    return Table(key="t", title="t", columns=columns, rows=[row], axes=axes, main="axis 0")


def test_a_radar_plot_needs_three_axes_and_a_run_that_has_them():
    (line,) = lines(table_of([50.0, 100.0, 50.0, 50.0]))
    assert [(point.x, point.y) for point in line.points] == [(0, 50), (1, 100), (2, 50), (3, 50)]
    assert "<title>run: axis 0 50.0, axis 1 100.0" in dict(charts(table_of([50.0, 100.0, 50.0, 50.0])))["By column"]
    assert [heading for heading, _ in charts(table_of([50.0, None, 50.0, 50.0]))] == ["axis 0"]
    assert [heading for heading, _ in charts(table_of([50.0, 60.0]))] == ["axis 0"]


def test_bars_and_heat():
    (bar,) = bars(table_of([50.0, 1.0]))
    assert (bar.value, bar.low, bar.high, bar.colour) == (50.0, 40.0, 60.0, 0)
    assert "<title>run: 50.00</title>" in dict(charts(table_of([50.0, 1.0])))["axis 0"]
    assert [heat(value) for value in (None, 0.0, 4.9, 5.1, 100.0)] == [-1, 0, 0, 1, 10]
