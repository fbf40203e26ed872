"""What `adcopilot eval report` reads: the paper's rows, MMAD's result tables, runs, answer files."""

import json

import pytest

from adcopilot.errors import UserError
from adcopilot.evaluation.benchmarks import benchmark
from adcopilot.evaluation.benchmarks.mmad.scoring import SUB_TASKS
from adcopilot.evaluation.benchmarks.mmad.tables import setting_tables
from adcopilot.evaluation.report.sources import read_source
from adcopilot.evaluation.report.tables import main_tables
from adcopilot.evaluation.table import Row, Table

from .test_report_comparable import run

MMAD = benchmark("mmad")
HEADS = [*SUB_TASKS, "Average", "Recall", "Precision", "F1", "Overkill"]


def write_csv(path, rows, heads=HEADS):
    lines = [",".join(["", *heads]), *(",".join([name, *map(str, values)]) for name, values in rows.items())]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_papers_averages_are_those_of_its_columns():
    for row in MMAD.published("II"):
        values = [row.values[task] for task in SUB_TASKS]
        if None not in values:
            assert sum(values) / 7 == pytest.approx(row.values["average"], abs=0.03), row.name
        assert row.source == "AD-Copilot paper, Table II"
    ours = {row.name: row for row in MMAD.published("II")}["AD-Copilot† 7B"]
    assert (ours.values["average"], ours.values["Defect Localization"]) == (82.29, 76.4)
    assert {row.name for row in MMAD.published("II") if row.apart and "Human" not in row.name} == {
        "AnomalyR1†* (2025) 3B", "OmniAD†* (2025) 7B", "EMIT†* (2025) 8B"}  # fmt: skip
    assert len(MMAD.published("II")) == 21
    boxes = {row.name: row.values for row in benchmark("mmad-bbox").published("III")}["AD-Copilot-Thinking 7B"]
    assert boxes == {"mean_iou": 25.3, "0.1": 55.22, "0.2": 44.76, "0.3": 35.88, "0.5": 21.0}
    for row in benchmark("unipcb").published("IV"):
        values = [value for name, value in row.values.items() if name != "average"]
        assert sum(values) / 10 == pytest.approx(row.values["average"], abs=0.0501), row.name
    assert len(benchmark("caption").published("V")) == 4
    for number, count in (("IX", 2), ("X", 3), ("XI", 3)):
        assert len(MMAD.published(number)) == count


def test_a_table_of_mmads_summary_script(tmp_path):
    rows = {"DS-MVTec": [80] * 7 + [80, 90, 70, 60, 1], "VisA": [60] * 7 + [60, 50, 40, 30, 1]}
    rows["Average"] = [99] * 12
    found = MMAD.read_table(write_csv(tmp_path / "answers_1_shot_Model-7B_accuracy.csv", rows))
    assert found.name == "Model-7B"
    assert found.values["average"] == 70
    assert (found.values["f1"], found.values["recall"], found.values["precision"]) == (45, 70, 55)
    assert "Overkill" not in found.values


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_text("a,b\n1,2\n"), "has no column 'Anomaly Detection'"),
        (lambda path: write_csv(path, {}), "has no dataset's row"),
        (lambda path: write_csv(path, {"VisA": ["x"] + [1] * 11}), "VisA, Anomaly Detection is 'x', expected a"),
        (lambda path: write_csv(path, {"VisA": ["nan"] + [1] * 11}), "Anomaly Detection is 'nan', expected"),
        (lambda path: write_csv(path, {"VisA": [101] + [1] * 11}), "Anomaly Detection is '101', expected"),
        (lambda path: write_csv(path, {"VisA": [1] * 3}), "Defect Description is '', expected"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), "not a CSV file"),
        (lambda path: None, "cannot be read (No such file or directory)"),
    ],
)
def test_tables_that_are_none(tmp_path, change, message):
    path = tmp_path / "t_accuracy.csv"
    change(path)
    with pytest.raises(UserError) as error:
        MMAD.read_table(path)
    assert str(path) in str(error.value)
    assert message in str(error.value)


ENTRY = {"image": "VisA/pcb1/test/good/0.JPG", "question_type": "Anomaly Detection", "correct_answer": "B"}


