"""`adcopilot eval report --plan`: ablation tables with paired differences, and curves over numbers of samples."""

import csv
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from adcopilot.errors import UserError
from adcopilot.evaluation.report.plan import read_plan

from .report_runs import EVIL, Scripted, evaluate, report, rows_of

SHARES = {"none": 0.3, "stage2": 0.6, "both": 0.9}


@pytest.fixture(scope="module")
def runs(mini_mmad, tmp_path_factory):
    """Three models on MMAD, each better than the one before; two of them on MMAD-BBox."""
    folder = tmp_path_factory.mktemp("plan")
    with pytest.MonkeyPatch.context() as patch:
        for name, share in SHARES.items():
            backend = Scripted(name=f"{name}-7B", share=share)
            evaluate(patch, "mmad", mini_mmad, folder / name, backend)
            if name != "stage2":
                evaluate(patch, "mmad-bbox", mini_mmad, folder / f"boxes-{name}", backend)
    return folder


def plan(folder, *lines):
    path = folder / "plan.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def average(folder, column="average"):
    return json.loads((folder / "results.json").read_text())["average"][column]


@pytest.fixture(scope="module")
def out(runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    file = plan(runs, "run,name,samples,Comparison Encoder,Stage 2,Data", "none,Base,,no,no,", "stage2,,10_000,,YES,",
                "", "both,,40000,x,yes,Chat-AD", "boxes-none,Base,,,,", "boxes-both,,40000,x,yes,Chat-AD")  # fmt: skip
    report("--plan", file, "--output", folder / "report", "--against", "published", "--samples", 0)
    return folder / "report"


def test_ablation_table(runs, out):
    rows = rows_of(out / "ablation-mmad.csv")
    assert [row["name"] for row in rows] == [
        "Base", "Stage 2, 10,000 samples", "Comparison Encoder, Stage 2, Data Chat-AD, 40,000 samples",
    ]  # fmt: skip
    assert [row["Comparison Encoder"] for row in rows] == ["", "", "✓"]
    assert [row["Stage 2"] for row in rows] == ["", "✓", "✓"]
    assert [row["Data"] for row in rows] == ["", "", "Chat-AD"]
    assert [row["Samples"] for row in rows] == ["", "10,000", "40,000"]
    pairs = {row["second"]: row for row in rows_of(out / "pairs.csv")
             if row["column"] == "average" and row["benchmark"] == "mmad"}  # fmt: skip
    for row, name in zip(rows, SHARES, strict=True):
        assert float(row["Average"]) == pytest.approx(average(runs / name))
        if name == "none":
            assert row["Δ Average"] == row["Δ Average 2.5%"] == ""
            continue
        gain = average(runs / name) - average(runs / "none")
        assert float(row["Δ Average"]) == pytest.approx(gain)
        assert float(row["Δ F1"]) == pytest.approx(average(runs / name, "f1") - average(runs / "none", "f1"))
        ends = [float(row[f"Δ Average {end}"]) for end in ("2.5%", "97.5%")]
        assert ends == [float(pairs[row["name"]][end]) for end in ("2.5%", "97.5%")]
        assert 0 < ends[0] < gain < ends[1]
    boxes = rows_of(out / "ablation-mmad-bbox.csv")
    assert len(boxes) == 2
    assert float(boxes[1]["Δ mIoU"]) == pytest.approx(float(boxes[1]["mIoU"]) - float(boxes[0]["mIoU"]))


def test_the_papers_tables_stand_beside_and_say_so(out):
    rows = rows_of(out / "ablation-paper-vii.csv")
    assert [row["Average"] for row in rows] == ["72.19", "77.28", "76.92", "77.91", "78.74", "80.46", "82.29"]
    assert {row["from"] for row in rows} == {"AD-Copilot paper, Table VII"}
    assert {row["published"] for row in rows} == {"yes"}
    heads = ["Comparison Encoder", "Stage 0", "Stage 1", "Stage 2", "Stage 3"]
    assert list(rows[0])[3:8] == heads
    assert ["".join(row[head] or "." for head in heads) for row in rows] == [
        ".....", "...✓.", "✓..✓.", ".✓.✓.", "✓✓✓✓.", ".✓✓✓✓", "✓✓✓✓✓",
    ]  # fmt: skip
    assert [row["Δ Average"] for row in rows] == ["", "5.09", "4.73", "5.72", "6.55", "8.27", "10.1"]
    rewards = rows_of(out / "ablation-paper-vi.csv")
    assert [row["Defect Localization"] for row in rewards] == ["76.4", "71.37", "62.47", "64.89"]
    assert rewards[1]["Δ Average"] == "-2.55"
    text = (out / "report.md").read_text()
    assert "Ablation: MMAD\n" in text
    assert "ablation of rewards (Table VI)" in text
    assert re.search(r"\| stage 2 \| AD-Copilot paper, Table VII \| .*\+5\.09", text)


def titles(file):
    """What the parts of a chart say, in order."""
    return [one.text for one in ET.parse(file).getroot().iter("{http://www.w3.org/2000/svg}title")]


def test_the_curve(runs, out):
    heading, stage2, both = titles(out / "scaling-mmad.svg")  # two combinations of labels, a point each
    assert heading == "Data scaling: MMAD"
    assert stage2 == f"Stage 2: 10,000: {average(runs / 'stage2'):.2f}"
    assert both.startswith("Comparison Encoder, Stage 2, Data Chat-AD: 40,000: ")
    assert not (out / "scaling-mmad-bbox.svg").exists()  # one number of samples is no curve
    html = (out / "report.html").read_text()
    assert 'id="scaling-mmad"' in html
    assert f"10,000 samples {average(runs / 'stage2'):.2f}" in html
    assert "prints no numbers" in html


def test_runs_of_the_command_line_come_after_the_plan(runs, tmp_path):
    file = plan(runs, "run,samples", "none,100", "both,200")
    report(f"Other={runs / 'stage2'}", "--plan", file, "--output", tmp_path / "out", "--samples", 0)
    assert [row["name"] for row in rows_of(tmp_path / "out/mmad.csv")] == ["100 samples", "200 samples", "Other"]
    assert [row["name"] for row in rows_of(tmp_path / "out/ablation-mmad.csv")] == ["100 samples", "200 samples"]
    _, line = titles(tmp_path / "out/scaling-mmad.svg")
    assert re.fullmatch(r"MMAD: 100: \d+\.\d\d, 200: \d+\.\d\d", line)


def test_hostile_labels(runs, tmp_path):
    file = runs / "evil.csv"
    with open(file, "w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([["run", EVIL, "samples"], ["none", "=1+1", 1], ["both", EVIL, 2]])
    report("--plan", file, "--output", tmp_path / "out", "--samples", 0)
    for path in (tmp_path / "out").iterdir():
        text = path.read_text()
        assert "</script><img" not in text or path.suffix != ".html"
        if path.suffix == ".csv":
            assert not any(cell.startswith("=") for row in csv.reader(text.splitlines()) for cell in row)
    ET.parse(tmp_path / "out/scaling-mmad.svg")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["folder,name", "none,a"], "its first line has no column `run`, found folder, name"),
        (["run,Stage,Stage", "none,,"], "has the column 'Stage' twice"),
        (["run,samples", "none,0"], ":2: samples is '0', expected a number above 0"),
        (["run,samples", "none,", "both,many"], ":3: samples is 'many'"),
        (["run", "nowhere"], ":2: "),
        (["run,name", ",a"], ":2: has no run"),
        (["run", "none,both"], ":2: has 2 cells, its first line 1"),
        (["run"], "names no run"),
        ([",".join(["run", *map(str, range(13))]), "none"], "has 13 columns of labels"),
    ],
)
def test_mistakes(runs, tmp_path, lines, message):
    file = runs / "wrong.csv"
    file.write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError) as error:
        read_plan(file)
    assert message in str(error.value)
    assert str(file) in str(error.value)


def test_nothing_to_report(tmp_path, capsys):
    report("--output", tmp_path, code=2)
    assert "no run is given" in capsys.readouterr().err
    report("--plan", Path("none.csv"), "--output", tmp_path, code=2)
    assert "--plan none.csv: cannot be read" in capsys.readouterr().err