def test_answer_files_and_names(tmp_path):
    path = tmp_path / "answers_2_shot_M=x.json"
    path.write_text(json.dumps([{**ENTRY, "gpt_answer": "B"}]))
    found = read_source(str(path))
    assert (found.name, found.benchmark, found.results["shots"]) == ("M=x", MMAD, 2)
    assert read_source(f"my=own name={path}").name == "my=own name"
    assert found.records == found.each == []
    assert found.partial == "1 of MMAD's 39,672 questions"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "manifest.json: cannot be read"),
        ({"manifest.json": {"identity": {"benchmark": "chess"}}}, "is a run of 'chess', expected one of mmad, mmad-b"),
        ({"manifest.json": {"identity": {"benchmark": []}}}, "is a run of [], expected one of mmad, mmad-bbox"),
        ({"manifest.json": {"identity": {"benchmark": "mmad"}}}, "results.json: there are no scores yet; run `adcop"),
        ({"manifest.json": {"identity": {"benchmark": "mmad"}}, "results.json": []}, "has no datasets, average, cat"),
        ({"manifest.json": {"identity": {"benchmark": "unipcb"}}, "results.json": {"columns": {}}}, "has no average"),
    ],
)
def test_runs_that_are_none(tmp_path, files, message):
    for name, value in files.items():
        (tmp_path / name).write_text(json.dumps(value))
    with pytest.raises(UserError, match=r"^[^\n]*$") as error:
        read_source(str(tmp_path))
    assert message in str(error.value)


def test_the_best_of_a_column_leaves_out_people_and_parts():
    rows = [
        Row(name="human", source="", values={"a": 99.0}, apart=True),
        Row(name="one", source="", values={"a": 70.004}),
        Row(name="two", source="", values={"a": 70.0}),
        Row(name="none", source="", values={"a": None}),
    ]
    table = Table(key="k", title="t", columns=[("a", "A")], rows=rows)
    assert table.best("a") == 70.0  # both: they are the same to two decimals
    assert table.best("b") is None
    assert Table(key="k", title="t", columns=[("a", "A")], rows=rows[:2]).best("a") is None


def mmad_run(*, model="org/M-7B", **settings):
    """Of a version that did not say whose words it asked with."""
    return run("M-7B", whose=None, thinking=False, backend={"model": model}, **settings)


def test_tables_nine_to_eleven():
    runs = [
        mmad_run(shots=0, average=60.0),
        mmad_run(shots=1, average=70.0),
        mmad_run(shots=4, average=71.0),
        mmad_run(shots=1, average=72.0, template="similar"),
        mmad_run(shots=1, average=73.0, knowledge="0123"),
        mmad_run(shots=1, average=50.0, model="other/M-7B"),
    ]
    shots, knowledge, template = setting_tables(runs, paper=True)
    rows = {row.name: row.values for row in shots.rows if row.own}
    assert rows == {
        "M-7B": {"0": 60.0, "1": 70.0, "4": 71.0},
        "M-7B, similar template": {"1": 72.0},
        "M-7B, domain knowledge": {"1": 73.0},
        "M-7B (M-7B)": {"1": 50.0},
    }
    assert [head for _, head in shots.columns] == ["0-shot", "1-shot", "2-shot", "4-shot", "8-shot"]
    assert {row.name: row.values for row in shots.rows if not row.own}["AD-Copilot-7B"]["4"] == 77.42
    assert [row.values["average"] for row in knowledge.rows if row.own] == [60, 70, 71, 72, 73, 50]
    assert "M-7B: 1-shot, similar template" in [row.name for row in template.rows]
    assert 71.0 not in [row.values["average"] for row in template.rows]  # four templates are none of its settings
    assert setting_tables(runs[1:2], paper=True) == []


def test_main_tables_hold_what_was_run():
    (table,) = main_tables([mmad_run(shots=1, average=83.0)], paper=True, others=[])
    assert (table.key, len(table.rows), table.best("average")) == ("mmad", 22, 83.0)
    assert table.rows[0].name == "M-7B"
    assert not table.rows[0].apart
    (table,) = main_tables([mmad_run(shots=1, average=83.0)], paper=False, others=[])
    assert [row.name for row in table.rows] == ["M-7B"]
